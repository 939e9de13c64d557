import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { isMillraceError } from '../../src/core/errors.js';
import { FrameKind, FrameWriter, openFrame } from '../../src/core/frame.js';
import {
  readBatchEntry,
  readResult,
  readState,
  readTask,
  writeResult,
  writeState,
  writeTask,
} from '../../src/core/records.js';
import { Outcome, TaskState } from '../../src/core/states.js';
import {
  type BatchHandle,
  type ClaimLimits,
  type CutHandle,
  Place,
  type SegmentHandle,
  type TaskHandle,
  TaskTable,
} from '../../src/timing/task-table.js';

const MIB = 2 ** 20;
const NOW = { wallMs: 1_000_000, monoMs: 5_000 };
const NO_BYTES = new Uint8Array(0);
const ALL = {
  place: Place.THREAD,
  tasksMax: 4096,
  segmentsMax: 100,
  bytesMax: 1e9,
  workMsMax: 1e9,
};
const KEEP = [TaskState.COMPLETED, TaskState.FAILED];

interface Draft {
  readonly concurrencyKey?: string;
  readonly type?: string;
  readonly tenant?: string;
  readonly dueAtMs?: number;
  readonly expiresAtMs?: number;
  readonly priority?: number;
  readonly losses?: number;
  readonly payload?: string;
}

function tasksFrame(drafts: readonly Draft[]): Uint8Array<ArrayBuffer> {
  const writer = new FrameWriter(FrameKind.TASKS);
  for (const draft of drafts) {
    const payload = draft.payload ?? 'payload';
    writeTask(writer, {
      type: 't',
      tenant: '',
      dueAtMs: NOW.wallMs,
      submittedAtMs: NOW.wallMs,
      expiresAtMs: 0,
      priority: 0,
      attempt: 0,
      losses: 0,
      version: 0,
      metadata: undefined,
      ...draft,
      payload,
      payloadBytes: Buffer.byteLength(payload),
    });
  }
  return writer.finish();
}

function resultsFrame(
  results: readonly { slot: number; outcome?: Outcome; json?: string }[],
): Uint8Array<ArrayBuffer> {
  const writer = new FrameWriter(FrameKind.RESULTS);
  for (const { slot, outcome = Outcome.COMPLETED, json } of results) {
    writeResult(writer, { slot, outcome, attempt: 1, runMs: 2, json });
  }
  return writer.finish();
}

function setup(options: { ageingMs?: number } = {}): {
  readonly table: TaskTable;
  claim(limits?: Partial<ClaimLimits>): BatchHandle;
  indexesOf(batch: BatchHandle): number[];
} {
  const table = new TaskTable({ executor: 'exec0001', startMonoMs: NOW.monoMs, ...options });
  table.defineType({ name: 't', place: Place.THREAD }, NOW);
  return {
    table,
    claim: (limits) => {
      const cut = table.beginCut();
      const claimed = table.claim(cut, { ...ALL, ...limits }, NOW);
      table.settle(cut);
      return claimed?.batch ?? (0 as BatchHandle);
    },
    indexesOf: (batch) => {
      const frame = openFrame(table.launch(batch, 1), FrameKind.BATCH);
      return Array.from({ length: frame.count }, (_, i) => readBatchEntry(frame, i).index);
    },
  };
}

/** The message of what a call throws. */
function thrown(call: () => unknown): string {
  try {
    call();
  } catch (error) {
    assert.ok(isMillraceError(error), String(error));
    return `${error.code}: ${error.message}`;
  }
  return 'nothing';
}

test('no frame of tasks that the reader refuses is taken, and each is refused for the same reason', () => {
  const { table } = setup();
  const frame = tasksFrame([{ payload: 'abc' }, { type: 'u', tenant: 'acme', payload: 'defgh' }]);
  const read = (bytes: Uint8Array): void => {
    const reader = openFrame(bytes, FrameKind.TASKS);
    for (let i = 0; i < reader.count; i++) readTask(reader, i);
  };
  const compare = (bytes: Uint8Array): void => {
    const byReader = thrown(() => read(bytes));
    let segment = 0 as SegmentHandle;
    const byTable = thrown(() => {
      segment = table.ingest(bytes, 'ref', NOW);
    });
    // The table is stricter in one thing: records must not share bytes.
    if (!byTable.includes('share bytes')) assert.equal(byTable, byReader);
    if (segment !== 0) table.drop(segment);
    assert.equal(table.stats().tasks, 0);
  };
  for (let length = 0; length < frame.length; length++) {
    compare(frame.slice(0, length));
    const fitted = frame.slice(0, length);
    if (length >= 32) new DataView(fitted.buffer).setUint32(24, length, true);
    compare(fitted);
  }
  for (let at = 0; at < frame.length; at++) {
    for (const value of [0, 1, 2, 7, 0x7f, 0x80, 0xff, frame[at]! ^ 1]) {
      const changed = frame.slice();
      changed[at] = value;
      compare(changed);
    }
  }
  assert.ok(table.check());
  table.close();
});

test('a damaged frame of results changes nothing, whatever byte is damaged', () => {
  const { table, claim } = setup();
  table.ingest(tasksFrame([{}, {}, {}]), 'ref', NOW);
  const batch = claim();
  const frame = resultsFrame([
    { slot: 0, json: '"a"' },
    { slot: 1, json: '"bb"', outcome: Outcome.FAILED },
  ]);
  let refused = 0;
  for (let at = 0; at < frame.length; at++) {
    const changed = frame.slice();
    changed[at] = 0xff;
    const byReader = thrown(() => {
      const reader = openFrame(changed, FrameKind.RESULTS);
      for (let i = 0; i < reader.count; i++) readResult(reader, i);
    });
    if (byReader === 'nothing') continue;
    refused++;
    assert.equal(
      thrown(() => table.applyResults(batch, changed, NOW)),
      byReader,
    );
    assert.equal(table.stats().running, 3);
  }
  assert.ok(refused > 40, `${refused} were refused`);
  assert.equal(table.applyResults(batch, frame, NOW)?.count, 1);
  assert.equal(table.stats().completed, 1);
  table.close();
});

