/**
 * The watch multiplexer against a model of etcd: random writes, catch-ups in small batches, fragments, cuts at any
 * message, progress, readers that are slow. Whatever happens, each reader is told every change of its range once, in
 * order, a revision at a time.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MillraceError } from '../../src/core/errors.js';
import { seededRandom } from '../../src/core/random.js';
import type { Revision, WatchBatch } from '../../src/core/store.js';
import { WatchMultiplexer } from '../../src/store/etcd/watch-multiplexer.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';
import { FakeEtcd } from '../store/etcd/fake-etcd.js';

const KEYS = ['a', 'b', 'c', 'd', 'e'].map((name) => `ns/${name}`);

type Step =
  | { readonly do: 'write'; readonly keys: readonly number[] }
  | { readonly do: 'deliver'; readonly times: number }
  | { readonly do: 'sync' | 'cut' | 'progress' | 'ask' | 'wait' }
  | { readonly do: 'watch'; readonly from: number; readonly to: number; readonly back: number }
  | { readonly do: 'read'; readonly reader: number; readonly times: number };

const small = fc.nat({ max: 4 });
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('write' as const),
      keys: fc.uniqueArray(small, { minLength: 1 }),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('deliver' as const),
      times: fc.integer({ min: 1, max: 6 }),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.constantFrom<Step>(
      { do: 'sync' },
      { do: 'progress' },
      { do: 'ask' },
      { do: 'wait' },
    ),
  },
  { weight: 2, arbitrary: fc.constant<Step>({ do: 'cut' }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('watch' as const),
      from: small,
      to: small,
      back: fc.nat({ max: 8 }),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('read' as const),
      reader: fc.nat({ max: 3 }),
      times: fc.integer({ min: 1, max: 5 }),
    }),
  },
);

interface Reader {
  readonly from: string;
  readonly to: string;
  readonly start: number;
  readonly iterator: AsyncIterator<WatchBatch>;
  readonly told: string[];
}

test('whatever is cut, every reader is told every change of its range, once and in order', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { minLength: 10, maxLength: 60 }),
      fc.record({
        batch: fc.integer({ min: 1, max: 3 }),
        fragment: fc.integer({ min: 1, max: 4 }),
        message: fc.integer({ min: 4, max: 12 }),
      }),
      run,
    ),
    { numRuns: 300 },
  );
});

async function run(
  steps: readonly Step[],
  sizes: { batch: number; fragment: number; message: number },
): Promise<void> {
  const clock = new VirtualClock();
  const server = new FakeEtcd();
  server.batchRevisions = sizes.batch;
  server.fragmentEvents = sizes.fragment;
  server.messageEventsMax = sizes.message;
  const multiplexer = new WatchMultiplexer(server, clock, seededRandom(1), {
    newestRevision: () => server.revision,
    onRevision: () => {},
    canAskProgress: () => true,
    progressEveryMs: 1_000,
    bufferBytesMax: 1_000,
  });
  const readers: Reader[] = [];
  const watch = (from: string, to: string, start: number): void => {
    const watched = multiplexer.watch({ from: from.slice(3), to: to.slice(3) }, 'ns/', {
      startRevision: start as Revision,
    });
    const iterator = watched[Symbol.asyncIterator]();
    readers.push({ from, to, start, iterator, told: [] });
  };
  watch('ns/a', 'ns/f', 2);
  for (const step of steps) {
    const stream = server.live[0];
    if (step.do === 'write') {
      server.write(...step.keys.map((key) => `${KEYS[key]}=${server.revision}`));
    } else if (step.do === 'deliver') {
      for (let times = 0; times < step.times; times++) stream?.deliver();
    } else if (step.do === 'sync') stream?.sync();
    else if (step.do === 'cut') stream?.cut();
    else if (step.do === 'progress')
      for (const id of stream?.watchIds ?? []) stream?.notifyProgress(id);
    else if (step.do === 'wait') await clock.advance(100);
    else if (step.do === 'ask') await clock.advance(1_000);
    else if (step.do === 'read') read(readers[step.reader % readers.length]!, step.times);
    else if (step.do === 'watch' && readers.length < 4) {
      const [from, to] = [Math.min(step.from, step.to), Math.max(step.from, step.to)];
      watch(KEYS[from]!, `${KEYS[to]}~`, Math.max(2, server.revision - step.back));
    }
    await new Promise(setImmediate);
    checkNeeded(multiplexer, readers);
  }
  // Everything heals, and everybody reads to the end.
  const expected = readers.map((reader) => expectedOf(server, reader));
  for (let turn = 0; turn < 400; turn++) {
    server.flush();
    await clock.advance(200);
    const isDone = readers.every(({ told }, index) => told.length >= expected[index]!.length);
    if (isDone) break;
    for (const reader of readers) read(reader, 20);
  }
  for (const [index, { told }] of readers.entries()) assert.deepEqual(told, expected[index]);
  multiplexer.close(new MillraceError('ERR_MILLRACE_CLOSED', 'over'));
}

/** Asks for some batches; the answers come when they do. */
function read(reader: Reader, times: number): void {
  for (let asked = 0; asked < times; asked++) {
    reader.iterator.next().then(
      ({ value, done }) => {
        if (done) return;
        const { revision, events } = value as WatchBatch;
        const keys = events.map((event) => (event.type === 'put' ? event.entry.key : event.key));
        reader.told.push([revision, ...keys].join(' '));
      },
      () => {},
    );
  }
}

/** Nothing that has not been told, or is not buffered, may be given up for compaction. */
function checkNeeded(multiplexer: WatchMultiplexer, readers: readonly Reader[]): void {
  const needed = multiplexer.neededRevision();
  assert.ok(needed !== undefined && needed >= Math.min(...readers.map(({ start }) => start)));
}

function expectedOf(server: FakeEtcd, { from, to, start }: Reader): string[] {
  const byRevision = new Map<number, string[]>();
  for (const { revision, key } of server.between(from, to, start, server.revision)) {
    const keys = byRevision.get(revision) ?? [];
    keys.push(key.slice(3));
    byRevision.set(revision, keys);
  }
  return [...byRevision].map(([revision, keys]) => [revision, ...keys.sort()].join(' '));
}
