import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { MillraceError } from '../../../src/core/errors.js';
import { seededRandom } from '../../../src/core/random.js';
import type { KeyRange, Revision, WatchBatch, WatchOptions } from '../../../src/core/store.js';
import { WatchMultiplexer } from '../../../src/store/etcd/watch-multiplexer.js';
import { VirtualClock } from '../../../src/testing/virtual-clock.js';
import { FakeEtcd } from './fake-etcd.js';

const A: KeyRange = { from: 'a', to: 'b' };

function setup(
  t: TestContext,
  options: { bufferBytesMax?: number; canAskProgress?: boolean; progressEveryMs?: number } = {},
) {
  const clock = new VirtualClock();
  const server = new FakeEtcd();
  let newest = 1;
  const { canAskProgress = false, ...rest } = options;
  const multiplexer = new WatchMultiplexer(server, clock, seededRandom(1), {
    newestRevision: () => newest,
    onRevision: (revision) => {
      newest = Math.max(newest, revision);
    },
    canAskProgress: () => canAskProgress,
    ...rest,
  });
  t.after(() => multiplexer.close(new MillraceError('ERR_MILLRACE_CLOSED', 'over')));
  const watch = (range: KeyRange = A, from?: number, more: WatchOptions = {}) => {
    const given = from === undefined ? more : { ...more, startRevision: from as Revision };
    return new Reading(multiplexer.watch(range, 'ns/', given)[Symbol.asyncIterator]());
  };
  /** Lets everything happen: pauses before a stream is opened again, too. */
  const settle = async (): Promise<void> => {
    for (let turn = 0; turn < 3; turn++) {
      server.flush();
      await clock.advance(2_500);
    }
    server.flush();
    await clock.settle();
  };
  return { clock, server, multiplexer, watch, settle };
}

/** Reads a watch to its end, and remembers what it was told: `5 a=1 a2=1`, then perhaps the code of an error. */
class Reading {
  readonly told: string[] = [];
  readonly iterator: AsyncIterator<WatchBatch>;
  error: MillraceError | undefined;
  constructor(iterator: AsyncIterator<WatchBatch>, isEager = true) {
    this.iterator = iterator;
    if (isEager) void this.readOn();
  }

  async readOn(): Promise<void> {
    while (await this.readOne());
  }

  async readOne(): Promise<boolean> {
    try {
      const { done, value } = await this.iterator.next();
      if (done) return false;
      const events = (value as WatchBatch).events.map((event) =>
        event.type === 'put'
          ? `${event.entry.key}=${Buffer.from(event.entry.value)}`
          : `-${event.key}`,
      );
      this.told.push([(value as WatchBatch).revision, ...events].join(' '));
      return true;
    } catch (error) {
      this.error = error as MillraceError;
      this.told.push(this.error.code);
      return false;
    }
  }
}

/** A reading that is read by the test, batch by batch. */
function lazily(reading: AsyncIterable<WatchBatch>): Reading {
  return new Reading(reading[Symbol.asyncIterator](), false);
}

test('cut between `created` and the first event: nothing is missed', async (t) => {
  // Red with a client that resumes from the header of `created` (etcd3 does): the header is the newest revision,
  // although the catch-up has not begun.
  const { server, watch, settle } = setup(t);
  server.write('ns/a1=1');
  server.write('ns/a2=1');
  const reading = watch(A, 2);
  const [stream] = server.streams;
  assert.ok(stream!.deliver(), 'created is delivered');
  stream!.cut();
  await settle();
  assert.deepEqual(reading.told, ['2 a1=1', '3 a2=1']);
});

test('cut between two batches of a catch-up: nothing is missed or told twice', async (t) => {
  // Red with a client that resumes from the header of an answer with events.
  const { server, watch, settle } = setup(t);
  server.batchRevisions = 1;
  for (let revision = 2; revision < 7; revision++) server.write(`ns/a=${revision}`);
  const reading = watch(A, 2);
  const [stream] = server.streams;
  stream!.deliver();
  stream!.sync();
  stream!.deliver();
  stream!.sync();
  stream!.cut();
  await settle();
  assert.deepEqual(reading.told, ['2 a=2', '3 a=3', '4 a=4', '5 a=5', '6 a=6']);
});

