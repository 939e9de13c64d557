/**
 * A long time with many cron entries and nodes that take over from one another, on virtual time: which fires came to be.
 *
 * Nodes are `Cron`s over one store; what they submit is put as an engine would put it, inside the gate's transaction.
 * Shards change hands at moments that are often those of fires: for a while nobody has them, or two nodes both believe
 * that they do. Who takes over has been there before, or is a process that has just started.
 */
import assert from 'node:assert/strict';
import { sleep } from '../../src/core/clock.js';
import { newIncarnation, segmentRef } from '../../src/core/ids.js';
import { seededRandom } from '../../src/core/random.js';
import type { Operation, Store } from '../../src/core/store.js';
import type { ClosedFrame } from '../../src/engine/closed-frame.js';
import { Cron } from '../../src/engine/cron/cron.js';
import { type CronDefinition, decodeEntry } from '../../src/engine/cron/entry.js';
import type { Accepted, NewTask } from '../../src/engine/submission.js';
import { memoryStore } from '../../src/store/index.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';
import { cronDefinition } from './cron-definition.js';
import { LocalMinutes } from './local-minutes.js';

const SHARDS = 8;
const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;

interface YearPlan {
  readonly startMs: number;
  readonly days: number;
  readonly entries: readonly { readonly expression: string; readonly timeZone: string }[];
  readonly takeoversPerDay: number;
  /** Of the takeovers, those by a process that has just started; it reads all entries first. @defaultValue 1 */
  readonly freshShare?: number;
  readonly seed: number;
}

interface Node {
  readonly cron: Cron;
  /** Shards that it believes to be its own. */
  readonly shards: Set<number>;
}

/** @returns the fires of each entry, in order; epoch ms */
async function runYear(plan: YearPlan): Promise<number[][]> {
  const clock = new VirtualClock(plan.startMs);
  const random = seededRandom(plan.seed);
  const factory = memoryStore();
  const server = await factory.open({ clock });
  const fires: number[][] = plan.entries.map(() => []);
  const join = async (): Promise<Node> => {
    const store = await factory.open({ clock });
    const shards = new Set<number>();
    let counter = 0;
    const incarnation = newIncarnation(() => random.u32());
    const cron = new Cron({
      clock,
      random: random.fork('cron'),
      store,
      shardCount: SHARDS,
      holder: { startsIn: ({ shard }) => shards.has(shard) },
      tasks: {
        submit: async (task) => {
          const ref = segmentRef(
            { queue: task.queue, shard: 0, dueAtMs: task.dueAtMs },
            incarnation,
            counter++,
          );
          return put(store, task, ref);
        },
        isOpen: async () => false,
        untilEnded: async () => {},
        cancel: async () => {},
      },
    });
    await cron.start();
    return { cron, shards };
  };
  const put = async (store: Store, task: NewTask, ref: ClosedFrame['ref']): Promise<Accepted> => {
    const frame = {
      ref,
      // Nobody runs these tasks: of a million of them the store keeps each entry's last.
      operation: { type: 'put', key: `t/${task.payload}`, value: Buffer.from(ref) },
    } as const;
    // As long as a commit waits for the one before: others, who took the same step, are not told yet.
    await sleep(clock, random.float() * 50);
    const operation = task.gate!.operation(frame as unknown as ClosedFrame);
    const outcome = await store.txn({ compares: [], success: [operation] });
    assert.equal(outcome.kind, 'done');
    const result = outcome.kind === 'done' ? outcome.results[0] : undefined;
    await task.gate!.outcome(store, frame as unknown as ClosedFrame, result);
    fires[Number(task.payload)]!.push(fireOf(operation));
    return { segment: ref, index: 0, task: 0 as Accepted['task'], isCreated: true };
  };

  let owner = await join();
  for (let shard = 0; shard < SHARDS; shard++) owner.shards.add(shard);
  for (const [i, { expression, timeZone }] of plan.entries.entries()) {
    await within(clock, owner.cron.define(definitionOf(i, expression, timeZone)));
  }
  const endMs = plan.startMs + plan.days * DAY_MS;
  const spanMs = DAY_MS / plan.takeoversPerDay;
  const { freshShare = 1 } = plan;
  let standby = freshShare < 1 ? await join() : undefined;
  while (clock.wallMs() < endMs) {
    // On a full minute as often as not.
    const target = clock.wallMs() + spanMs * (0.5 + random.float());
    const onMinute = Math.ceil(target / MINUTE_MS) * MINUTE_MS;
    const atMs = random.float() < 0.5 ? target : onMinute;
    await clock.advance(Math.max(1, Math.round(Math.min(atMs, endMs) - clock.wallMs())));
    owner = await takeOver(owner);
  }
  await within(clock, owner.cron.stop());
  if (standby !== undefined) await within(clock, standby.cron.stop());
  await server.close();
  return fires.map((times) => times.sort((a, b) => a - b));

  async function takeOver(before: Node): Promise<Node> {
    const isFresh = standby === undefined || random.float() < freshShare;
    const next = isFresh ? await within(clock, join()) : standby!;
    const isZombie = random.float() < 0.5;
    const shards = [...before.shards];
    if (!isZombie) before.shards.clear();
    if (random.float() < 0.5) await clock.advance(Math.round(random.float() * 20_000));
    for (const shard of shards) next.shards.add(shard);
    next.cron.onShardsChanged();
    if (isZombie) await clock.advance(Math.round(random.float() * 90_000));
    before.shards.clear();
    if (isFresh) await within(clock, before.cron.stop());
    else standby = before;
    return next;
  }
}