test('an overlay that names a task twice, or one that is not there, is refused as a whole', () => {
  const { table } = setup();
  const segment = table.ingest(tasksFrame([{}, {}]), 'ref', NOW, { hold: true });
  const overlay = (...indexes: number[]): Uint8Array => {
    const writer = new FrameWriter(FrameKind.STATES);
    for (const index of indexes) {
      writeState(writer, {
        index,
        state: TaskState.COMPLETED,
        attempt: 1,
        losses: 0,
        dueAtMs: 0,
        atMs: 1,
        executor: '',
        version: 0,
        bytes: NO_BYTES,
      });
    }
    return writer.finish();
  };
  for (const indexes of [[0, 0], [0, 2], [65_535]]) {
    assert.match(
      thrown(() => table.applyOverlay(segment, overlay(...indexes))),
      /STORE_CORRUPT/,
    );
    assert.equal(table.segmentInfo(segment)?.open, 2);
  }
  table.applyOverlay(segment, overlay(1));
  assert.equal(table.segmentInfo(segment)?.open, 1);
  assert.match(
    thrown(() => table.applyOverlay(segment, overlay(0))),
    /INTERNAL/,
    'a second overlay',
  );
  assert.deepEqual(table.resume(segment, NOW), { open: 1, openBytes: 7, lost: [] });
  table.close();
});

test('what ran under a process that is gone is listed when its segment is resumed', () => {
  const { table, claim } = setup();
  const frame = tasksFrame([{}, {}, { dueAtMs: NOW.wallMs + 50 }]);
  const first = table.ingest(frame, 'ref', NOW);
  const batch = claim({ tasksMax: 1 });
  const overlay = table.overlay(first)!;
  assert.equal(readState(openFrame(overlay, FrameKind.STATES), 0).executor, 'exec0001');
  table.loseBatch(batch);

  const next = new TaskTable({ executor: 'exec0002', startMonoMs: NOW.monoMs });
  next.defineType({ name: 't', place: Place.THREAD }, NOW);
  const segment = next.ingest(frame, 'ref', NOW, { hold: true });
  assert.equal(next.readyCount, 0);
  next.applyOverlay(segment, overlay);
  assert.deepEqual(next.overlay(segment), overlay);
  const { lost, open } = next.resume(segment, NOW);
  assert.deepEqual(lost, [next.taskAt(segment, 0)]);
  assert.equal(open, 3);
  assert.equal(next.readyCount, 1);
  assert.equal(next.delayedCount, 1);
  assert.equal(next.noteLoss(lost[0]!), 1);
  assert.ok(next.retry(lost[0]!, { ...NOW, spent: false }, NOW));
  assert.equal(next.readyCount, 2);
  assert.ok(next.check());
  next.close();
  table.close();
});

/** A frame of states in which each of these runs under that executor, by its second attempt. */
function runningOverlay(executors: readonly string[]): Uint8Array {
  const writer = new FrameWriter(FrameKind.STATES);
  for (const [index, executor] of executors.entries()) {
    writeState(writer, {
      index,
      state: TaskState.RUNNING,
      attempt: 2,
      losses: 0,
      dueAtMs: NOW.wallMs,
      atMs: NOW.wallMs,
      executor,
      version: 0,
      bytes: NO_BYTES,
    });
  }
  return writer.finish();
}

test('what waits since a retry is moved with the wall clock, the rest is not', () => {
  const { table, claim } = setup();
  const segment = table.ingest(tasksFrame([{}, { dueAtMs: NOW.wallMs + 60_000 }]), 'ref', NOW);
  const batch = claim();
  const [retried, waiting] = [0, 1].map((index) => table.taskAt(segment, index));
  table.launch(batch, 1);
  table.applyResults(batch, resultsFrame([{ slot: 0, outcome: Outcome.SNOOZED }]), NOW);
  const dueMs = { wallMs: NOW.wallMs + 60_000, monoMs: NOW.monoMs + 60_000 };
  assert.ok(table.retry(retried!, { ...dueMs, spent: false }, NOW));
  table.shiftWaits(segment, 5_000);
  assert.equal(table.inspect(retried!)!.dueAtMs, dueMs.wallMs, 'it is not held');
  table.hold(segment);
  table.shiftWaits(segment, 5_000);
  const jumped = { wallMs: NOW.wallMs + 5_000, monoMs: NOW.monoMs };
  table.resume(segment, jumped);
  assert.equal(table.inspect(retried!)!.dueAtMs, dueMs.wallMs + 5_000);
  assert.equal(table.inspect(waiting!)!.dueAtMs, dueMs.wallMs);
  assert.equal(table.nextDueMs(), NOW.monoMs + 55_000);
  table.advance({ wallMs: NOW.wallMs + 60_000, monoMs: NOW.monoMs + 55_000 });
  assert.equal(table.nextDueMs(), NOW.monoMs + 60_000);
  assert.ok(table.check());
  table.close();
});

test('a held segment takes no overlay once it has run', () => {
  const { table, claim } = setup();
  const segment = table.ingest(tasksFrame([{}]), 'ref', NOW);
  claim();
  assert.ok(table.hold(segment));
  assert.match(
    thrown(() => table.applyOverlay(segment, runningOverlay(['other']))),
    /INTERNAL/,
  );
  assert.equal(table.executorOf(table.taskAt(segment, 0)), 'exec0001');
  table.close();
});