test('cut between two fragments: the revision is told once, and whole', async (t) => {
  // Red with a client that tells a fragment as it comes.
  const { server, watch, settle } = setup(t);
  server.fragmentEvents = 2;
  server.write('ns/a1=1', 'ns/a2=1', 'ns/a3=1');
  server.write('ns/a3=2', 'ns/a1=2', 'ns/a2=2');
  const reading = watch(A, 2);
  const [stream] = server.streams;
  stream!.deliver();
  stream!.sync();
  stream!.deliver();
  stream!.deliver();
  stream!.cut();
  await settle();
  assert.deepEqual(reading.told, ['2 a1=1 a2=1 a3=1', '3 a1=2 a2=2 a3=2']);
  assert.equal(server.streams[1]!.requests[0], 'create 1 from 3');
});

test('what has been told is left out when it comes again', async (t) => {
  // Red with a client that trusts servers and proxies never to repeat themselves.
  const { server, watch } = setup(t);
  const reading = watch(A, 2);
  server.write('ns/a=1');
  server.write('ns/a=2');
  server.flush();
  const changes = server.between('ns/a', 'ns/b', 2, 3);
  server.streams[0]!.answer({ watchId: 1, changes });
  server.write('ns/a=3');
  server.flush();
  await new Promise(setImmediate);
  assert.deepEqual(reading.told, ['2 a=1', '3 a=2', '4 a=3']);
});

test('an answer whose last fragment is empty is whole all the same', async (t) => {
  const { server, watch, multiplexer } = setup(t);
  const reading = watch(A, 2);
  server.flush();
  const change = { revision: 2, key: 'ns/a', value: '1' };
  server.streams[0]!.answer({ watchId: 1, fragment: true, changes: [change] });
  server.streams[0]!.answer({ watchId: 1, revision: 2 });
  server.flush();
  await new Promise(setImmediate);
  assert.deepEqual([reading.told, multiplexer.neededRevision()], [['2 a=1'], 3]);
});

test('of a large catch-up a slow reader takes no more than its buffer holds', (t) => {
  // Red with a client that checks the bound once for each message.
  const { server, multiplexer } = setup(t, { bufferBytesMax: 2_000 });
  for (let index = 0; index < 100; index++) server.write(`ns/a=${index}`);
  const slow = multiplexer.watch(A, 'ns/', { startRevision: 2 as Revision });
  const reading = lazily(slow);
  server.flush();
  assert.deepEqual(multiplexer.counts(), { watches: 1, lagging: 1 });
  assert.ok(multiplexer.neededRevision()! < 30, reading.told.join());
});

test('an answer above the message limit is asked for in fragments, at once, and only then', async (t) => {
  // Red with a client that asks for the same again: it would never get past that answer.
  const { clock, server, watch } = setup(t);
  server.messageEventsMax = 5;
  for (let revision = 2; revision < 12; revision++) server.write(`ns/a=${revision}`);
  const reading = watch(A, 2);
  server.flush();
  server.fragmentEvents = 3;
  await clock.advance(0);
  server.flush();
  await clock.settle();
  assert.equal(reading.told.length, 10);
  assert.equal(server.streams.length, 2);
});

test('a progress notification moves the resume point, but not over a revision that waits for its rest', async (t) => {
  // Red with a client that believes every header without events.
  const { server, watch, settle, multiplexer } = setup(t);
  const reading = watch(A, 2);
  const [stream] = server.streams;
  server.flush();
  server.write('ns/z=1');
  server.write('ns/z=2');
  stream!.notifyProgress(1);
  server.flush();
  assert.equal(multiplexer.neededRevision(), 4);
  stream!.answer({
    watchId: 1,
    fragment: true,
    changes: [{ revision: 4, key: 'ns/a', value: '1' }],
  });
  stream!.answer({ watchId: -1, revision: 9 });
  stream!.deliver();
  stream!.deliver();
  assert.equal(multiplexer.neededRevision(), 4);
  server.write('ns/a=1', 'ns/a2=1');
  stream!.cut();
  await settle();
  assert.deepEqual(reading.told, ['4 a=1 a2=1']);
});

test('a watch without permission fails alone and at once; its neighbours are created and told', async (t) => {
  // Red with a client that waits for the answer of one create before the next, and takes the pair for none.
  const { server, watch, settle } = setup(t);
  server.forbidden = 'ns/x';
  const before = watch(A);
  const refused = watch({ from: 'x', to: 'y' });
  const after = watch({ from: 'c', to: 'd' });
  server.flush();
  server.write('ns/a=1', 'ns/c=1');
  await settle();
  assert.deepEqual(refused.told, ['ERR_MILLRACE_STORE_UNAVAILABLE']);
  assert.match(refused.error!.message, /may not/);
  assert.deepEqual([before.told, after.told], [['2 a=1'], ['2 c=1']]);
  assert.equal(server.streams.length, 1);
});

