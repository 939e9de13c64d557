/**
 * The lane alone: a source that writes a line per shard, and a store that loses answers.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MillraceError } from '../../src/core/errors.js';
import type { Incarnation } from '../../src/core/ids.js';
import {
  type Operation,
  prefixRange,
  type Revision,
  type Store,
  type TxnOutcome,
} from '../../src/core/store.js';
import {
  type Commit,
  type CommitBudget,
  CommitLane,
  type CommitSource,
  type Guard,
} from '../../src/engine/commit-lane.js';
import { contentHash } from '../../src/engine/content-hash.js';
import { memoryStore } from '../../src/store/index.js';
import { VirtualClock } from '../../src/testing/index.js';
import { FaultyStore } from '../support/faulty-store.js';

const INCARNATION = 'aaaaaaaa' as Incarnation;
const put = (key: string, value = 'x'): Operation => ({
  type: 'put',
  key,
  value: Buffer.from(value),
});

function requireDone(outcome: TxnOutcome): Revision {
  assert.equal(outcome.kind, 'done');
  return outcome.revision;
}

/** Writes what waits for each shard it owns, under that shard's epoch; drops what waits when the shard is lost. */
class ShardLines implements CommitSource {
  readonly waiting: { readonly shard: string; readonly key: string }[] = [];
  readonly epochs = new Map<string, Revision>();
  readonly done: { readonly keys: readonly string[]; readonly hasResults: boolean }[] = [];
  readonly dropped: string[] = [];
  readonly budgets: CommitBudget[] = [];
  failed: MillraceError | undefined;
  fenced: MillraceError | undefined;
  stalls = 0;
  unclear = 0;
  onCut: (() => void) | undefined;

  cut(budget: CommitBudget): Commit | undefined {
    this.onCut?.();
    this.budgets.push(budget);
    const taken = this.waiting.splice(0, budget.operationsMax);
    if (taken.length === 0) return undefined;
    const shards = [...new Set(taken.map(({ shard }) => shard))];
    const keys = taken.map(({ key }) => key);
    return {
      operations: keys.map((key) => put(key)),
      bytes: 0,
      guarded: {
        guards: shards.map((shard) => ({
          key: `o/${shard}`,
          createRevision: this.epochs.get(shard)!,
        })),
        onBroken: (broken: readonly Guard[]) => {
          const lost = new Set(broken.map(({ key }) => key.slice(2)));
          this.dropped.push(...taken.flatMap(({ shard, key }) => (lost.has(shard) ? key : [])));
          this.waiting.unshift(...taken.filter(({ shard }) => !lost.has(shard)));
        },
      },
      onDone: (_revision, results) => this.done.push({ keys, hasResults: results !== undefined }),
      onUnclear: () => {
        this.unclear++;
      },
      onFailed: (cause) => {
        this.failed = cause;
      },
    };
  }

  onStalled(): void {
    this.stalls++;
  }

  onFenced(cause: MillraceError): void {
    this.fenced = cause;
  }
}

async function setup() {
  const clock = new VirtualClock();
  const factory = memoryStore();
  const server: Store = await factory.open({ clock });
  const write = async (...success: Operation[]): Promise<Revision> =>
    requireDone(await server.txn({ compares: [], success }));
  const own = async (shard: string): Promise<Revision> => {
    await write({ type: 'delete', key: `o/${shard}` });
    return write(put(`o/${shard}`));
  };
  const open = async () => {
    const store = new FaultyStore(await factory.open({ clock }));
    const source = new ShardLines();
    const lane = new CommitLane(store, clock, { node: 'n', incarnation: INCARNATION, source });
    await lane.open();
    const submit = (...lines: [shard: string, key: string][]): void => {
      for (const [shard, key] of lines) source.waiting.push({ shard, key });
      lane.request();
    };
    return { store, source, lane, submit };
  };
  const first = await open();
  for (const shard of ['a', 'b']) first.source.epochs.set(shard, await own(shard));
  const stored = async (): Promise<string[]> =>
    (await server.range(prefixRange('t/'))).entries.map(({ key }) => key);
  return { clock, server, write, own, open, stored, ...first };
}