test('a segment goes to another node while its tasks run here, and comes back', () => {
  const { table, claim } = setup();
  const frame = tasksFrame([{}, {}, {}]);
  const first = table.ingest(frame, 'ref', NOW);
  const tasks = [0, 1, 2].map((index) => table.taskAt(first, index));
  const batch = claim({ tasksMax: 2 });
  table.watch(tasks[1]!);
  table.watch(tasks[2]!);
  assert.ok(table.hold(first));
  assert.equal(table.readyCount, 0);
  const overlay = table.overlay(first)!;
  assert.deepEqual(table.release(first), {
    open: 3,
    openBytes: 21,
    running: 2,
    watched: [
      { index: 1, task: tasks[1] },
      { index: 2, task: tasks[2] },
    ],
  });
  assert.equal(table.release(first), undefined);
  assert.equal(table.openCount, 0);
  assert.equal(table.busyCount, 2);
  assert.equal(table.hasDirty, false);
  assert.equal(table.inspect(tasks[2]!), undefined);
  assert.equal(table.inspect(tasks[0]!)?.isReleased, true);

  const again = table.ingest(frame, 'ref', NOW, { hold: true });
  table.applyOverlay(again, overlay);
  const { lost } = table.resume(again, NOW);
  assert.deepEqual(
    lost.map((task) => table.executorOf(task)),
    ['exec0001', 'exec0001'],
  );
  assert.equal(table.inspect(lost[0]!)?.isReleased, false);
  assert.equal(table.findSegment('ref'), again);

  const verdicts = table.applyResults(batch, resultsFrame([{ slot: 0, json: '"out"' }]), NOW)!;
  assert.equal(verdicts.count, 1);
  assert.equal(verdicts.tasks[0], tasks[0]);
  assert.equal(verdicts.outcomes[0], Outcome.COMPLETED);
  assert.equal(table.forget(tasks[1]!), false, 'a task that runs was forgotten');
  assert.ok(table.end(lost[0]!, TaskState.COMPLETED, Buffer.from('"out"'), NOW));
  assert.ok(table.forget(tasks[0]!));
  assert.deepEqual(table.loseBatch(batch), [tasks[1]]);
  assert.ok(table.forget(tasks[1]!));
  assert.equal(table.segmentInfo(first), undefined);
  assert.equal(table.stats().segments, 1);
  assert.ok(table.check());
  table.close();
});

test('nothing is kept of the executors of other nodes once their tasks have ended, or gone on', () => {
  const { table } = setup();
  let bytes = 0;
  for (let round = 0; round < 400; round++) {
    const executors = [0, 1, 2].map((i) => `${'executor'.repeat(4)}${round}.${i}`);
    const frame = tasksFrame(executors.map(() => ({ type: 'nobody' })));
    const segment = table.ingest(frame, `segment${round}`, NOW, { hold: true });
    table.applyOverlay(segment, runningOverlay(executors));
    const { lost } = table.resume(segment, NOW);
    assert.deepEqual(
      lost.map((task) => table.executorOf(task)),
      executors,
    );
    assert.ok(table.retry(lost[0]!, { ...NOW, spent: false }, NOW));
    assert.ok(table.end(lost[1]!, TaskState.COMPLETED, NO_BYTES, NOW));
    const stands = openFrame(table.overlay(segment)!, FrameKind.STATES);
    assert.equal(readState(stands, 1).executor, executors[1]);
    assert.equal(readState(stands, 1).attempt, 2);
    const cut = table.beginCut();
    table.file(cut, segment, { keep: KEEP, operationsLeft: 100, bytesLeft: 1e6 });
    if (round % 2 === 0) table.settle(cut);
    else table.revert(cut);
    if (round % 3 === 0) assert.equal(table.release(segment)?.running, 0);
    else assert.ok(table.drop(segment));
    if (round === 100) bytes = table.stats().bytes;
  }
  assert.equal(table.stats().bytes, bytes);
  table.close();
});

test('tasks of a type without a handler wait, and are ready when it is defined', () => {
  const { table, claim, indexesOf } = setup();
  const segment = table.ingest(tasksFrame([{ type: 'later' }, {}, { type: 'later' }]), 'ref', NOW);
  assert.deepEqual(table.takeUnhandled(), [table.taskAt(segment, 0), table.taskAt(segment, 2)]);
  assert.deepEqual(table.takeUnhandled(), []);
  assert.deepEqual(indexesOf(claim()), [1]);
  table.defineType({ name: 'later', place: Place.THREAD }, NOW);
  assert.deepEqual(indexesOf(claim()), [0, 2]);
  table.close();
});

test('a type is passed over at its limit, which defining it again changes', () => {
  const { table, claim, indexesOf } = setup();
  table.defineType({ name: 'few', place: Place.THREAD, concurrency: 2 }, NOW);
  const drafts = Array.from({ length: 6 }, () => ({ type: 'few', priority: 1 }));
  table.ingest(tasksFrame([...drafts, {}]), 'ref', NOW);
  assert.equal(table.takeable(Place.THREAD, 100), 3);
  assert.equal(table.takeable(Place.THREAD, 2), 2);
  assert.equal(table.takeable(Place.INLINE, 100), 0);
  const batch = claim();
  assert.deepEqual(indexesOf(batch), [0, 1, 6]);
  assert.equal(table.takeable(Place.THREAD, 100), 0);
  table.defineType({ name: 'few', place: Place.THREAD, concurrency: 3 }, NOW);
  assert.deepEqual(indexesOf(claim()), [2]);
  table.applyResults(batch, resultsFrame([{ slot: 1 }]), NOW);
  assert.equal(table.takeable(Place.THREAD, 100), 1);
  table.close();
});

test('with a concurrency of 0 none of a type begins, what runs goes on, and others are not held up', () => {
  const { table, claim, indexesOf } = setup();
  const held = (concurrency: number) =>
    table.defineType({ name: 'held', place: Place.THREAD, concurrency }, NOW);
  held(1);
  table.ingest(tasksFrame([{ type: 'held' }, { type: 'held' }, {}]), 'ref', NOW);
  const running = claim();
  assert.deepEqual(indexesOf(running), [0, 2]);
  held(0);
  table.applyResults(running, resultsFrame([{ slot: 0 }]), NOW);
  assert.equal(table.takeable(Place.THREAD, 100), 0);
  held(1);
  assert.deepEqual(indexesOf(claim()), [1]);
  table.close();
});