function definitionOf(i: number, expression: string, timeZone: string): CronDefinition {
  const name = `entry ${i}`;
  return cronDefinition({ name, expression, timeZone, catchUp: 'all', payload: String(i) });
}

/** The fire that a gate's transaction stands for: what it moves the entry's cursor past. */
function fireOf(operation: Operation): number {
  assert.ok(operation.type === 'txn');
  const [entry] = operation.txn.success;
  assert.ok(entry?.type === 'put');
  return decodeEntry(entry.key, entry.value as Uint8Array).last!.atMs;
}

async function within<T>(clock: VirtualClock, work: Promise<T>): Promise<T> {
  let isSettled = false;
  const settle = (): void => {
    isSettled = true;
  };
  work.then(settle, settle);
  for (let i = 0; !isSettled && i < 100; i++) await clock.advance(10);
  return work;
}

/** Entries of many shapes, drawn from a seed: hourly to yearly, around the hours in which clocks are moved. */
export function drawEntries(
  count: number,
  zones: readonly string[],
  seed: number,
  { hourly = 0.02 }: { readonly hourly?: number } = {},
): { expression: string; timeZone: string }[] {
  const random = seededRandom(seed);
  const below = (n: number): number => Math.floor(random.float() * n);
  return Array.from({ length: count }, () => {
    const timeZone = zones[below(zones.length)]!;
    const minute = below(60);
    const hour = random.float() < 0.5 ? below(5) : below(24);
    const kind = random.float();
    if (kind < hourly) return { timeZone, expression: `${minute} * * * *` };
    if (kind < 0.15) return { timeZone, expression: `${minute} ${hour} * * *` };
    if (kind < 0.7) return { timeZone, expression: `${minute} ${hour} * * ${below(7)}` };
    if (kind < 0.95) return { timeZone, expression: `${minute} ${hour} ${1 + below(28)} * *` };
    return { timeZone, expression: `${minute} ${hour} ${1 + below(28)} ${1 + below(12)} *` };
  });
}

/** Runs a plan and compares every fire of every entry with the calendar. */
export async function checkYear(plan: YearPlan): Promise<{ readonly fires: number }> {
  const endMs = plan.startMs + plan.days * DAY_MS;
  const calendars = new Map<string, LocalMinutes>();
  for (const { timeZone } of plan.entries) {
    if (calendars.has(timeZone)) continue;
    calendars.set(timeZone, new LocalMinutes(timeZone, plan.startMs, endMs));
  }
  const seen = await runYear(plan);
  let fires = 0;
  for (const [i, { expression, timeZone }] of plan.entries.entries()) {
    const wanted = calendars.get(timeZone)!.fires(expression);
    const found = seen[i]!.filter((at) => at <= endMs);
    fires += found.length;
    assert.deepEqual(
      found.map((at) => new Date(at).toISOString()),
      wanted.map((at) => new Date(at).toISOString()),
      `entry ${i}: ${expression} in ${timeZone}`,
    );
  }
  return { fires };
}
