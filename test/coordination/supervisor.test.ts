import assert from 'node:assert/strict';
import { channel } from 'node:diagnostics_channel';
import { type TestContext, test } from 'node:test';
import { ownerKey, shardRecord } from '../../src/coordination/shard-map.js';
import { gate, type Process, TTL_MS, type World, world } from './world.js';

const BEAT_MS = TTL_MS / 3;
const EVENTS = ['late', 'silent', 'compared', 'evicting', 'evicted', 'reassigned', 'recovered'];

type Told = { readonly kind: string; readonly payload: Record<string, unknown> };

/** What is told of members from here on. */
function listen(t: TestContext): Told[] {
  const told: Told[] = [];
  for (const kind of EVENTS) {
    const source = channel(`millrace:member:${kind}`);
    const listener = (payload: unknown): void => {
      told.push({ kind, payload: payload as Told['payload'] });
    };
    source.subscribe(listener);
    t.after(() => source.unsubscribe(listener));
  }
  return told;
}

const kinds = (told: readonly Told[]): string[] => told.map(({ kind }) => kind);

async function names(w: World): Promise<string[]> {
  const { entries } = await w.store.range({ from: 'n/', to: 'n0' });
  return entries.map(({ key }) => key);
}

async function verdicts(w: World): Promise<Record<string, unknown>> {
  const { entries } = await w.store.range({ from: 'v/', to: 'v0' });
  return Object.fromEntries(
    entries.map(({ key, value }) => [key, JSON.parse(Buffer.from(value).toString()).stage]),
  );
}

async function setup(t: TestContext, count = 2) {
  const opens: (() => void)[] = [];
  // Before the world ends: who hangs cannot stop.
  t.after(() => {
    for (const open of opens) open();
  });
  const w = await world(t);
  const told = listen(t);
  /** Its writes hang from now on; it reads, and its lease is renewed. @returns how to end that */
  const mute = ({ faults }: Process): (() => void) => {
    const { opened, open } = gate();
    faults.gate = opened;
    const end = (): void => {
      faults.gate = undefined;
      open();
    };
    opens.push(end);
    return end;
  };
  const all: Process[] = [];
  for (let i = 0; i < count; i++) all.push(await w.join());
  await w.clock.advance(BEAT_MS);
  return { w, told, all, mute };
}

test('one of the members is the supervisor, and the next one after it', async (t) => {
  const { w, all } = await setup(t, 3);
  const elected = () => all.map(({ c }) => c.supervisor.mandate !== undefined);
  assert.deepEqual(elected(), [true, false, false]);
  await all[0]!.c.stop();
  await w.clock.advance(100);
  assert.deepEqual(elected(), [false, true, false]);
});

test('while heartbeats come nothing is said', async (t) => {
  const { w, told } = await setup(t, 3);
  await w.clock.advance(20 * TTL_MS);
  assert.deepEqual(told, []);
  assert.deepEqual(await verdicts(w), {});
});

test('a member that is silent is late after half a ttl, then silent, then evicted', async (t) => {
  const { w, told, all, mute } = await setup(t);
  const key = ownerKey({ queue: 'q', shard: 3 });
  await w.store.txn({
    compares: [],
    success: [
      { type: 'put', key, value: Buffer.from('node1'), leaseId: all[1]!.c.session.leaseId! },
    ],
  });
  mute(all[1]!);
  // A look every half beat sees the last heartbeat when it is at most so old.
  await w.clock.advance(1.4 * BEAT_MS);
  assert.deepEqual(kinds(told), []);
  await w.clock.advance(0.6 * BEAT_MS);
  assert.deepEqual(kinds(told), ['late']);
  assert.deepEqual(await verdicts(w), { 'v/node1': 'late' });
  await w.clock.advance(BEAT_MS);
  assert.deepEqual(kinds(told), ['late', 'silent', 'compared']);
  assert.deepEqual(await verdicts(w), { 'v/node1': 'silent' });
  assert.deepEqual(await names(w), ['n/node0', 'n/node1']);
  const leaseId = all[1]!.c.session.leaseId!;
  await w.clock.advance(BEAT_MS);
  assert.deepEqual(kinds(told).slice(3), ['evicting', 'evicted']);
  assert.equal(told[3]!.payload.leaseId, leaseId);
  assert.deepEqual(told[4]!.payload, { node: 'node1', leaseId, shards: 1 });
  assert.deepEqual(await names(w), ['n/node0']);
  assert.equal(await w.store.get(key), undefined);
  assert.deepEqual(await verdicts(w), {}, 'what was said of it went with it');
  // Somebody takes the shard.
  await w.store.txn({
    compares: [],
    success: [{ type: 'put', key, value: Buffer.from('node0') }],
  });
  await w.clock.advance(BEAT_MS);
  const { owners, orphaned } = told.at(-1)!.payload as { owners: unknown[]; orphaned: number };
  assert.equal(told.at(-1)!.kind, 'reassigned');
  assert.deepEqual([owners.length, orphaned], [1, 0]);
});

test('what nobody takes over is told as orphaned', async (t) => {
  const { w, told, all, mute } = await setup(t);
  await w.store.txn({
    compares: [],
    success: [
      {
        type: 'put',
        key: ownerKey({ queue: 'q', shard: 3 }),
        value: Buffer.from('node1'),
        leaseId: all[1]!.c.session.leaseId!,
      },
    ],
  });
  mute(all[1]!);
  await w.clock.advance(4 * BEAT_MS + 3 * TTL_MS);
  assert.equal(told.at(-1)!.kind, 'reassigned');
  assert.equal(told.at(-1)!.payload.orphaned, 1);
});