test('what a task carries and ended with can be read, under names of any length', () => {
  const { table, claim } = setup();
  const writer = new FrameWriter(FrameKind.TASKS);
  const tenant = 'ü'.repeat(2_000);
  writeTask(writer, {
    type: 't',
    tenant,
    dueAtMs: 0,
    submittedAtMs: 1,
    expiresAtMs: 0,
    priority: 0,
    attempt: 0,
    losses: 0,
    version: 3,
    payload: 'in',
    payloadBytes: 2,
    metadata: Buffer.from('{"key":"k"}'),
  });
  const ref = 'segment'.repeat(300);
  const segment = table.ingest(writer.finish(), ref, NOW);
  const task = table.taskAt(segment, 0);
  table.setWeight(tenant, 2);
  assert.equal(table.tenantOf(task), tenant);
  assert.equal(table.findSegment(ref), segment);
  assert.equal(table.segmentRef(segment), ref);
  assert.equal(Buffer.from(table.metadataOf(task)!).toString(), '{"key":"k"}');
  assert.equal(table.endOf(task)?.length, 0);
  table.applyResults(claim(), resultsFrame([{ slot: 0, json: '"out"' }]), NOW);
  assert.equal(Buffer.from(table.endOf(task)!).toString(), '"out"');
  assert.equal(table.inspect(task)?.version, 3);
  table.close();
});

test('tenants of one priority share batches by their weights', () => {
  const { table, claim } = setup();
  table.setWeight('pro', 4);
  const drafts = Array.from({ length: 200 }, (_, i) => ({ tenant: i < 100 ? 'free' : 'pro' }));
  table.ingest(tasksFrame(drafts), 'ref', NOW);
  const frame = openFrame(table.launch(claim({ tasksMax: 50 }), 1), FrameKind.BATCH);
  const tenants = Array.from({ length: 50 }, (_, i) => readBatchEntry(frame, i).tenant);
  assert.equal(tenants.filter((tenant) => tenant === 'pro').length, 40);
  table.close();
});

test('a tenant that is stopped is passed over and stays ready, in all types and also among those that run alone', () => {
  const { table, claim, indexesOf } = setup();
  table.defineType({ name: 'u', place: Place.THREAD }, NOW);
  const segment = table.ingest(
    tasksFrame([
      { tenant: 'a' },
      { tenant: 'b' },
      { tenant: 'a', type: 'u' },
      { tenant: 'a', priority: 9 },
      { tenant: 'b', type: 'u' },
    ]),
    'ref',
    NOW,
  );
  table.stopTenant('a', true);
  table.stopTenant('a', true);
  assert.equal(table.takeable(Place.THREAD, 10), 2);
  assert.equal(table.stats().readyThread, 5);
  assert.deepEqual(indexesOf(claim()).sort(), [1, 4]);
  assert.equal(table.cancel(table.taskAt(segment, 0), NO_BYTES, NOW), 'cancelled');
  table.stopTenant('a', false);
  table.stopTenant('a', false);
  assert.deepEqual(indexesOf(claim({ tasksMax: 1 })), [3]);
  assert.equal(table.takeable(Place.THREAD, 10), 1);
  assert.ok(table.check());
  table.close();
});

test('a suspect of a type that has no room does not hold up the suspects behind it', () => {
  const { table, claim, indexesOf } = setup();
  const u = table.defineType({ name: 'u', place: Place.THREAD, concurrency: 0 }, NOW);
  const segment = table.ingest(tasksFrame([{ type: 'u' }, {}, { type: 'u' }]), 'ref', NOW);
  for (let index = 0; index < 3; index++) table.isolate(table.taskAt(segment, index));
  // Isolated from when they are ready next.
  table.hold(segment);
  table.resume(segment, NOW);
  assert.deepEqual(indexesOf(claim({ mode: 'alone' })), [1]);
  assert.equal(claim({ mode: 'alone' }), 0);
  assert.equal(table.takeable(Place.THREAD, 10, true), 2);
  table.defineType({ name: 'u', place: Place.THREAD }, NOW);
  // Who was set aside went behind the others.
  assert.deepEqual(indexesOf(claim({ mode: 'alone' })), [2]);
  assert.equal(table.typeState(u)?.running, 1);
  assert.ok(table.check());
  table.close();
});

test('each claim of a type costs a credit, and below one nothing of it is claimed', () => {
  const { table, claim, indexesOf } = setup();
  const u = table.defineType({ name: 'u', place: Place.THREAD }, NOW);
  const drafts = Array.from({ length: 10 }, (_, i) => (i === 9 ? {} : { type: 'u' }));
  const segment = table.ingest(tasksFrame(drafts), 'ref', NOW);
  table.addCredits(u, 0, 3);
  assert.equal(table.takeable(Place.THREAD, 10), 4);
  assert.deepEqual(indexesOf(claim()), [0, 1, 2, 9]);
  table.addCredits(u, 0.5, 3);
  assert.equal(claim(), 0);
  table.addCredits(u, 0.5, 3);
  assert.deepEqual(indexesOf(claim()), [3]);
  // Those that run alone cost one as well.
  table.isolate(table.taskAt(segment, 4));
  table.hold(segment);
  table.resume(segment, NOW);
  assert.equal(claim({ mode: 'alone' }), 0);
  table.addCredits(u, 1, 3);
  assert.deepEqual(indexesOf(claim({ mode: 'alone' })), [4]);
  assert.equal(claim(), 0);
  table.addCredits(u, 0, Number.POSITIVE_INFINITY);
  assert.deepEqual(indexesOf(claim()), [5, 6, 7, 8]);
  table.close();
});

