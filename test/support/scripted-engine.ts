/**
 * An engine on virtual time over a memory store and a scripted pool: the test plays the threads.
 */
import assert from 'node:assert/strict';
import { MillraceError } from '../../src/core/errors.js';
import { newIncarnation } from '../../src/core/ids.js';
import { seededRandom } from '../../src/core/random.js';
import { type ContractOptions, defineTask } from '../../src/core/task.js';
import { Engine } from '../../src/engine/engine.js';
import type { EngineOptions } from '../../src/engine/engine-options.js';
import type { Accepted, NewTask } from '../../src/engine/submission.js';
import { memoryStore } from '../../src/store/index.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';
import { FaultyStore } from './faulty-store.js';
import { within } from './runtime.js';
import { ScriptedPool } from './scripted-pool.js';

export interface ScriptedEngine {
  readonly engine: Engine;
  readonly pool: ScriptedPool;
  /** Where types with `exec: 'inline'` run, if there are any. */
  readonly inline: ScriptedPool;
  readonly store: FaultyStore;
}

export interface ScriptedSetup extends ScriptedEngine {
  readonly clock: VirtualClock;
  /** Starts another engine over the same store: what comes after a crash. */
  open(places?: number): Promise<ScriptedEngine>;
  newTask(payload: string, type?: string): NewTask;
  submitOne(task: NewTask): Promise<Accepted>;
  /** Submits so many of type `work`. */
  submit(count: number): Promise<Accepted[]>;
}

/**
 * @param contract - of the task type `work`
 * @param places - of the pool
 * @param others - more task types
 * @param options - of the engine, where they are to be others; `operationsMax` of a transaction. @defaultValue the store's own
 */
export async function scriptedEngine(
  contract: Partial<ContractOptions> = {},
  places = 2,
  others: readonly ContractOptions[] = [],
  { operationsMax, ...options }: Partial<EngineOptions> & { readonly operationsMax?: number } = {},
): Promise<ScriptedSetup> {
  const clock = new VirtualClock();
  const factory = memoryStore();
  const specs = [{ name: 'work', ...contract }, ...others].map(
    (defined) => defineTask({ ...defined, run: () => {} }).spec,
  );
  let starts = 0;
  const open = async (poolPlaces = places): Promise<ScriptedEngine> => {
    const random = seededRandom(++starts);
    const pool = new ScriptedPool(poolPlaces);
    const inline = new ScriptedPool(poolPlaces);
    const hasInline = specs.some(({ exec }) => exec === 'inline');
    const store = new FaultyStore(await factory.open({ clock }));
    store.operationsMax = operationsMax;
    const engine = new Engine({
      clock,
      random,
      incarnation: newIncarnation(() => random.u32()),
      store,
      pools: { thread: pool, ...(hasInline && { inline }) },
      specs,
      node: 'local',
      retention: {
        completedMs: 3_600_000,
        completedBytesMax: 1e9,
        failedMs: 3_600_000,
        failedBytesMax: 1e9,
        idempotencyMs: 3_600_000,
      },
      ...options,
    });
    await engine.start();
    return { engine, pool, inline, store };
  };
  const newTask = (payload: string, type = 'work'): NewTask => ({
    type,
    queue: 'default',
    tenant: '',
    priority: 0,
    dueAtMs: clock.wallMs(),
    dueMonoMs: clock.monoMs(),
    submittedAtMs: clock.wallMs(),
    expiresAtMs: 0,
    attempt: 0,
    losses: 0,
    version: 0,
    payload,
    payloadBytes: payload.length,
    metadata: undefined,
    idempotencyKey: undefined,
  });
  const first = await open();
  const submitOne = (task: NewTask): Promise<Accepted> =>
    new Promise((resolve, reject) => first.engine.submit(task, resolve, reject));
  const submit = (count: number): Promise<Accepted[]> =>
    within(
      clock,
      1_000,
      Promise.all(Array.from({ length: count }, (_, i) => submitOne(newTask(`${i}`)))),
    );
  return { clock, open, newTask, submit, submitOne, ...first };
}

/** The error of a thread that died. */
export const lost = (details = {}): MillraceError =>
  new MillraceError('ERR_MILLRACE_TASK_LOST', 'the thread died', { details });

export const slotsOf = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

/** What a submission came to. */
export function created(accepted: Accepted | undefined): Accepted {
  assert.ok(accepted?.isCreated);
  return accepted;
}
