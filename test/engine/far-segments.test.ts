import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { instantOf } from '../../src/core/clock.js';
import { FrameKind, FrameWriter } from '../../src/core/frame.js';
import { type Incarnation, type SegmentRef, segmentRef } from '../../src/core/ids.js';
import { writeTask } from '../../src/core/records.js';
import type { Entry, KeyRange, RangeOptions, Snapshot, Store } from '../../src/core/store.js';
import { FarSegments } from '../../src/engine/far-segments.js';
import { refOfKey, segmentKey } from '../../src/engine/keys.js';
import { memoryStore } from '../../src/store/index.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';
import { type SegmentHandle, TaskTable } from '../../src/timing/task-table.js';

const HOUR_MS = 3_600_000;

async function setup(t: TestContext) {
  const clock = new VirtualClock();
  const inner = await memoryStore().open({ clock });
  t.after(() => inner.close());
  const table = new TaskTable({ executor: 'exec0001' });
  t.after(() => table.close());
  const now = () => instantOf(clock);
  /** Called with what a read has brought, before it is told. */
  let onRead: ((key: string) => Promise<void>) | undefined;
  const store = {
    get: async (key: string): Promise<Entry | undefined> => {
      const entry = await inner.get(key);
      await onRead?.(key);
      return entry;
    },
    range: async (range: KeyRange, options?: RangeOptions): Promise<Snapshot> => {
      const snapshot = await inner.range(range, options);
      await onRead?.(range.from);
      return snapshot;
    },
  } as Store;
  let failures = 0;
  const far = new FarSegments(
    { queue: 'default', shard: 0 },
    {
      store,
      table,
      take: ({ key, value }) => {
        const ref = refOfKey(key);
        if (table.findSegment(ref) !== 0) return undefined;
        return table.ingest(value, ref, now(), { hold: true });
      },
      resume: (segment) => void table.resume(segment, now()),
      release: (segment) => table.release(segment)?.open ?? 0,
      pause: async () => {
        failures++;
      },
      onChanged: () => {},
    },
  );
  let counter = 0;
  return {
    clock,
    table,
    far,
    untilMs: (hours: number) => clock.wallMs() + hours * HOUR_MS,
    failures: () => failures,
    /** From here on, for one read that begins so. */
    beforeAnswer(prefix: string, act: () => Promise<void> | void) {
      onRead = async (key) => {
        if (!key.startsWith(prefix)) return;
        onRead = undefined;
        await act();
      };
    },
    /** Stores a segment of one task. */
    async put(hours: number): Promise<SegmentRef> {
      const dueAtMs = clock.wallMs() + hours * HOUR_MS;
      const at = { queue: 'default', shard: 0, dueAtMs };
      const ref = segmentRef(at, 'abcdefgh' as Incarnation, counter++);
      const writer = new FrameWriter(FrameKind.TASKS);
      writeTask(writer, {
        ...{ type: 'work', tenant: '', dueAtMs, submittedAtMs: 0, expiresAtMs: 0, priority: 0 },
        ...{ attempt: 0, losses: 0, version: 0, metadata: undefined },
        ...{ payload: 'x', payloadBytes: 1 },
      });
      await inner.txn({
        compares: [],
        success: [{ type: 'put', key: segmentKey(ref), value: writer.finish() }],
      });
      return ref;
    },
    /** All of it ends, durably. */
    async end(ref: SegmentRef): Promise<void> {
      await inner.txn({ compares: [], success: [{ type: 'delete', key: segmentKey(ref) }] });
      const segment = table.findSegment(ref);
      table.drop(segment);
      far.dropped(ref);
    },
    holds: (ref: SegmentRef): boolean => table.findSegment(ref) !== (0 as SegmentHandle),
  };
}

test('what is near is loaded, the next one beyond is known, and nothing beyond is held', async (t) => {
  const w = await setup(t);
  const [near, far, farther] = [await w.put(1), await w.put(5), await w.put(9)];
  await w.far.load(w.untilMs(2));
  assert.deepEqual([near, far, farther].map(w.holds), [true, false, false]);
  assert.equal(w.far.nextDueMs, w.untilMs(5));
  await w.far.count();
  assert.equal(w.far.tasks, 2);
  await w.far.advance(w.untilMs(6));
  assert.deepEqual([near, far, farther].map(w.holds), [true, true, false]);
  assert.equal(w.far.nextDueMs, w.untilMs(9));
  assert.equal(w.far.tasks, 1);
});