test('what failed for good runs again in the next version, also by an overlay that says so', () => {
  const { table, claim, indexesOf } = setup();
  const segment = table.ingest(tasksFrame([{ expiresAtMs: NOW.wallMs + 1 }, {}]), 'ref', NOW);
  const task = table.taskAt(segment, 0);
  assert.equal(table.redrive(task, NOW), false);
  const batch = claim();
  table.applyResults(batch, resultsFrame([{ slot: 0, outcome: Outcome.FAILED_FOR_GOOD }]), NOW);
  table.end(task, TaskState.FAILED, NO_BYTES, NOW);
  assert.equal(table.redrive(task, NOW), false);
  const cut = table.beginCut();
  table.file(cut, segment, { keep: KEEP, operationsLeft: 10, bytesLeft: 1e6 });
  table.settle(cut);
  assert.equal(table.stats().open, 1);
  const later = { wallMs: NOW.wallMs + 10, monoMs: NOW.monoMs + 10 };
  assert.equal(table.redrive(task, later), true);
  assert.equal(table.redrive(task, later), false);
  assert.deepEqual([table.stats().open, table.hasExpired, table.hasDirty], [2, false, true]);
  const { version, attempt, losses, state } = table.inspect(task)!;
  assert.deepEqual([version, attempt, losses, state], [1, 0, 0, TaskState.PENDING]);
  const overlay = table.overlay(segment)!;
  assert.deepEqual(indexesOf(claim()), [0]);
  assert.ok(table.check());
  table.close();

  const { table: next } = setup();
  const held = next.ingest(tasksFrame([{ expiresAtMs: NOW.wallMs + 1 }, {}]), 'ref', NOW, {
    hold: true,
  });
  next.applyOverlay(held, overlay);
  next.resume(held, later);
  assert.equal(next.inspect(next.taskAt(held, 0))!.version, 1);
  assert.equal(next.hasExpired, false);
  assert.equal(next.takeable(Place.THREAD, 10), 1);
  next.close();
});

test('a task that waits may be due at another time, and lives as long from there; one that does not is refused', () => {
  const { table, claim } = setup();
  const expiresAtMs = NOW.wallMs + 100;
  const segment = table.ingest(tasksFrame([{ expiresAtMs }, {}, {}]), 'ref', NOW);
  const [task, ran, ended] = [0, 1, 2].map((i) => table.taskAt(segment, i));
  const at = (inMs: number, isByDate = false) => ({
    wallMs: NOW.wallMs + inMs,
    monoMs: NOW.monoMs + inMs,
    isByDate,
  });
  assert.equal(table.reschedule(task!, at(5_000), NOW), 'rescheduled');
  assert.deepEqual([table.stats().delayed, table.stats().readyThread], [1, 2]);
  assert.equal(table.inspect(task!)!.expiresAtMs, expiresAtMs + 5_000);
  assert.ok(table.hasDirty);
  const overlay = table.overlay(segment)!;
  table.cancel(ended!, NO_BYTES, NOW);
  claim();
  assert.equal(table.reschedule(ran!, at(0), NOW), 'running');
  assert.equal(table.reschedule(ended!, at(0), NOW), 'ended');
  assert.equal(table.reschedule(9_999 as TaskHandle, at(0), NOW), 'gone');
  assert.equal(table.reschedule(task!, at(-1_000), NOW), 'rescheduled');
  assert.deepEqual([table.stats().delayed, table.hasExpired], [0, true]);
  assert.ok(table.check());
  table.close();

  // Who takes it over knows both.
  const { table: next } = setup();
  const held = next.ingest(tasksFrame([{ expiresAtMs }, {}, {}]), 'ref', NOW, { hold: true });
  next.applyOverlay(held, overlay);
  assert.equal(next.reschedule(next.taskAt(held, 1), at(9_000), NOW), 'rescheduled');
  next.resume(held, NOW);
  assert.equal(next.stats().delayed, 2);
  const { dueAtMs, expiresAtMs: expires } = next.inspect(next.taskAt(held, 0))!;
  assert.deepEqual([dueAtMs, expires], [NOW.wallMs + 5_000, expiresAtMs + 5_000]);
  // A jump of the wall clock moves what is due by date, and nothing else.
  assert.equal(next.reschedule(next.taskAt(held, 2), at(8_000, true), NOW), 'rescheduled');
  next.hold(held);
  next.shiftWaits(held, 60_000);
  assert.equal(next.inspect(next.taskAt(held, 1))!.dueAtMs, NOW.wallMs + 69_000);
  assert.equal(next.inspect(next.taskAt(held, 2))!.dueAtMs, NOW.wallMs + 8_000);
  next.close();
});

test('of tasks that share a key so many are ready at a time, in their order; each has its slot until it is over', () => {
  const { table, claim, indexesOf } = setup();
  table.defineType({ name: 'two', place: Place.THREAD, perKey: 2 }, NOW);
  const drafts = [
    ...Array.from({ length: 4 }, () => ({ concurrencyKey: 'a' })),
    { concurrencyKey: 'b' },
    {},
    ...Array.from({ length: 4 }, () => ({ concurrencyKey: 'c', type: 'two' })),
  ];
  const segment = table.ingest(tasksFrame(drafts), 'ref', NOW);
  const task = (index: number) => table.taskAt(segment, index);
  const done = (batch: BatchHandle, slots: readonly number[]): void => {
    table.applyResults(batch, resultsFrame(slots.map((slot) => ({ slot }))), NOW);
  };
  assert.equal(table.takeable(Place.THREAD, 100), 5);
  assert.equal(table.stats().readyThread, 10);
  assert.deepEqual(
    [0, 1].map((index) => table.inspect(task(index))!.isParked),
    [false, true],
  );
  const first = claim();
  assert.deepEqual(indexesOf(first).sort(), [0, 4, 5, 6, 7]);
  assert.equal(claim(), 0);
  assert.ok(table.check());

  // One ends, one is put off, and one that is parked is cancelled: the next ones come up.
  done(first, [0]);
  table.cancel(task(2), NO_BYTES, NOW);
  assert.equal(
    table.reschedule(task(8), { wallMs: 0, monoMs: 1e6, isByDate: false }, NOW),
    'rescheduled',
  );
  const second = claim();
  assert.deepEqual(indexesOf(second), [1]);
  const lost = table.loseBatch(first);
  assert.equal(claim(), 0);
  const due = { wallMs: NOW.wallMs, monoMs: NOW.monoMs, spent: true };
  for (const one of lost) table.retry(one, due, NOW);
  assert.deepEqual(indexesOf(claim()).sort(), [4, 5, 6, 9]);
  table.unclaim(second, NOW);
  assert.deepEqual(indexesOf(claim()), [3]);
  assert.ok(table.check());
  table.close();
});

