/**
 * An engine on virtual time whose threads are played, and what tenants wait there. What takes long can run in a thread of its own
 * (support/in-thread.ts).
 */
import { seededRandom } from '../../src/core/random.js';
import { Outcome } from '../../src/core/states.js';
import type { NewTask } from '../../src/engine/submission.js';
import { scriptedEngine, slotsOf } from '../support/scripted-engine.js';
import type { ScriptedBatch } from '../support/scripted-pool.js';

export interface Begun {
  readonly tenant: string;
  readonly priority: number;
  /** From when it was due to when its handler was called. */
  readonly waitMs: number;
}

/** An engine whose threads take `taskMs` for each task of a batch, one after the other. */
export async function setup(
  places: number,
  taskMs: number,
  weights: Readonly<Record<string, number>> = {},
) {
  const scripted = await scriptedEngine({}, places, [], {
    weights: new Map(Object.entries(weights)),
  });
  const { clock, engine, pool, newTask } = scripted;
  pool.runMs = taskMs;
  const begun: Begun[] = [];
  const running = new Map<ScriptedBatch, number>();
  const submit = (changes: Partial<NewTask>): Promise<unknown> =>
    new Promise((resolve, reject) => {
      const { tenant = '', priority = 0 } = changes;
      const payload = JSON.stringify([tenant, priority, clock.monoMs()]);
      const payloadBytes = payload.length;
      engine.submit({ ...newTask(payload), payloadBytes, ...changes }, resolve, reject);
    });
  /** Lets a ms pass: batches that are through report, and others take their places. */
  const tick = async (): Promise<void> => {
    await clock.advance(1);
    const nowMs = clock.monoMs();
    for (const [batch, endMs] of running) {
      if (endMs > nowMs) continue;
      running.delete(batch);
      batch.report(slotsOf(batch.tasks.length), Outcome.COMPLETED, '1');
      batch.end();
    }
    await clock.settle();
    for (const batch of pool.batches.splice(0)) {
      running.set(batch, nowMs + taskMs * batch.tasks.length);
      for (const [slot, { payload }] of batch.tasks.entries()) {
        const [tenant, priority, dueMs] = JSON.parse(Buffer.from(payload).toString());
        begun.push({ tenant, priority, waitMs: nowMs + taskMs * slot - dueMs });
      }
    }
  };
  return { ...scripted, begun, submit, tick };
}

const p99 = (waits: readonly number[]): number =>
  [...waits].sort((a, b) => a - b)[Math.floor(waits.length * 0.99)]!;

/** What two threads do of tasks of 10 ms. */
const TASKS_PER_MS = 0.2;

/**
 * 19 tenants that together need a part of two threads, in bursts of 20; and one, if asked for, with 19 times that. Against
 * one tenant, a burst has half of the threads, so it takes twice as long: that is the bound, and what is fair.
 *
 * @param load - that part; with the fuller threads bursts of the small ones meet, which is nobody else's doing
 */
export async function waitsOfSmall(
  load: number,
  withBig: boolean,
): Promise<{ readonly p99Ms: number; readonly share: number }> {
  const { begun, submit, tick } = await setup(2, 10);
  // Batches are cut by how long a task takes: the first one finds out.
  void submit({ tenant: 'first' });
  for (let ms = 0; ms < 20; ms++) await tick();
  begun.length = 0;
  const random = seededRandom(7);
  const perMs = load * TASKS_PER_MS;
  let small = 0;
  let big = 0;
  for (let ms = 0; ms < 20_000; ms++) {
    if (random.float() < perMs / 20) {
      const tenant = `small ${random.u32() % 19}`;
      for (let i = 0; i < 20; i++) void submit({ tenant });
      small += 20;
    }
    while (withBig && big < perMs * 19 * ms) {
      void submit({ tenant: 'big' });
      big++;
    }
    await tick();
  }
  const waits = begun.filter(({ tenant }) => tenant !== 'big').map(({ waitMs }) => waitMs);
  return { p99Ms: p99(waits), share: big / (big + small) };
}
