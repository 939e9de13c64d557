/**
 * The workloads of the store bench: each runs in lanes, a lane being one operation after another, and looks afterwards
 * whether the store has what was written. A figure of a store that lost something would be worth nothing.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { ManyClients, StoreClient } from './client.js';

export interface WorkSettings {
  /** How long a rate is measured, after a quarter of it for warming up. */
  readonly measureMs: number;
  readonly valueBytes: number;
  readonly tasksPerValue: number;
  readonly keysPerTxn: number;
  readonly mixedOperations: number;
  readonly replayEvents: number;
  readonly leases: number;
}

const LANES_PACKED = 16;
const LANES_PUT = 100;
const LANES_MIXED = 100;
const LOCKERS = 50;
const LOCK_SHARDS = 64;
const KEYS_PER_REPLAY_TXN = 100;

interface Rate {
  readonly perSecond: number;
  /** Of all lanes, the warm-up included. */
  readonly total: number;
  readonly latenciesMs: readonly number[];
}

/** Runs lanes until the time is over; counts what ended within the measured part. */
async function inLanes(
  lanes: number,
  measureMs: number,
  operation: (lane: number, index: number) => Promise<void>,
): Promise<Rate> {
  const startAt = performance.now() + measureMs / 4;
  const endAt = startAt + measureMs;
  const latenciesMs: number[] = [];
  let total = 0;
  await Promise.all(
    Array.from({ length: lanes }, async (_, lane) => {
      for (let index = 0; ; index++) {
        const sentAt = performance.now();
        if (sentAt >= endAt) return;
        await operation(lane, index);
        total++;
        const doneAt = performance.now();
        if (doneAt >= startAt && doneAt < endAt) latenciesMs.push(doneAt - sentAt);
      }
    }),
  );
  return { perSecond: (latenciesMs.length / measureMs) * 1000, total, latenciesMs };
}

/** Compare-and-set of values that hold many tasks. @returns tasks per second */
export async function packed(client: StoreClient, settings: WorkSettings): Promise<number> {
  const value = new Uint8Array(settings.valueBytes * settings.tasksPerValue).fill(120);
  const { perSecond } = await swaps(client, settings, 'packed', 1, value);
  return perSecond * settings.tasksPerValue;
}

/** Compare-and-set of many keys at once. @returns keys per second */
export async function txns(client: StoreClient, settings: WorkSettings): Promise<number> {
  const value = new Uint8Array(settings.valueBytes).fill(120);
  const { perSecond } = await swaps(client, settings, 'txn', settings.keysPerTxn, value);
  return perSecond * settings.keysPerTxn;
}

async function swaps(
  client: StoreClient,
  { measureMs }: WorkSettings,
  prefix: string,
  keyCount: number,
  value: Uint8Array,
): Promise<Rate> {
  const keys = Array.from({ length: LANES_PACKED }, (_, lane) =>
    Array.from({ length: keyCount }, (_, key) => `${prefix}/${lane}/${key}`),
  );
  const versions = keys.map(() => 0);
  const rate = await inLanes(LANES_PACKED, measureMs, async (lane, index) => {
    const done = await client.swap(keys[lane] as string[], index, value);
    if (!done) throw new Error(`${prefix}: a compare failed that nobody can have spoiled`);
    versions[lane] = index + 1;
  });
  for (const [lane, names] of keys.entries()) {
    for (const key of [names[0], names.at(-1)] as string[]) {
      expectEqual(`version of ${key}`, await client.version(key), versions[lane]);
    }
  }
  return rate;
}

/** @returns puts per second */
export async function puts(client: StoreClient, settings: WorkSettings): Promise<number> {
  const value = new Uint8Array(settings.valueBytes).fill(120);
  const written = new Array<number>(LANES_PUT).fill(0);
  const { perSecond } = await inLanes(LANES_PUT, settings.measureMs, async (lane, index) => {
    await client.put(`put/${lane}`, value);
    written[lane] = index + 1;
  });
  for (const [lane, count] of written.entries()) {
    expectEqual(`version of put/${lane}`, await client.version(`put/${lane}`), count);
  }
  return perSecond;
}

