/**
 * The whole-frame path: frames of tasks go in, time passes until they are due, worker batches come out. What the
 * main thread does for a task between its submission and its thread, without the store.
 */
import { FrameKind, FrameWriter } from '../../src/core/frame.js';
import { writeTask } from '../../src/core/records.js';
import { type BatchHandle, type Instant, Place, TaskTable } from '../../src/timing/task-table.js';

const TASKS_PER_FRAME = 64;
const PAYLOAD_BYTES = 200;
/** Tasks of one round are due within so many milliseconds of its begin. */
const DUE_SPAN_MS = 100;
const WALL_MS = 1_700_000_000_000;

/**
 * @param frames - in one round; they are in the table together
 * @param rounds - the median of them counts
 * @returns nanoseconds per task, from the frame to the batch that could be posted
 */
export function frameNsPerTask(frames: number, rounds: number): number {
  const table = new TaskTable({ executor: 'bench' });
  const type = { name: 'work', place: Place.THREAD };
  table.defineType(type, { wallMs: WALL_MS, monoMs: 0 });
  const perTask: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const startMs = round * 1_000;
    const input = Array.from({ length: frames }, (_, i) => frameOf(startMs, i));
    const startedAt = performance.now();
    const segments = input.map((frame, i) => table.ingest(frame, `r${round}.${i}`, at(startMs)));
    const batches: BatchHandle[] = [];
    const packed = packDue(table, startMs, batches);
    const elapsedMs = performance.now() - startedAt;
    if (packed !== frames * TASKS_PER_FRAME) throw new Error(`${packed} tasks were packed`);
    perTask.push((elapsedMs * 1e6) / packed);
    for (const batch of batches) table.loseBatch(batch);
    for (const segment of segments) if (!table.drop(segment)) throw new Error('still in a batch');
  }
  table.close();
  return perTask.sort((a, b) => a - b)[perTask.length >> 1]!;
}

/** Lets the round's time pass, and packs what becomes due into batches of up to 64. */
function packDue(table: TaskTable, startMs: number, batches: BatchHandle[]): number {
  let packed = 0;
  const limits = {
    place: Place.THREAD,
    tasksMax: 64,
    segmentsMax: 4_096,
    bytesMax: 1e9,
    workMsMax: 1e9,
  };
  for (let ms = startMs; ms <= startMs + DUE_SPAN_MS; ms++) {
    const now = at(ms);
    while (table.advance(now));
    const cut = table.beginCut();
    for (;;) {
      const claimed = table.claim(cut, limits, now);
      if (claimed === undefined) break;
      packed += claimed.tasks;
      if (table.launch(claimed.batch, 1).length === 0) throw new Error('an empty batch');
      batches.push(claimed.batch);
    }
    table.settle(cut);
  }
  return packed;
}

function frameOf(startMs: number, index: number): Uint8Array<ArrayBuffer> {
  const writer = new FrameWriter(FrameKind.TASKS);
  const payload = JSON.stringify('x'.repeat(PAYLOAD_BYTES - 2));
  const dueAtMs = WALL_MS + startMs + 1 + ((index * 7) % (DUE_SPAN_MS - 1));
  for (let i = 0; i < TASKS_PER_FRAME; i++) {
    writeTask(writer, {
      dueAtMs,
      submittedAtMs: WALL_MS,
      expiresAtMs: 0,
      type: 'work',
      tenant: '',
      priority: 0,
      attempt: 0,
      losses: 0,
      version: 0,
      payload,
      payloadBytes: PAYLOAD_BYTES,
      metadata: undefined,
    });
  }
  return writer.finish();
}

function at(ms: number): Instant {
  return { wallMs: WALL_MS + ms, monoMs: ms };
}