test('an unknown outcome, then an epoch that changes: the head is read first, and ours was applied', async () => {
  const { clock, store, source, submit, own, stored } = await setup();
  store.fates.push('answer lost');
  submit(['a', 't/1'], ['b', 't/2']);
  await clock.settle();
  await own('a');
  await clock.advance(1_000);
  assert.deepEqual(source.done, [{ keys: ['t/1', 't/2'], hasResults: false }]);
  assert.deepEqual(source.dropped, []);
  assert.deepEqual(await stored(), ['t/1', 't/2']);
  submit(['b', 't/3']);
  await clock.settle();
  assert.equal(source.done.length, 2, 'the lane goes on from the head it found');
});

test('a commit that was refused hears so once, also when the lane is given up in the pause after it', async () => {
  const { clock, store, source, lane, submit } = await setup();
  store.fates.push('full');
  submit(['a', 't/1']);
  await clock.settle();
  assert.equal(source.failed?.code, 'ERR_MILLRACE_STORE_FULL');
  lane.abandon(new MillraceError('ERR_MILLRACE_CLOSED', 'over'));
  assert.equal(source.failed?.code, 'ERR_MILLRACE_STORE_FULL');
});

test('a commit without an answer is called unclear after some seconds, and ends all the same', async () => {
  const { clock, store, source, submit } = await setup();
  store.fates.push(...Array.from({ length: 9 }, () => 'request lost' as const));
  submit(['a', 't/1']);
  await clock.advance(4_000);
  assert.equal(source.unclear, 0);
  await clock.advance(3_000);
  assert.ok(source.unclear > 0 && source.unclear === source.stalls);
  await clock.advance(10_000);
  assert.deepEqual(source.done, [{ keys: ['t/1'], hasResults: true }]);
});

test('a copy of the first commit that comes after the lane has retired writes nothing', async () => {
  const { clock, store, lane, submit, stored, write } = await setup();
  store.fates.push('late');
  submit(['a', 't/1']);
  await clock.advance(1_000);
  assert.deepEqual(await stored(), ['t/1']);
  await write({ type: 'delete', key: 't/1' });
  await lane.retire([]);
  await store.applyLate();
  assert.deepEqual(await stored(), []);
});

test('a request that comes while a commit is cut does not make the lane look idle', async () => {
  const { clock, store, source, lane, submit } = await setup();
  source.onCut = () => {
    source.onCut = undefined;
    lane.request();
  };
  let answer = (): void => {};
  store.gate = new Promise((resolve) => {
    answer = resolve;
  });
  submit(['a', 't/1']);
  let isIdle = false;
  const idle = lane.idle().then(() => {
    isIdle = true;
  });
  await clock.advance(1_000);
  assert.equal(isIdle, false, 'its commit flies');
  answer();
  await clock.advance(1_000);
  await idle;
  assert.equal(source.done.length, 1);
});

test('a shard that is lost takes its own part along, and nothing else', async () => {
  const { clock, store, source, submit, own, stored } = await setup();
  await own('a');
  submit(['a', 't/1'], ['b', 't/2'], ['a', 't/3'], ['b', 't/4']);
  await clock.settle();
  assert.deepEqual(source.dropped, ['t/1', 't/3']);
  assert.deepEqual(await stored(), ['t/2', 't/4']);
  assert.equal(source.fenced, undefined);
  assert.equal(source.failed, undefined);
  assert.equal(store.sent.length, 2);
  // The same head compare: nothing was applied in between.
  assert.deepEqual(store.sent[0]!.compares[0], store.sent[1]!.compares[0]);
});

test('what was sent before its epoch changed can arrive as late as it likes', async () => {
  const { clock, store, source, submit, own, stored, server } = await setup();
  store.fates.push('late');
  submit(['a', 't/1'], ['b', 't/2']);
  await clock.settle();
  await own('a');
  await clock.advance(1_000);
  assert.deepEqual(source.dropped, ['t/1']);
  assert.deepEqual(await stored(), ['t/2']);
  const before = await server.get('h/n');
  await store.applyLate();
  assert.deepEqual(await stored(), ['t/2']);
  assert.deepEqual(await server.get('h/n'), before);
  submit(['b', 't/3']);
  await clock.settle();
  assert.deepEqual(await stored(), ['t/2', 't/3']);
});

