/** One node's steps on a budget: what it takes, lets go of and writes, by what its key and the members say. */
import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { type TestContext, test } from 'node:test';
import { joinedCompare, type Member } from '../../../src/coordination/members.js';
import { seededRandom } from '../../../src/core/random.js';
import type { Key, Revision, Txn } from '../../../src/core/store.js';
import { Budget, type Holder } from '../../../src/engine/rates/budget.js';
import { memoryStore } from '../../../src/store/index.js';
import { VirtualClock } from '../../../src/testing/virtual-clock.js';
import { FaultyStore } from '../../support/faulty-store.js';

const KEY: Key = 'l/task/work';

async function setup(t: TestContext, { want = 1 } = {}) {
  const clock = new VirtualClock();
  const store = new FaultyStore(await memoryStore().open({ clock }));
  const ending = new AbortController();
  t.after(() => ending.abort());
  const put = async (key: Key, value: string): Promise<Revision> => {
    const bytes = Buffer.from(value);
    const outcome = await store.txn({
      compares: [],
      success: [{ type: 'put', key, value: bytes }],
    });
    return outcome.kind === 'done' ? outcome.revision : assert.fail(outcome.kind);
  };
  /** A member record; @returns when it joined. */
  const join = (node: string): Promise<Revision> => put(`n/${node}`, '{}');
  const joinedAt = await join('us');
  const members: { node: string; self: Member | undefined; compare: Txn['compares'][number] } = {
    node: 'us',
    self: { node: 'us', joinedAt } as Member,
    compare: joinedCompare('us', joinedAt),
  };
  const told: [share: number, isFirst: boolean][] = [];
  const budget = new Budget(KEY, want, {
    clock,
    random: seededRandom(1),
    store,
    members,
    signal: ending.signal,
    onShare: (share, isFirst) => told.push([share, isFirst]),
  });
  /** Puts the key as somebody else would, and tells the budget of it. */
  const hear = async (holders: readonly Holder[] | string): Promise<void> => {
    const value =
      typeof holders === 'string' ? holders : JSON.stringify({ format: 1, holders: holders });
    await put(KEY, value);
    budget.hear(await store.get(KEY));
    await clock.advance(0);
  };
  const thereAre = async (...there: readonly [node: string, joinedAt: Revision][]) => {
    budget.setMembers(there.map(([node, at]) => ({ node, joinedAt: at }) as Member));
    await clock.advance(0);
  };
  const stored = async (): Promise<Holder[]> => {
    const entry = await store.get(KEY);
    return entry === undefined ? [] : JSON.parse(Buffer.from(entry.value).toString()).holders;
  };
  /** Who has what, by the key. */
  const shares = async () =>
    Object.fromEntries((await stored()).map(({ node, share }) => [node, share]));
  /** Transactions of the budget from here on. */
  const writes = () => store.sent.filter(({ compares }) => compares.length > 0).length;
  const us = (share: number, wanted = want): Holder => {
    return { node: 'us', joinedAt, share, want: wanted };
  };
  return {
    clock,
    store,
    members,
    budget,
    told,
    joinedAt,
    us,
    join,
    hear,
    thereAre,
    stored,
    shares,
    writes,
  };
}

test('nothing is written before it is known who is there, what the key says and who we are', async (t) => {
  const { clock, budget, members, joinedAt, hear, thereAre, writes, shares } = await setup(t);
  await hear([]);
  assert.equal(writes(), 0);
  const { self } = members;
  members.self = undefined;
  await thereAre(['us', joinedAt]);
  assert.equal(writes(), 0);
  members.self = self;
  budget.step();
  await clock.advance(0);
  assert.deepEqual(await shares(), { us: 1 });

  const other = await setup(t);
  await other.thereAre(['us', other.joinedAt]);
  assert.equal(other.writes(), 0);
});

test('who is alone has all of it, and is the first', async (t) => {
  const { budget, told, joinedAt, hear, thereAre, stored, us } = await setup(t);
  await thereAre(['us', joinedAt]);
  await hear([]);
  assert.deepEqual(await stored(), [us(1)]);
  assert.deepEqual([budget.share, told], [1, [[1, true]]]);
});

test('it takes what the others have left, however little that is, and is not the first', async (t) => {
  const { budget, told, joinedAt, join, hear, thereAre, shares } = await setup(t);
  const a = await join('a');
  await thereAre(['us', joinedAt], ['a', a]);
  await hear([{ node: 'a', joinedAt: a, share: 0.75, want: 1 }]);
  assert.deepEqual(await shares(), { a: 0.75, us: 0.25 });
  assert.deepEqual(told, [[0.25, false]]);
  await hear([
    { node: 'a', joinedAt: a, share: 1, want: 1 },
    { node: 'us', joinedAt, share: 0, want: 1 },
  ]);
  assert.equal(budget.share, 0);
});