test('what runs elsewhere has its slot, and what goes to another node leaves it', () => {
  const { table, claim, indexesOf } = setup();
  const frame = tasksFrame([{ concurrencyKey: 'a' }, { concurrencyKey: 'a' }]);
  const segment = table.ingest(frame, 'ref', NOW);
  const batch = claim();
  assert.deepEqual(indexesOf(batch), [0]);
  const overlay = table.overlay(segment)!;
  table.release(segment);
  // What comes here meanwhile is not held up by what is another's business.
  table.ingest(tasksFrame([{ concurrencyKey: 'a' }]), 'later', NOW);
  assert.equal(table.takeable(Place.THREAD, 9), 1);
  assert.ok(table.check());

  const { table: next, claim: claimNext } = setup();
  const held = next.ingest(frame, 'ref', NOW, { hold: true });
  next.applyOverlay(held, overlay);
  const { lost } = next.resume(held, NOW);
  assert.equal(lost.length, 1);
  assert.equal(claimNext(), 0);
  next.end(lost[0]!, TaskState.COMPLETED, NO_BYTES, NOW);
  assert.notEqual(claimNext(), 0);
  assert.ok(next.check());
  table.close();
  next.close();
});

test('a dead letter keeps its key, and a segment that is dropped lets the others in', () => {
  const { table, claim } = setup();
  const segment = table.ingest(tasksFrame([{ concurrencyKey: 'a' }]), 'ref', NOW);
  table.ingest(tasksFrame([{ concurrencyKey: 'a' }]), 'other', NOW);
  const batch = claim();
  const [task] = table.loseBatch(batch);
  table.end(task!, TaskState.FAILED, Buffer.from('{}'), NOW);
  assert.equal(table.takeable(Place.THREAD, 9), 1);
  const letter = table.deadLetter(task!);
  const at = new DataView(letter.buffer, letter.byteOffset).getUint32(0, true) + 4;
  const reader = openFrame(letter.subarray(at), FrameKind.TASKS);
  assert.equal(readTask(reader, 0).concurrencyKey, 'a');
  table.drop(segment);
  table.drop(table.findSegment('other'));
  assert.ok(table.check());
  table.close();
});

test('each tenant has credits of its own, of one type and of all; who is seldom seen has them all', () => {
  const { table, claim, indexesOf } = setup();
  const u = table.defineType({ name: 'u', place: Place.THREAD }, NOW);
  table.ingest(
    tasksFrame([
      ...Array.from({ length: 4 }, () => ({ tenant: 'a', type: 'u' })),
      ...Array.from({ length: 4 }, () => ({ tenant: 'b', type: 'u' })),
      ...Array.from({ length: 4 }, () => ({ tenant: 'a' })),
    ]),
    'ref',
    NOW,
  );
  table.addTenantCredits(u, 0, 1);
  table.addTenantCredits(undefined, 0, 3);
  assert.equal(table.hasSpentTenants, false);
  assert.deepEqual([table.tenantCredits(u, 'a'), table.tenantCredits(undefined, 'new')], [1, 3]);
  assert.deepEqual(indexesOf(claim()).sort(), [0, 4, 8, 9]);
  assert.equal(claim(), 0);
  assert.equal(table.hasSpentTenants, true);
  assert.deepEqual([table.tenantCredits(u, 'a'), table.tenantCredits(undefined, 'a')], [0, 0]);
  assert.equal(table.tenantCredits(undefined, 'b'), 2);
  // One more of a type, but `a` has none left of all.
  table.addTenantCredits(u, 1, 1);
  assert.deepEqual(indexesOf(claim()), [5]);
  table.addTenantCredits(undefined, 1, 3);
  assert.equal(indexesOf(claim()).length, 1);
  assert.equal(table.addTenantCredits(undefined, 0.5, 3), 2);
  table.addTenantCredits(undefined, 0, Number.POSITIVE_INFINITY);
  table.addTenantCredits(u, 0, Number.POSITIVE_INFINITY);
  assert.equal(indexesOf(claim()).length, 6);
  assert.ok(table.check());
  table.close();
});

test('an old task overtakes a young one of higher priority by its age', () => {
  const { table, claim, indexesOf } = setup({ ageingMs: 1_000 });
  table.ingest(tasksFrame([{ priority: 0 }]), 'old', NOW);
  const later = { wallMs: NOW.wallMs + 2_500, monoMs: NOW.monoMs + 2_500 };
  table.ingest(tasksFrame([{ priority: 3 }, { priority: 2 }, { priority: 1 }]), 'young', later);
  assert.deepEqual(indexesOf(claim({ tasksMax: 3 })), [0, 0, 1]);
  table.close();
});

test('a batch ends where its work is enough, by the average run time of its types', () => {
  const { table, claim } = setup();
  table.ingest(tasksFrame(Array.from({ length: 20 }, () => ({}))), 'ref', NOW);
  const batch = claim({ tasksMax: 1 });
  assert.equal(table.applyResults(batch, resultsFrame([{ slot: 0 }]), NOW)?.count, 0);
  table.loseBatch(batch);
  const type = table.inspect(table.taskAt(table.findSegment('ref'), 0))!.type;
  assert.deepEqual(table.typeState(type), {
    running: 0,
    averageRunMs: 2,
    ready: 19,
    credits: Number.POSITIVE_INFINITY,
  });
  assert.equal(table.typeName(type), 't');
  const cut = table.beginCut();
  assert.equal(table.claim(cut, { ...ALL, workMsMax: 9 }, NOW)?.tasks, 5);
  table.close();
});