/** The same with a client for each put: what a service does that connects in its request handler. */
export async function putsWithClientEach(
  { open, closeOne }: ManyClients,
  settings: WorkSettings,
): Promise<number> {
  const value = new Uint8Array(settings.valueBytes).fill(120);
  const { perSecond, total } = await inLanes(LANES_PACKED, settings.measureMs, async (lane) => {
    const client = await open();
    await client.put(`each/${lane}`, value);
    await closeOne(client);
  });
  const client = await open();
  let versions = 0;
  for (let lane = 0; lane < LANES_PACKED; lane++) versions += await client.version(`each/${lane}`);
  await closeOne(client);
  expectEqual('puts', versions, total);
  return perSecond;
}

/** Everybody writes and reads in turn. @returns mean latencies */
export async function mixed(
  client: StoreClient,
  { mixedOperations, valueBytes }: WorkSettings,
): Promise<{ readonly writeMs: number; readonly readMs: number }> {
  const value = new Uint8Array(valueBytes).fill(120);
  let writeMs = 0;
  let readMs = 0;
  await Promise.all(
    Array.from({ length: LANES_MIXED }, async (_, lane) => {
      for (let index = 1; index <= mixedOperations; index++) {
        const key = `mixed/${lane}`;
        const startAt = performance.now();
        await client.put(key, value);
        const writtenAt = performance.now();
        const version = await client.version(key);
        readMs += performance.now() - writtenAt;
        writeMs += writtenAt - startAt;
        expectEqual(`version of ${key}`, version, index);
      }
    }),
  );
  const operations = LANES_MIXED * mixedOperations;
  return { writeMs: writeMs / operations, readMs: readMs / operations };
}

/** Locks and unlocks as fast as it goes. @returns how often per second, and how long one waited */
export async function locks(
  client: StoreClient,
  kind: 'alone' | 'one' | 'many',
  { measureMs }: WorkSettings,
): Promise<{ readonly perSecond: number; readonly p99Ms: number | null }> {
  const holders = new Map<string, number>();
  const { perSecond, latenciesMs } = await inLanes(
    kind === 'alone' ? 1 : LOCKERS,
    measureMs,
    async (lane, index) => {
      const shard = kind === 'many' ? (lane * 31 + index * 17) % LOCK_SHARDS : 0;
      const name = `lock-${kind}-${shard}`;
      await client.withLock(name, async () => {
        expectEqual(`holders of ${name}`, holders.get(name) ?? 0, 0);
        holders.set(name, 1);
        await Promise.resolve();
        holders.set(name, 0);
      });
    },
  );
  const sorted = [...latenciesMs].sort((a, b) => a - b);
  return { perSecond, p99Ms: sorted[Math.floor(sorted.length * 0.99)] ?? null };
}

/** Renews many leases, each as soon as its last renewal is answered. */
export async function keepalives(client: StoreClient, settings: WorkSettings): Promise<number> {
  const renew = await Promise.all(
    Array.from({ length: settings.leases }, () => client.grantLease(60_000)),
  );
  const { perSecond } = await inLanes(settings.leases, settings.measureMs, (lane) =>
    (renew[lane] as () => Promise<void>)(),
  );
  return perSecond;
}

/** Writes a history, then reads it as a watch from its beginning. @returns events per second */
export async function replay(
  client: StoreClient,
  { replayEvents, valueBytes }: WorkSettings,
): Promise<number> {
  const value = new Uint8Array(valueBytes).fill(120);
  let first: number | undefined;
  for (let written = 0; written < replayEvents; written += KEYS_PER_REPLAY_TXN) {
    const keys = Array.from({ length: KEYS_PER_REPLAY_TXN }, (_, key) => `replay/${key}`);
    const revision = await client.putAll(keys, value);
    first ??= revision;
  }
  const startAt = performance.now();
  const seen = await Promise.race([
    client.replay('replay/', first ?? 1, replayEvents),
    sleep(30_000, undefined, { ref: false }).then(() => -1),
  ]);
  if (seen < 0) throw new Error('the events did not arrive within 30 s');
  expectEqual('events', seen, replayEvents);
  return (replayEvents / (performance.now() - startAt)) * 1000;
}

function expectEqual(what: string, actual: number | undefined, expected: number | undefined): void {
  if (actual !== expected) throw new Error(`${what}: ${actual}, not ${expected}`);
}
