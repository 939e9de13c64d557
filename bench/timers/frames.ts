/**
 * The whole-frame path: frames of tasks go in, time passes until they are due, worker batches come out. What the
 * main thread does for a task between its submission and its thread, without the store.
 */
import type { Instant } from '../../src/core/clock.js';
import { FrameKind, FrameWriter } from '../../src/core/frame.js';
import { writeTask } from '../../src/core/records.js';
import { type BatchHandle, Place, TaskTable } from '../../src/timing/task-table.js';

const TASKS_PER_FRAME = 64;
const PAYLOAD_BYTES = 200;
/** Tasks of one round are due within so many milliseconds of its begin. */
const DUE_SPAN_MS = 100;
const WALL_MS = 1_700_000_000_000;

const STEPS = ['ingest', 'due', 'claim', 'launch'] as const;

export interface FramesMeasured {
  /** From the frame to the batch that could be posted: the median round. */
  readonly nsPerTask: number;
  /** What its steps took in that round; what is missing to the sum is the bench's own. */
  readonly stepsNs: readonly (readonly [(typeof STEPS)[number], number])[];
}

/** Adds up milliseconds by step: what has passed since the last call is the step's. */
class StopWatch {
  readonly ms: Float64Array = new Float64Array(STEPS.length);
  readonly startedAt: number = performance.now();
  #at = this.startedAt;

  note(step: (typeof STEPS)[number]): void {
    const now = performance.now();
    this.ms[STEPS.indexOf(step)]! += now - this.#at;
    this.#at = now;
  }
}

/** @param frames - in one round; they are in the table together */
export function measureFrames(frames: number, rounds: number): FramesMeasured {
  const table = new TaskTable({ executor: 'bench' });
  const type = { name: 'work', place: Place.THREAD };
  table.defineType(type, { wallMs: WALL_MS, monoMs: 0 });
  const measured: FramesMeasured[] = [];
  const tasks = frames * TASKS_PER_FRAME;
  for (let round = 0; round < rounds; round++) {
    const startMs = round * 1_000;
    const input = Array.from({ length: frames }, (_, i) => frameOf(startMs, i));
    const watch = new StopWatch();
    const segments = input.map((frame, i) => table.ingest(frame, `r${round}.${i}`, at(startMs)));
    watch.note('ingest');
    const batches: BatchHandle[] = [];
    const packed = packDue(table, startMs, batches, watch);
    const elapsedMs = performance.now() - watch.startedAt;
    if (packed !== tasks) throw new Error(`${packed} tasks were packed`);
    measured.push({
      nsPerTask: (elapsedMs * 1e6) / tasks,
      stepsNs: STEPS.map((step, i) => [step, (watch.ms[i]! * 1e6) / tasks]),
    });
    for (const batch of batches) table.loseBatch(batch);
    for (const segment of segments) if (!table.drop(segment)) throw new Error('still in a batch');
  }
  table.close();
  return measured.sort((a, b) => a.nsPerTask - b.nsPerTask)[measured.length >> 1]!;
}

/** Lets the round's time pass, and packs what becomes due into batches of up to 64. */
function packDue(
  table: TaskTable,
  startMs: number,
  batches: BatchHandle[],
  watch: StopWatch,
): number {
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
    watch.note('due');
    const cut = table.beginCut();
    for (;;) {
      const claimed = table.claim(cut, limits, now);
      watch.note('claim');
      if (claimed === undefined) break;
      packed += claimed.tasks;
      if (table.launch(claimed.batch, 1).length === 0) throw new Error('an empty batch');
      batches.push(claimed.batch);
      watch.note('launch');
    }
    table.settle(cut);
    watch.note('claim');
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