test('a segment that ends while a load is under way is not revived by it', async (t) => {
  const w = await setup(t);
  await w.far.load(w.untilMs(1));
  const ref = await w.put(5);
  const over = await w.far.visit(ref);
  assert.ok(over && w.holds(ref));
  w.beforeAnswer('t/', () => w.end(ref));
  await w.far.advance(w.untilMs(6));
  assert.ok(!w.holds(ref));
  // It is only remembered as long as somebody reads.
  assert.ok(!w.far.isReading);
});

test('a segment that ends while a visit is under way is not revived by it', async (t) => {
  const w = await setup(t);
  await w.far.load(w.untilMs(1));
  const ref = await w.put(5);
  w.beforeAnswer('t/', async () => {
    // Somebody else has it in, and is done with it, before our answer comes.
    assert.ok(await w.far.visit(ref));
    await w.end(ref);
  });
  assert.equal(await w.far.visit(ref), undefined);
  assert.ok(!w.holds(ref));
});

test('a segment that was let go of while a visit was under way is read again', async (t) => {
  const w = await setup(t);
  await w.far.load(w.untilMs(1));
  const ref = await w.put(5);
  w.beforeAnswer('t/', async () => {
    const over = await w.far.visit(ref);
    over!();
    w.far.settle();
    assert.ok(!w.holds(ref));
  });
  assert.ok(await w.far.visit(ref));
  assert.ok(w.holds(ref));
});

test('two visits at a time take a segment in once, and it goes when both are over', async (t) => {
  const w = await setup(t);
  await w.far.load(w.untilMs(1));
  const ref = await w.put(5);
  const [first, second] = await Promise.all([w.far.visit(ref), w.far.visit(ref)]);
  assert.equal(w.table.openCount, 1);
  first!();
  w.far.settle();
  assert.ok(w.holds(ref));
  second!();
  w.far.settle();
  assert.ok(!w.holds(ref));
});

test('a visited segment that has come near stays', async (t) => {
  const w = await setup(t);
  await w.far.load(w.untilMs(1));
  const ref = await w.put(5);
  const over = await w.far.visit(ref);
  await w.far.advance(w.untilMs(6));
  over!();
  w.far.settle();
  assert.ok(w.holds(ref));
});

test('a segment that is put while a load is under way is kept if it is near by then, and read later if not', async (t) => {
  const w = await setup(t);
  await w.far.load(w.untilMs(1));
  const later = await w.put(9);
  w.beforeAnswer('i/', async () => {
    const near = await w.put(5);
    assert.ok(!w.far.isBeyond(near, w.untilMs(0.25)), 'the bound has moved already');
    const far = await w.put(8);
    assert.ok(w.far.isBeyond(far, w.untilMs(0.25)));
    w.far.note(far, 1);
  });
  await w.far.advance(w.untilMs(6));
  assert.equal(w.far.nextDueMs, w.untilMs(8));
  assert.ok(!w.holds(later));
});

test('a load that failed half way is due at once, and goes on', async (t) => {
  const w = await setup(t);
  await w.far.load(w.untilMs(1));
  const [first, second] = [await w.put(5), await w.put(5.5)];
  w.beforeAnswer('i/', () => {
    throw new Error('cut');
  });
  await assert.rejects(w.far.advance(w.untilMs(6)), /cut/);
  assert.ok(w.holds(first) && w.holds(second));
  assert.ok(w.far.nextDueMs <= w.untilMs(1));
  assert.ok(w.far.mayHave(first));
  await w.far.advance(w.untilMs(6));
  assert.equal(w.far.nextDueMs, Number.POSITIVE_INFINITY);
  assert.equal(w.table.openCount, 2);
});

test('the bound moves by itself where nothing is stored', async (t) => {
  const w = await setup(t);
  w.far.begin(w.untilMs(1));
  await w.clock.advance(3 * HOUR_MS);
  assert.ok(!w.far.isBeyond(await w.put(0), w.untilMs(1)));
  const far = await w.put(2);
  assert.ok(w.far.isBeyond(far, w.untilMs(1)));
  w.far.note(far, 1);
  // Up to what is stored, and no further.
  assert.ok(w.far.isBeyond(await w.put(2.5), w.untilMs(3)));
  assert.ok(!w.far.isBeyond(await w.put(1.5), w.untilMs(3)));
});

test('whoever waits is told when the segment is held, when the task has ended, and when the shard goes', async (t) => {
  const w = await setup(t);
  await w.far.load(w.untilMs(1));
  const ref = await w.put(5);
  const [held, unknown] = [w.far.untilHeld(ref, 0), w.far.untilHeld(ref, 7)];
  assert.equal(await unknown, false);
  const other = await w.put(9);
  const closing = w.far.untilHeld(other, 0);
  await w.far.advance(w.untilMs(6));
  assert.equal(await held, true);
  w.far.close();
  assert.equal(await closing, false);
  assert.equal(await w.far.visit(other), undefined);
});