test('also when nothing of the new content has been applied yet', async () => {
  const { clock, store, source, submit, own, stored } = await setup();
  store.fates.push('late', 'ok', 'request lost');
  submit(['a', 't/1'], ['b', 't/2']);
  await clock.settle();
  await own('a');
  // The second try is refused for its epoch, and the first of the rest gets lost.
  await clock.advance(60);
  assert.deepEqual(source.dropped, ['t/1']);
  await store.applyLate();
  assert.deepEqual(await stored(), []);
  await clock.advance(1_000);
  assert.deepEqual(await stored(), ['t/2']);
  assert.equal(source.done.length, 1);
});

test('a copy that applies after all is not applied again', async () => {
  const { clock, store, source, submit, server } = await setup();
  store.fates.push('late', 'late', 'request lost');
  submit(['a', 't/1']);
  await clock.settle();
  await store.applyLate();
  await clock.advance(1_000);
  assert.deepEqual(source.done, [{ keys: ['t/1'], hasResults: false }]);
  await store.applyLate();
  assert.equal((await server.get('t/1'))!.version, 1);
});

test('content does not change while its outcome is unknown, whatever waits', async () => {
  const { clock, store, submit } = await setup();
  store.fates.push('request lost', 'request lost');
  submit(['a', 't/1']);
  await clock.settle();
  submit(['b', 't/2']);
  await clock.advance(1_000);
  assert.equal(store.sent[0], store.sent[1]);
  assert.equal(store.sent[1], store.sent[2]);
  assert.equal(store.sent.length, 4);
});

test('the same content twice is two commits: the first one proves nothing for the second', async () => {
  const { clock, store, source, submit, own } = await setup();
  submit(['a', 't/1']);
  await clock.settle();
  store.fates.push('request lost');
  submit(['a', 't/1']);
  await clock.settle();
  await own('a');
  await clock.advance(1_000);
  assert.equal(source.done.length, 1);
  assert.deepEqual(source.dropped, ['t/1']);
});

test('a segment that is gone, or was put anew, is a broken guard like any other', async () => {
  const { clock, source, submit, write, stored } = await setup();
  const seen = await write(put('o/segment'));
  source.epochs.set('segment', seen);
  await write({ type: 'delete', key: 'o/segment' });
  submit(['segment', 't/1'], ['a', 't/2']);
  await clock.settle();
  assert.deepEqual(source.dropped, ['t/1']);
  await write(put('o/segment'));
  submit(['segment', 't/3'], ['a', 't/4']);
  await clock.settle();
  assert.deepEqual(source.dropped, ['t/1', 't/3']);
  assert.deepEqual(await stored(), ['t/2', 't/4']);
});

test('a rewritten key is still the same: guards compare its creation', async () => {
  const { clock, source, submit, write, stored } = await setup();
  await write(put('o/a', 'rewritten'));
  submit(['a', 't/1']);
  await clock.settle();
  assert.deepEqual(source.dropped, []);
  assert.deepEqual(await stored(), ['t/1']);
});

test('a head that somebody else moved fences the lane, also when an epoch changed with it', async () => {
  const { clock, store, source, submit, own, open, lane } = await setup();
  const other = await open();
  other.source.epochs.set('a', await own('a'));
  other.submit(['a', 't/other']);
  await clock.settle();
  submit(['a', 't/1'], ['b', 't/2']);
  await clock.settle();
  assert.equal(source.fenced?.code, 'ERR_MILLRACE_STORE_LOCKED');
  assert.equal(source.failed?.code, 'ERR_MILLRACE_STORE_LOCKED');
  submit(['b', 't/3']);
  await lane.idle();
  assert.equal(store.sent.length, 1, 'nothing is sent any more');
});