test('segments of more than 256 tasks keep each task where it is', () => {
  const { table, claim } = setup();
  const drafts = Array.from({ length: 600 }, (_, i) => ({ payload: `${i}` }));
  const segment = table.ingest(tasksFrame(drafts), 'large', NOW);
  const other = table.ingest(tasksFrame([{}]), 'other', NOW);
  assert.equal(Buffer.from(table.payloadOf(table.taskAt(segment, 599))!).toString(), '599');
  assert.equal(table.taskAt(segment, 600), 0);
  const frame = openFrame(table.launch(claim(), 9), FrameKind.BATCH);
  assert.equal(frame.count, 601);
  for (let i = 0; i < 600; i++) {
    const entry = readBatchEntry(frame, i);
    assert.equal(entry.index, i);
    assert.equal(Buffer.from(entry.payload).toString(), `${i}`);
  }
  assert.equal(table.segmentRef(other), 'other');
  assert.equal(table.tenantOf(table.taskAt(other, 0)), '');
  table.close();
});

test('numbers that are no handles, or no longer, are refused everywhere', () => {
  const { table, claim } = setup();
  const segment = table.ingest(tasksFrame([{}]), 'ref', NOW);
  const task = table.taskAt(segment, 0);
  const batch = claim();
  assert.equal(table.drop(segment), false, 'a segment with a running task was dropped');
  const cut = table.beginCut();
  table.settle(cut);
  table.loseBatch(batch);
  assert.ok(table.drop(segment));
  // The same place in memory, another generation.
  const again = table.ingest(tasksFrame([{}]), 'ref', NOW);
  assert.notEqual(again, segment);

  const strange = [Number.NaN, -1, -0, 0, 0.5, 2 ** 53, 2 ** 53 - 1, Number.POSITIVE_INFINITY];
  const wrong = [undefined, null, 'x', {}, 1n, Symbol('s')] as unknown as number[];
  for (const handle of [segment, task, batch, again + 1, again + 256, ...strange, ...wrong]) {
    const name = String(handle);
    const aTask = handle as TaskHandle;
    assert.equal(table.inspect(aTask), undefined, name);
    assert.equal(table.payloadOf(aTask), undefined, name);
    assert.equal(table.tenantOf(aTask), undefined, name);
    assert.equal(table.end(aTask, TaskState.CANCELLED, NO_BYTES, NOW), false, name);
    assert.equal(table.retry(aTask, { ...NOW, spent: true }, NOW), false, name);
    assert.equal(table.cancel(aTask, NO_BYTES, NOW), 'gone', name);
    assert.equal(table.watch(aTask), 'gone', name);
    assert.equal(table.noteLoss(aTask), 0, name);
    assert.equal(table.placeOf(aTask), undefined, name);
    assert.equal(table.executorOf(aTask), undefined, name);
    assert.equal(table.forget(aTask), false, name);
    table.unwatch(aTask);
    const aSegment = handle as number as SegmentHandle;
    assert.equal(table.segmentInfo(aSegment), undefined, name);
    assert.equal(table.segmentRef(aSegment), undefined, name);
    assert.equal(table.taskAt(aSegment, 0), 0, name);
    assert.equal(table.overlay(aSegment), undefined, name);
    assert.equal(table.drop(aSegment), false, name);
    assert.equal(table.hold(aSegment), false, name);
    assert.equal(table.release(aSegment), undefined, name);
    assert.deepEqual(table.resume(aSegment, NOW), { open: 0, openBytes: 0, lost: [] }, name);
    const aBatch = handle as number as BatchHandle;
    assert.equal(table.applyResults(aBatch, resultsFrame([]), NOW), undefined, name);
    assert.deepEqual(table.loseBatch(aBatch), [], name);
    assert.deepEqual(table.unclaim(aBatch, NOW), [], name);
    assert.deepEqual(table.unreported(aBatch), [], name);
    assert.match(
      thrown(() => table.launch(aBatch, 1)),
      /INTERNAL/,
      name,
    );
    const aCut = (handle === batch ? cut : handle) as number as CutHandle;
    assert.equal(table.claim(aCut, ALL, NOW), undefined, name);
    assert.match(
      thrown(() => table.settle(aCut)),
      /INTERNAL/,
      name,
    );
    assert.match(
      thrown(() => table.revert(aCut)),
      /INTERNAL/,
      name,
    );
    assert.deepEqual(table.touched(aCut), [], name);
  }
  assert.ok(table.check());
  assert.equal(table.stats().pending, 1);
  table.close();
});