test('what others should not have, more than the whole, leaves nothing and no less', async (t) => {
  const { joinedAt, join, hear, thereAre, shares } = await setup(t);
  const [a, b] = [await join('a'), await join('b')];
  await thereAre(['us', joinedAt], ['a', a], ['b', b]);
  await hear([
    { node: 'a', joinedAt: a, share: 0.75, want: 1 },
    { node: 'b', joinedAt: b, share: 0.75, want: 1 },
  ]);
  assert.deepEqual(await shares(), { a: 0.75, b: 0.75, us: 0 });
});

test('what it lets go of is gone before it is written, and stays so while that is open', async (t) => {
  const { clock, store, budget, told, joinedAt, us, join, hear, thereAre, shares } = await setup(t);
  await thereAre(['us', joinedAt]);
  await hear([us(1)]);
  const a = await join('a');
  const newcomer = { node: 'a', joinedAt: a, share: 0, want: 1 };
  store.fates.push('ok', 'request lost');
  await thereAre(['us', joinedAt], ['a', a]);
  await hear([us(1), newcomer]);
  // The key says that all is ours, and we act by half already.
  assert.deepEqual([budget.share, await shares()], [0.5, { us: 1, a: 0 }]);
  await clock.advance(60_000);
  assert.deepEqual([budget.share, await shares()], [0.5, { a: 0, us: 0.5 }]);
  assert.deepEqual(told, [
    [1, true],
    [0.5, false],
  ]);
});

/** A budget that had all of it and has let go of a half for `a`, which could not be written. */
async function halved(t: TestContext) {
  const bed = await setup(t);
  const { store, budget, joinedAt, us, join, hear, thereAre } = bed;
  await thereAre(['us', joinedAt]);
  await hear([us(1)]);
  const a = await join('a');
  store.fates.push('ok', 'request lost');
  await thereAre(['us', joinedAt], ['a', a]);
  await hear([us(1), { node: 'a', joinedAt: a, share: 0, want: 1 }]);
  assert.equal(budget.share, 0.5);
  return { ...bed, a };
}

test('what it let go of comes back when the key has moved on without that, and else once it is written', async (t) => {
  const moved = await halved(t);
  await moved.hear([moved.us(1), { node: 'a', joinedAt: moved.a, share: 0, want: 0 }]);
  assert.equal(moved.budget.share, 1);

  const { clock, store, budget, joinedAt, thereAre, shares } = await halved(t);
  await store.txn({ compares: [], success: [{ type: 'delete', key: 'n/a' }] });
  await thereAre(['us', joinedAt]);
  await clock.advance(60_000);
  assert.deepEqual([budget.share, await shares()], [0.5, { us: 0.5 }]);
  budget.step();
  await clock.advance(0);
  assert.deepEqual([budget.share, await shares()], [1, { us: 1 }]);
});

test('who joined anew under our name or another has nothing of what it had before', async (t) => {
  const { told, joinedAt, us, join, hear, thereAre, shares } = await setup(t);
  const a = await join('a');
  await thereAre(['us', joinedAt], ['a', a]);
  const before = (holder: Holder): Holder => ({ ...holder, joinedAt: holder.joinedAt - 1 });
  await hear([before(us(0.5)), before({ node: 'a', joinedAt: a, share: 0.5, want: 1 })]);
  assert.deepEqual(told, [[1, true]]);
  assert.deepEqual(await shares(), { us: 1 });
});

test('what somebody else has written meanwhile is read, and not written over', async (t) => {
  const { clock, store, budget, told, joinedAt, join, thereAre, shares } = await setup(t);
  const a = await join('a');
  await thereAre(['us', joinedAt], ['a', a]);
  const holders = [{ node: 'a', joinedAt: a, share: 0.75, want: 1 }];
  const value = Buffer.from(JSON.stringify({ format: 1, holders }));
  await store.txn({ compares: [], success: [{ type: 'put', key: KEY, value }] });
  // Its watch has not told yet that there is a key.
  budget.hear(undefined);
  await clock.advance(10_000);
  assert.deepEqual(await shares(), { a: 0.75, us: 0.25 });
  assert.deepEqual(told, [[0.25, false]]);
});

test('the share of one that seems to be gone is left alone as long as its member record is there', async (t) => {
  const { clock, store, budget, joinedAt, us, join, hear, thereAre, shares } = await setup(t);
  const a = await join('a');
  await thereAre(['us', joinedAt]);
  await hear([us(0.5), { node: 'a', joinedAt: a, share: 0.5, want: 1 }]);
  await clock.advance(10_000);
  assert.deepEqual([budget.share, await shares()], [0.5, { us: 0.5, a: 0.5 }]);
  await store.txn({ compares: [], success: [{ type: 'delete', key: 'n/a' }] });
  await clock.advance(10_000);
  assert.deepEqual([budget.share, await shares()], [1, { us: 1 }]);
});

test('the dead are taken out also where that changes nothing for us', async (t) => {
  const { joinedAt, us, hear, thereAre, shares } = await setup(t);
  await thereAre(['us', joinedAt]);
  await hear([us(1), { node: 'gone', joinedAt: 1, share: 0, want: 0 }]);
  assert.deepEqual(await shares(), { us: 1 });
});