test('a watch whose next revision is compacted says so, with the oldest there is', async (t) => {
  const { server, watch, settle } = setup(t);
  const reading = watch(A, 2);
  server.flush();
  for (let revision = 2; revision < 9; revision++) {
    server.write(`ns/a=${revision}`);
    if (revision === 4) {
      server.flush();
      server.streams[0]!.cut();
    }
  }
  server.compact(7);
  await settle();
  assert.deepEqual(reading.told, ['2 a=2', '3 a=3', '4 a=4', 'ERR_MILLRACE_COMPACTED']);
  assert.deepEqual(reading.error!.details, { revision: 5, compactRevision: 7 });
});

test('"from now on" begins at the oldest revision there is when what was heard of last is gone', async (t) => {
  const { server, watch, settle } = setup(t);
  for (let revision = 2; revision < 9; revision++) server.write(`ns/a=${revision}`);
  server.compact(8);
  const reading = watch();
  await settle();
  assert.deepEqual(reading.told, ['8 a=8']);
  server.streams[0]!.cut();
  for (let revision = 9; revision < 12; revision++) server.write(`ns/a=${revision}`);
  server.compact(11);
  await settle();
  assert.deepEqual(reading.told, ['8 a=8', 'ERR_MILLRACE_COMPACTED']);
});

test('a cut before the first event turns "from now on" into an exact start', async (t) => {
  // Red with a client that moves every start up: what was written while it was away would be skipped in silence.
  const { server, watch, settle } = setup(t);
  const reading = watch();
  server.flush();
  server.streams[0]!.cut();
  for (let revision = 2; revision < 9; revision++) server.write(`ns/a=${revision}`);
  server.compact(8);
  await settle();
  assert.deepEqual(reading.told, ['ERR_MILLRACE_COMPACTED']);
});

test('a slow reader is detached, holds up nobody, and goes on where it was', async (t) => {
  // Red with one bound for the stream: the quick reader would wait for the slow one.
  const { server, multiplexer, watch, settle } = setup(t, { bufferBytesMax: 2_000 });
  const quick = watch();
  const slow = lazily(multiplexer.watch(A, 'ns/'));
  server.flush();
  const count = 100;
  for (let index = 0; index < count; index++) {
    server.write(`ns/a=${index}`);
    server.flush();
    await new Promise(setImmediate);
  }
  assert.equal(quick.told.length, count);
  assert.deepEqual(multiplexer.counts(), { watches: 2, lagging: 1 });
  const needed = multiplexer.neededRevision()!;
  assert.ok(needed < 30, `a lagging watch took ${needed} revisions`);
  for (let batch = 0; batch < count; batch++) {
    await slow.readOne();
    if (batch % 5 === 4) await settle();
  }
  assert.deepEqual(slow.told, quick.told);
  assert.deepEqual(multiplexer.counts(), { watches: 2, lagging: 0 });
});

test('what was buffered is told before the error that came after it', async (t) => {
  const { server, multiplexer, settle } = setup(t, { bufferBytesMax: 1_000 });
  const slow = lazily(multiplexer.watch(A, 'ns/'));
  server.flush();
  for (let index = 0; index < 50; index++) server.write(`ns/a=${index}`);
  server.flush();
  server.compact(40);
  const taken = multiplexer.neededRevision()! - 2;
  for (let batch = 0; batch < taken; batch++) assert.ok(await slow.readOne());
  await settle();
  assert.equal(await slow.readOne(), false);
  assert.equal(slow.told.at(-1), 'ERR_MILLRACE_COMPACTED');
  assert.equal(slow.told.length, taken + 1);
  assert.equal((await slow.iterator.next()).done, true);
});

test('the classes have streams of their own, and a cut of one leaves the others alone', async (t) => {
  const { server, watch, settle } = setup(t);
  const control = watch(A, 2, { class: 'control' });
  const data = watch(A, 2);
  watch(A, 2, { class: 'cache' });
  watch(A, 2, { class: 'cache' });
  assert.equal(server.streams.length, 3);
  server.flush();
  server.streams[1]!.cut();
  server.write('ns/a=1');
  server.flush();
  await new Promise(setImmediate);
  assert.deepEqual([control.told.length, data.told.length], [1, 0]);
  await settle();
  assert.deepEqual([data.told, server.streams.length], [['2 a=1'], 4]);
});