test('arguments of a wrong kind are refused before they reach the core', () => {
  const { table } = setup();
  const frame = tasksFrame([{}]);
  const bad = (call: () => unknown): void => assert.match(thrown(call), /INVALID_OPTION/);
  for (const value of [Number.NaN, -1, Number.POSITIVE_INFINITY, '1', undefined, 2 ** 53]) {
    const ms = value as number;
    bad(() => table.advance({ wallMs: ms, monoMs: 0 }));
    bad(() => table.ingest(frame, 'a', { wallMs: 0, monoMs: ms }));
    bad(() => table.setWeight('a', ms));
    if (value !== undefined && !Number.isFinite(ms)) {
      bad(() => table.shiftWaits(0 as SegmentHandle, ms));
    }
    if (value !== undefined) bad(() => table.advance(NOW, ms));
  }
  for (const value of [undefined, null, 'frame', [1], new ArrayBuffer(8), new Uint16Array(8)]) {
    const bytes = value as unknown as Uint8Array;
    bad(() => table.ingest(bytes, 'a', NOW));
    bad(() => table.applyOverlay(0 as SegmentHandle, bytes));
    bad(() => table.applyResults(0 as BatchHandle, bytes, NOW));
    bad(() => table.end(0 as TaskHandle, TaskState.FAILED, bytes, NOW));
  }
  bad(() => table.ingest(frame, 7 as unknown as string, NOW));
  bad(() => table.ingest(frame, 'a', NOW, { dueMonoMs: new Float64Array(2) }));
  bad(() => table.ingest(frame, 'a', NOW, { dueMonoMs: Float64Array.of(Number.NaN) }));
  bad(() => table.end(0 as TaskHandle, 9 as TaskState, NO_BYTES, NOW));
  bad(() => table.defineType({ name: 'x', place: 2 as Place }, NOW));
  bad(() => table.defineType({ name: 'x', place: Place.INLINE, concurrency: -1 }, NOW));
  bad(() => new TaskTable({ executor: '' }));
  bad(() => new TaskTable({ executor: 'x', ageingMs: -1 }));
  const detached = tasksFrame([{}]);
  structuredClone(detached.buffer, { transfer: [detached.buffer] });
  assert.match(
    thrown(() => table.ingest(detached, 'a', NOW)),
    /STORE_CORRUPT/,
  );
  assert.equal(table.stats().tasks, 0);
  table.close();
});

test('a closed table says so, and closing twice is fine', () => {
  const { table } = setup();
  table.ingest(tasksFrame([{}]), 'ref', NOW);
  table.close();
  table.close();
  assert.equal(table.openCount, 0);
  for (const call of [
    () => table.ingest(tasksFrame([{}]), 'ref', NOW),
    () => table.advance(NOW),
    () => table.stats(),
    () => table.beginCut(),
    () => table.launch(1 as BatchHandle, 1),
    () => table.hold(1 as SegmentHandle),
    () => table.release(1 as SegmentHandle),
    () => table.forget(1 as TaskHandle),
    () => table.executorOf(1 as TaskHandle),
  ]) {
    assert.match(thrown(call), /^ERR_MILLRACE_CLOSED/);
  }
});

test('a million waiting tasks take off-heap memory only, and give it back', {
  timeout: 60_000,
}, () => {
  const { table } = setup();
  const frames = 4_000;
  const payload = 'x'.repeat(200);
  const drafts = Array.from({ length: 250 }, (_, i) => ({ payload, dueAtMs: NOW.wallMs + 1 + i }));
  const frame = tasksFrame(drafts);
  table.drop(table.ingest(frame, 'warm', NOW));
  const refs = Array.from({ length: frames }, (_, i) => `segment${i}`);
  const heapBefore = process.memoryUsage().heapUsed;
  const segments = new Float64Array(frames);
  for (let i = 0; i < frames; i++) segments[i] = table.ingest(frame, refs[i]!, NOW);
  const heapGrowth = process.memoryUsage().heapUsed - heapBefore;
  assert.ok(heapGrowth < 8 * MIB, `the heap grew by ${heapGrowth} bytes`);
  const { bytes, delayed } = table.stats();
  assert.equal(delayed, 1_000_000);
  // 200 of payload, 64 of record in the frame, 64 of the table's own, and the timer's 32.
  const each = bytes / 1_000_000;
  assert.ok(each < 400, `${each} bytes per task`);
  for (const segment of segments) table.drop(segment as SegmentHandle);
  assert.equal(table.stats().tasks, 0);
  table.advance(NOW);
  assert.ok(table.stats().bytes < 40 * MIB, `${table.stats().bytes} bytes for the next wave`);
  let ms = 0;
  for (; table.nextDueMs() < Number.POSITIVE_INFINITY; ms = table.nextDueMs() - NOW.monoMs) {
    assert.ok(ms < 10_000, 'still not all given back');
    table.advance({ wallMs: NOW.wallMs + ms, monoMs: NOW.monoMs + ms });
  }
  assert.ok(table.stats().bytes < 4 * MIB, `${table.stats().bytes} bytes when empty`);
  table.close();
});

test('a full round keeps nothing: no memory is held for tasks that are gone', () => {
  const { table } = setup();
  const frame = tasksFrame(Array.from({ length: 64 }, (_, i) => ({ tenant: `tenant${i}` })));
  const names = Array.from({ length: 64 }, (_, slot) => ({ slot, json: '{"ok":true}' }));
  const results = resultsFrame(names);
  let settled = 0;
  let bytes = 0;
  for (let round = 0; round < 400; round++) {
    table.ingest(frame, `segment${round}`, NOW);
    const cut = table.beginCut();
    const claimed = table.claim(cut, ALL, NOW)!;
    table.settle(cut);
    assert.equal(table.applyResults(claimed.batch, results, NOW)?.count, 0);
    table.loseBatch(claimed.batch);
    const next = table.beginCut();
    const segment = table.firstDirty();
    const filing = table.file(next, segment, { keep: KEEP, operationsLeft: 100, bytesLeft: 1e6 });
    assert.ok(filing.isComplete);
    settled += table.settle(next).tasks;
    assert.ok(table.drop(segment));
    if (round === 100) bytes = table.stats().bytes;
  }
  assert.equal(settled, 400 * 64);
  assert.equal(table.stats().bytes, bytes);
  table.close();
});

test('workers load the table, use it and end at any moment', { timeout: 60_000 }, async () => {
  const worker = (forever: boolean): Worker =>
    new Worker(new URL('./task-worker.js', import.meta.url), { workerData: { forever } });
  const counts = await Promise.all(
    Array.from(
      { length: 4 },
      () =>
        new Promise<number>((resolve, reject) => {
          const one = worker(false);
          one.once('message', resolve);
          one.once('error', reject);
        }),
    ),
  );
  assert.deepEqual(counts, [640, 640, 640, 640]);
  for (let round = 0; round < 4; round++) {
    const one = worker(true);
    await new Promise((resolve) => one.once('message', resolve));
    await one.terminate();
  }
});
