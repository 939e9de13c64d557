import assert from 'node:assert/strict';
import { test } from 'node:test';
import { instantOf } from '../../src/core/clock.js';
import { FrameKind, FrameWriter } from '../../src/core/frame.js';
import { writeTask } from '../../src/core/records.js';
import { Waker } from '../../src/engine/waker.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';
import { type SegmentHandle, TaskTable } from '../../src/timing/task-table.js';

const MIB = 2 ** 20;
/** Due in an hour: nothing of what is tested here waits for it. */
const DELAY_MS = 3_600_000;

function setup() {
  const clock = new VirtualClock();
  const table = new TaskTable({ executor: 'exec0001' });
  let wakes = 0;
  const waker = new Waker(clock, table, () => wakes++);
  const now = () => instantOf(clock);
  let refs = 0;
  return {
    clock,
    table,
    waker,
    get wakes() {
      return wakes;
    },
    /** Segments of 100 tasks with 1000 bytes each. */
    ingest(segments: number): SegmentHandle[] {
      const writer = new FrameWriter(FrameKind.TASKS);
      for (let i = 0; i < 100; i++) {
        writeTask(writer, {
          type: 'work',
          tenant: '',
          dueAtMs: clock.wallMs() + DELAY_MS,
          submittedAtMs: clock.wallMs(),
          expiresAtMs: 0,
          priority: 0,
          attempt: 0,
          losses: 0,
          version: 0,
          metadata: undefined,
          payload: 'x'.repeat(1_000),
          payloadBytes: 1_000,
        });
      }
      const frame = writer.finish();
      return Array.from({ length: segments }, () => table.ingest(frame, `s${refs++}`, now()));
    },
  };
}

test('a burst that has gone gives its memory back within seconds, though nothing is due', async () => {
  const bed = setup();
  const { clock, table, waker } = bed;
  const kept = bed.ingest(1);
  const gone = bed.ingest(300);
  waker.update();
  assert.ok(table.stats().bytes > 30 * MIB);
  for (const segment of gone) table.drop(segment);
  waker.update();
  assert.ok(table.stats().bytes > 20 * MIB, 'it is there for the next burst');
  await clock.advance(10_000);
  // A region with the segment, a spare one, and the tables of fixed size.
  assert.ok(table.stats().bytes < 7 * MIB, `${table.stats().bytes} bytes`);
  assert.ok(bed.wakes <= 10, `${bed.wakes} wake-ups for it`);

  table.drop(kept[0]!);
  waker.update();
  await clock.advance(10_000);
  assert.ok(table.stats().bytes < 4 * MIB, `${table.stats().bytes} bytes when empty`);
  assert.equal(table.nextDueMs(), Number.POSITIVE_INFINITY);
});

test('a table that has nothing to give back causes no wake-up', async () => {
  const bed = setup();
  const [segment] = bed.ingest(1);
  bed.table.drop(segment!);
  bed.waker.update();
  assert.equal(bed.clock.sleeping, 0);
  await bed.clock.advance(DELAY_MS);
  assert.equal(bed.wakes, 0);
});

test('bursts once a second find the memory of the one before', async () => {
  const bed = setup();
  const { clock, table, waker } = bed;
  for (let second = 0; second < 20; second++) {
    const burst = bed.ingest(200);
    const full = table.stats().bytes;
    for (const segment of burst) table.drop(segment);
    waker.update();
    await clock.advance(999);
    assert.ok(table.stats().bytes > full - 3 * MIB, `${table.stats().bytes} of ${full} bytes`);
  }
});