for (const [beats, stages] of [
  [2, ['late']],
  [3, ['late', 'silent', 'compared']],
] as const) {
  test(`a heartbeat after ${beats} makes good for everything`, async (t) => {
    const { w, told, all, mute } = await setup(t);
    const unmute = mute(all[1]!);
    await w.clock.advance(beats * BEAT_MS);
    assert.deepEqual(kinds(told), stages);
    unmute();
    await w.clock.advance(BEAT_MS);
    assert.equal(told.at(-1)!.kind, 'recovered');
    assert.deepEqual(await verdicts(w), {});
    await w.clock.advance(10 * TTL_MS);
    assert.deepEqual(kinds(told), [...stages, 'recovered']);
    assert.deepEqual(await names(w), ['n/node0', 'n/node1']);
  });
}

test('what a member said of its shards is compared with what it owns', async (t) => {
  const { w, told, all, mute } = await setup(t);
  const { c } = all[1]!;
  const load = { open: 9, ready: 1, running: 5, threads: 2, freePlaces: 1, bytes: 100 };
  c.members.report = () => ({
    load,
    shards: [
      { queue: 'q', shard: 1, epoch: 77 },
      { queue: 'q', shard: 2, epoch: 12 },
    ],
  });
  await w.clock.advance(BEAT_MS);
  const outcome = await w.store.txn({
    compares: [],
    success: [
      { type: 'put', key: ownerKey({ queue: 'q', shard: 5 }), value: Buffer.from('node1') },
      { type: 'put', key: ownerKey({ queue: 'q', shard: 6 }), value: Buffer.from('node0') },
    ],
  });
  assert.equal(outcome.kind, 'done');
  const epoch = outcome.kind === 'done' ? outcome.revision : 0;
  all[0]!.c.supervisor.countRunning = async (node, shards) => {
    assert.deepEqual([node, shards.map(({ shard }) => shard)], ['node1', [5]]);
    return { tasks: 7, isComplete: true };
  };
  mute(all[1]!);
  await w.clock.advance(3 * BEAT_MS);
  const { silentMs, ...rest } = told.find(({ kind }) => kind === 'compared')!.payload;
  assert.ok((silentMs as number) >= 2 * BEAT_MS);
  assert.deepEqual(rest, {
    node: 'node1',
    notStored: [
      { queue: 'q', shard: 1, epoch: 77 },
      { queue: 'q', shard: 2, epoch: 12 },
    ],
    notSaid: [{ queue: 'q', shard: 5, epoch }],
    runningSaid: 5,
    runningStored: 7,
    isComplete: true,
  });
});

test('nobody is evicted because the reads of the supervisor fail, however long', async (t) => {
  const { w, told, all } = await setup(t, 3);
  all[0]!.faults.readsFail = true;
  await w.clock.advance(10 * TTL_MS);
  all[0]!.faults.readsFail = false;
  await w.clock.advance(10 * TTL_MS);
  assert.deepEqual(told, []);
  assert.equal((await names(w)).length, 3);
});

test('silence that the supervisor did not watch is not counted', async (t) => {
  const { w, told, all, mute } = await setup(t, 3);
  const unmute = mute(all[1]!);
  all[0]!.faults.readsFail = true;
  await w.clock.advance(5 * BEAT_MS);
  all[0]!.faults.readsFail = false;
  await w.clock.advance(1.2 * BEAT_MS);
  assert.deepEqual(kinds(told), []);
  unmute();
  await w.clock.advance(2 * TTL_MS);
  assert.deepEqual(kinds(told), []);
});

test('where the own heartbeat does not arrive nobody is judged', async (t) => {
  const { w, told, all, mute } = await setup(t, 3);
  for (const process of all) mute(process);
  await w.clock.advance(5 * TTL_MS);
  assert.deepEqual(kinds(told), []);
  assert.equal((await names(w)).length, 3);
});

test('a heartbeat that arrives before the announcement prevents it', async (t) => {
  const { w, told, all, mute } = await setup(t);
  const unmute = mute(all[1]!);
  await w.clock.advance(3 * BEAT_MS);
  assert.deepEqual(kinds(told), ['late', 'silent', 'compared']);
  // From here on what the supervisor writes is under way for a while.
  const arrive = mute(all[0]!);
  await w.clock.advance(0.9 * BEAT_MS);
  unmute();
  await w.clock.advance(0.01 * BEAT_MS);
  arrive();
  await w.clock.advance(2 * BEAT_MS);
  assert.deepEqual(kinds(told), ['late', 'silent', 'compared', 'recovered']);
  assert.deepEqual(await names(w), ['n/node0', 'n/node1']);
});

test('a new supervisor begins to count anew', async (t) => {
  const { w, told, all, mute } = await setup(t, 3);
  mute(all[2]!);
  await w.clock.advance(3 * BEAT_MS);
  assert.deepEqual(kinds(told), ['late', 'silent', 'compared']);
  await all[0]!.c.stop();
  await w.clock.advance(2 * BEAT_MS);
  assert.deepEqual(await verdicts(w), { 'v/node2': 'silent' }, 'what was said holds');
  assert.equal((await names(w)).length, 2);
  await w.clock.advance(3 * BEAT_MS);
  assert.deepEqual(kinds(told).slice(3, 5), ['evicting', 'evicted']);
});

test('heartbeats that come as often as a longer ttl says are not late', async (t) => {
  const { w, told } = await setup(t, 1);
  await w.join('slow', shardRecord([]), 4 * TTL_MS);
  await w.clock.advance(20 * TTL_MS);
  assert.deepEqual(told, []);
});