test('who is fenced takes nothing more', async (t) => {
  const { clock, store, budget, joinedAt, hear, thereAre, shares } = await setup(t);
  await store.txn({ compares: [], success: [{ type: 'delete', key: 'n/us' }] });
  await thereAre(['us', joinedAt]);
  await hear([]);
  await clock.advance(10_000);
  assert.deepEqual([budget.share, await shares()], [0, {}]);
});

test('with its lease its share is lost, and what was under way with it', async (t) => {
  const { clock, budget, told } = await halved(t);
  budget.loseShare();
  budget.loseShare();
  assert.deepEqual(told, [
    [1, true],
    [0.5, false],
    [0, false],
  ]);
  await clock.advance(60_000);
  assert.equal(budget.share, 0.5);
});

test('differences that are not worth a transaction are left as they are, and larger ones are not', async (t) => {
  const { budget, joinedAt, us, join, hear, thereAre, writes, shares } = await setup(t);
  const a = await join('a');
  await thereAre(['us', joinedAt], ['a', a]);
  await hear([us(0.49), { node: 'a', joinedAt: a, share: 0.5, want: 1 }]);
  assert.deepEqual([budget.share, writes()], [0.49, 0]);
  await hear([us(0.51), { node: 'a', joinedAt: a, share: 0.25, want: 1 }]);
  assert.deepEqual([budget.share, writes()], [0.51, 0]);
  await hear([us(0.47), { node: 'a', joinedAt: a, share: 0.5, want: 1 }]);
  assert.deepEqual([writes(), await shares()], [1, { a: 0.5, us: 0.5 }]);
});

test('how much is wanted is written when it changes by a sixteenth, or to nothing', async (t) => {
  const { clock, budget, joinedAt, us, hear, thereAre, writes, stored } = await setup(t);
  await thereAre(['us', joinedAt]);
  await hear([us(1)]);
  const wantOf = async (part: number): Promise<number> => {
    budget.want(part);
    await clock.advance(0);
    return (await stored())[0]!.want;
  };
  assert.deepEqual([await wantOf(0.95), writes()], [1, 0]);
  assert.deepEqual([await wantOf(1 - 1 / 16), writes()], [1 - 1 / 16, 1]);
  assert.deepEqual([await wantOf(1 / 32), writes()], [1 / 32, 2]);
  assert.deepEqual([await wantOf(0), writes()], [0, 3]);
  assert.deepEqual([await wantOf(0), writes()], [0, 3]);
  assert.deepEqual([await wantOf(1 / 32), writes()], [0, 3]);
});

test('what is told late changes nothing, and a key that is gone is begun anew', async (t) => {
  const { clock, store, budget, joinedAt, us, join, hear, thereAre, shares } = await setup(t);
  const a = await join('a');
  await thereAre(['us', joinedAt], ['a', a]);
  const other = { node: 'a', joinedAt: a, share: 0.5, want: 1 };
  await hear([us(0.25), { ...other, share: 0.75 }]);
  const old = await store.get(KEY);
  await hear([us(0.5), other]);
  budget.hear(old);
  assert.equal(budget.share, 0.5);
  await store.txn({ compares: [], success: [{ type: 'delete', key: KEY }] });
  budget.hear(undefined);
  assert.equal(budget.share, 0);
  await clock.advance(0);
  assert.deepEqual(await shares(), { us: 1 });
});

for (const [what, value] of [
  ['is not JSON', 'x'],
  ['is of another version', JSON.stringify({ format: 2, holders: [] })],
  ['has no holders', JSON.stringify({ format: 1 })],
  ['has a holder without a name', holderWith({ node: 7 })],
  ['has a holder that never joined', holderWith({ joinedAt: 'x' })],
  ['has a share above the whole', holderWith({ share: 1.01 })],
  ['has a share below nothing', holderWith({ share: -0.01 })],
  ['has a share that is no number', holderWith({ share: '1' })],
  ['has a want above the whole', holderWith({ want: 1.01 })],
  ['has nothing for a holder', JSON.stringify({ format: 1, holders: [null] })],
] as const) {
  test(`of a key that ${what} nothing is taken, loudly`, async (t) => {
    const { budget, joinedAt, hear, thereAre, writes } = await setup(t);
    const seen: unknown[] = [];
    const note = (message: unknown): void => {
      seen.push((message as { key: Key }).key);
    };
    subscribe('millrace:store:corrupt', note);
    t.after(() => unsubscribe('millrace:store:corrupt', note));
    await thereAre(['us', joinedAt]);
    await hear(value);
    assert.deepEqual([budget.share, writes(), seen], [0, 0, [KEY]]);
  });
}

function holderWith(changes: Readonly<Record<string, unknown>>): string {
  const holder = { node: 'a', joinedAt: 1, share: 0.5, want: 0.5, ...changes };
  return JSON.stringify({ format: 1, holders: [holder] });
}