test('a stream that comes back asks for all its watches at once, after a growing pause', async (t) => {
  const { clock, server, watch } = setup(t);
  for (let index = 0; index < 50; index++) watch(A, 2);
  server.flush();
  const pauses: number[] = [];
  for (let cut = 0; cut < 6; cut++) {
    const before = clock.monoMs();
    server.live[0]!.cut();
    while (server.live.length === 0) await clock.advance(5);
    pauses.push(clock.monoMs() - before);
    assert.equal(server.live[0]!.requests.length, 50);
  }
  assert.ok(pauses[5]! > 700 && pauses[5]! <= 2_005, pauses.join(' '));
  assert.ok(pauses[0]! < 60, pauses.join(' '));
});

test('a reader that leaves cancels its watch on the server, also before it was created', async (t) => {
  const { server, watch, multiplexer } = setup(t);
  const early = watch();
  const late = watch();
  await early.iterator.return?.();
  server.flush();
  await late.iterator.return?.();
  server.flush();
  assert.deepEqual(server.streams[0]!.watchIds, []);
  assert.deepEqual(multiplexer.counts(), { watches: 0, lagging: 0 });
  assert.equal(multiplexer.neededRevision(), undefined);
});

test('a server that can be asked is asked how far it is, and quiet watches move on', async (t) => {
  const { clock, server, watch, multiplexer } = setup(t, {
    canAskProgress: true,
    progressEveryMs: 100,
  });
  watch(A, 2);
  server.flush();
  server.write('ns/z=1');
  server.write('ns/z=2');
  assert.equal(multiplexer.neededRevision(), 2);
  await clock.advance(100);
  server.flush();
  assert.equal(multiplexer.neededRevision(), 4);
});

test('progress of the stream does not count for a watch that was not there yet', async (t) => {
  // Red with a client that believes it for every watch it knows of: the events before it would be skipped.
  const { server, watch, multiplexer, settle } = setup(t, { canAskProgress: true });
  watch({ from: 'q', to: 'r' }, 2);
  server.flush();
  const [stream] = server.streams;
  server.write('ns/a=1');
  stream!.answer({ watchId: -1 });
  const reading = watch(A, 2);
  stream!.deliver();
  stream!.deliver();
  assert.equal(multiplexer.neededRevision(), 2);
  stream!.cut();
  await settle();
  assert.deepEqual(reading.told, ['2 a=1']);
});

test('another cluster behind the endpoints ends every watch with an error', async (t) => {
  const { server, watch, settle } = setup(t);
  const reading = watch();
  server.flush();
  server.clusterId = 'feed' as typeof server.clusterId;
  server.write('ns/a=1');
  await settle();
  assert.deepEqual(reading.told, ['ERR_MILLRACE_STORE_UNAVAILABLE']);
  assert.match(reading.error!.message, /cluster feed/);
});

test('an answer that does not decode ends the stream, and the next one goes on', async (t) => {
  const { server, watch, settle } = setup(t);
  const reading = watch();
  server.flush();
  server.streams[0]!.answerBytes(Uint8Array.of(0x5a, 0x7f));
  server.write('ns/a=1');
  await settle();
  assert.deepEqual([reading.told, server.streams.length], [['2 a=1'], 2]);
});

test('a stale token ends the stream, since tokens belong to streams', async (t) => {
  const { server, watch, settle } = setup(t);
  const reading = watch();
  server.streams[0]!.deliver();
  watch({ from: 'c', to: 'd' });
  const reason = 'etcdserver: invalid auth token';
  server.streams[0]!.answer({ watchId: -1, created: true, canceled: true, reason });
  server.write('ns/a=1');
  await settle();
  assert.deepEqual(reading.told, ['2 a=1']);
  assert.equal(server.streams.length, 2);
});

test('closing ends every watch with the error it is given, and drops what is buffered', async (t) => {
  const { server, watch, multiplexer } = setup(t);
  const waiting = watch();
  const slow = lazily(multiplexer.watch(A, 'ns/'));
  server.flush();
  server.write('ns/a=1');
  server.flush();
  multiplexer.close(new MillraceError('ERR_MILLRACE_CLOSED', 'over'));
  await slow.readOne();
  await new Promise(setImmediate);
  assert.deepEqual(
    [waiting.told.at(-1), slow.told],
    ['ERR_MILLRACE_CLOSED', ['ERR_MILLRACE_CLOSED']],
  );
  assert.equal(server.live.length, 0);
});
