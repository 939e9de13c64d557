/** Runs in a worker: puts tasks through a table; forever, if told so, until it is terminated. */
import { parentPort, workerData } from 'node:worker_threads';
import { FrameKind, FrameWriter } from '../../src/core/frame.js';
import { writeTask } from '../../src/core/records.js';
import { Place, TaskTable } from '../../src/timing/task-table.js';

const { forever } = workerData as { forever: boolean };

const writer = new FrameWriter(FrameKind.TASKS);
for (let i = 0; i < 64; i++) {
  writeTask(writer, {
    type: 't',
    tenant: `tenant${i % 3}`,
    dueAtMs: 1_000 + i,
    submittedAtMs: 0,
    expiresAtMs: 0,
    priority: i % 2,
    attempt: 0,
    losses: 0,
    version: 0,
    payload: 'x'.repeat(200),
    payloadBytes: 200,
    metadata: undefined,
  });
}
const frame = writer.finish();

function use(round: number): number {
  const table = new TaskTable({ executor: 'exec0001', startMonoMs: 1_000 });
  table.defineType({ name: 't', place: Place.THREAD }, { wallMs: 1_000, monoMs: 1_000 });
  for (let i = 0; i < 10; i++) table.ingest(frame, `segment${i}`, { wallMs: 1_000, monoMs: 1_000 });
  const now = { wallMs: 2_000, monoMs: 2_000 };
  while (table.advance(now, 100));
  let count = 0;
  const limits = {
    place: Place.THREAD,
    tasksMax: 64,
    segmentsMax: 99,
    bytesMax: 1e9,
    workMsMax: 9,
  };
  const cut = table.beginCut();
  for (;;) {
    const claimed = table.claim(cut, limits, now);
    if (claimed === undefined) break;
    count += claimed.tasks;
    table.launch(claimed.batch, round);
  }
  // Every other table is left to the end of the environment.
  if (round % 2 === 0) table.close();
  return count;
}

parentPort?.postMessage(use(0));
for (let round = 1; forever; round++) use(round);