test('it lingers when it is told to: what comes meanwhile shares the commit, also after one that flew', async () => {
  const { clock, store, source, lane, submit } = await setup();
  lane.lingerMs = 50;
  submit(['a', 't/1']);
  await clock.advance(49);
  submit(['b', 't/2']);
  assert.equal(store.sent.length, 0);
  await clock.advance(1);
  assert.deepEqual(source.done.at(-1)?.keys, ['t/1', 't/2']);
  await clock.advance(100);
  let answer = (): void => {};
  store.gate = new Promise((resolve) => {
    answer = resolve;
  });
  submit(['a', 't/3']);
  await clock.advance(50);
  submit(['a', 't/4']);
  answer();
  store.gate = undefined;
  await clock.advance(49);
  submit(['b', 't/5']);
  assert.deepEqual(source.done.at(-1)?.keys, ['t/3']);
  await clock.advance(1);
  assert.deepEqual(source.done.at(-1)?.keys, ['t/4', 't/5']);
  assert.equal(store.sent.length, 3);
  await clock.advance(50);
  await lane.idle();
  lane.lingerMs = 0;
  submit(['a', 't/8']);
  await clock.settle();
  assert.equal(store.sent.length, 4);
});

test('a lane that lingers and is fenced is idle', async () => {
  const { clock, source, submit, own, open, lane } = await setup();
  const other = await open();
  other.source.epochs.set('a', await own('a'));
  other.submit(['a', 't/other']);
  await clock.settle();
  lane.lingerMs = 50;
  submit(['b', 't/1']);
  const idle = lane.idle();
  await clock.advance(50);
  assert.equal(source.fenced?.code, 'ERR_MILLRACE_STORE_LOCKED');
  await idle;
});

test('two clones of one process have the same name and number; their contents differ', async () => {
  const { clock, source, submit, open, stored } = await setup();
  const clone = await open();
  for (const [shard, epoch] of source.epochs) clone.source.epochs.set(shard, epoch);
  submit(['a', 't/1']);
  await clock.settle();
  clone.submit(['a', 't/2']);
  await clock.settle();
  assert.equal(clone.source.fenced?.code, 'ERR_MILLRACE_STORE_LOCKED');
  assert.deepEqual(await stored(), ['t/1']);
});

test('the budget fits the store, refused transactions included', async () => {
  const { clock, store, source, lane, own, stored } = await setup();
  const max = store.limits.operationsMax - 2;
  for (let i = 0; i < max; i++) {
    source.epochs.set(`s${i}`, await own(`s${i}`));
    source.waiting.push({ shard: `s${i}`, key: `t/${i}` });
  }
  await own('s7');
  lane.request();
  await clock.settle();
  assert.equal(source.budgets[0]!.operationsMax, max);
  assert.equal(source.budgets[0]!.guardsMax, max);
  assert.equal(store.sent[0]!.compares.length, max + 1);
  assert.equal(store.sent[0]!.success.length, max + 1);
  assert.deepEqual(source.dropped, ['t/7']);
  assert.equal((await stored()).length, max - 1);
});

test('the hash of a content sees keys, lengths and both ends of values, also nested', () => {
  const long = (at: number): Operation => {
    const value = new Uint8Array(4_096);
    if (at >= 0) value[at] = 1;
    return { type: 'put', key: 't/1', value };
  };
  const contents: readonly Operation[][] = [
    [],
    [put('t/1')],
    [put('t/2')],
    [put('t/1'), put('t/2')],
    [put('t/2'), put('t/1')],
    [put('t/1', 'xx')],
    [{ type: 'delete', key: 't/1' }],
    [{ type: 'txn', txn: { compares: [], success: [put('t/1')] } }],
    [{ type: 'txn', txn: { compares: [], success: [put('t/3')] } }],
    [long(-1)],
    [long(0)],
    [long(255)],
    [long(4_095)],
  ];
  const hashes = contents.map(contentHash);
  assert.equal(new Set(hashes).size, contents.length);
  assert.deepEqual(contents.map(contentHash), hashes);
});
