/**
 * The task table against a plain model of it: an object per task, sorted arrays, and the writers of src/core for
 * every frame. After each operation both must tell the same, to the byte where frames leave.
 *
 * Segments are held and resumed, come from another node (whose tasks may run there, or have run on one that is gone),
 * and go to another while their tasks run here, also in the middle of a commit.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Instant } from '../../src/core/clock.js';
import { FrameKind, FrameWriter, openFrame } from '../../src/core/frame.js';
import {
  readTask,
  type StateRecord,
  type TaskToWrite,
  writeBatchEntry,
  writeResult,
  writeState,
  writeTask,
} from '../../src/core/records.js';
import { isEnded, Outcome, TaskState } from '../../src/core/states.js';
import {
  type BatchHandle,
  type ClaimLimits,
  Place,
  type SegmentHandle,
  STALE,
  type TaskHandle,
  TaskTable,
} from '../../src/timing/task-table.js';

const EXECUTOR = 'exec0001';
/** Other incarnations: one lives, one is gone. */
const OTHER = 'other001';
const GONE = 'gone0001';
const NO_BYTES = new Uint8Array(0);
const TYPES = [
  { name: 'few', place: Place.THREAD, concurrency: 3, isJustInTime: true },
  { name: 'many', place: Place.THREAD, concurrency: Number.POSITIVE_INFINITY },
  { name: 'here', place: Place.INLINE, concurrency: 5 },
] as const;
const NAMES = ['few', 'many', 'here', 'nobody'] as const;
const KEEP = [TaskState.COMPLETED, TaskState.FAILED, TaskState.EXPIRED] as const;

interface ModelTask {
  readonly segment: ModelSegment;
  readonly index: number;
  readonly source: TaskToWrite;
  state: TaskState;
  attempt: number;
  isIsolated: boolean;
  losses: number;
  dueAtMs: number;
  changedAtMs: number;
  executor: string;
  /** Ended: who ran it, and under whom the overlay calls it RUNNING until its end is filed; '' if nobody did. */
  ranUnder: string;
  /** Order of becoming ready. */
  ready: number | undefined;
  timer: { readonly tick: number; readonly order: number } | undefined;
  isListedExpired: boolean;
  bytes: Uint8Array;
  isFiled: boolean;
  isSettled: boolean;
  isWatched: boolean;
  isCancelAsked: boolean;
  batch: ModelBatch | undefined;
}

interface ModelSegment {
  readonly ref: string;
  readonly handle: SegmentHandle;
  /** Of a released one: those that stay. */
  tasks: ModelTask[];
  /** Ended and not filed, in order of ending. */
  ended: ModelTask[];
  isHeld: boolean;
  isReleased: boolean;
}

interface ModelBatch {
  readonly handle: BatchHandle;
  readonly tasks: readonly ModelTask[];
  readonly hasReported: boolean[];
}

type Operation =
  | { readonly op: 'submit'; readonly tasks: readonly TaskDraft[]; readonly exact: boolean }
  | { readonly op: 'tick'; readonly ms: number }
  | {
      readonly op: 'commit';
      readonly segmentsMax: number;
      readonly operations: number;
      readonly bytes: number;
      readonly claims: readonly Pick<Required<ClaimLimits>, 'place' | 'tasksMax' | 'mode'>[];
      /** A segment that another node takes while the commit is under way. */
      readonly release: number | undefined;
      readonly isDone: boolean;
    }
  | { readonly op: 'results'; readonly pick: number; readonly outcomes: readonly number[] }
  | { readonly op: 'lose'; readonly pick: number }
  | { readonly op: 'cancel' | 'watch'; readonly pick: number }
  | { readonly op: 'drop' | 'hold' | 'resume' | 'release' | 'forget'; readonly pick: number }
  | {
      readonly op: 'take over';
      readonly tasks: readonly (TaskDraft & { readonly stands: number })[];
      readonly resumes: boolean;
    }
  | { readonly op: 'hear'; readonly pick: number; readonly isDone: boolean };

interface TaskDraft {
  readonly type: number;
  readonly delayMs: number;
  readonly ttlMs: number;
  readonly priority: number;
  readonly payload: number;
  readonly losses: number;
  readonly version: number;
  readonly hasMetadata: boolean;
}

const draft: fc.Arbitrary<TaskDraft> = fc.record({
  type: fc.nat(3),
  delayMs: fc.oneof(fc.constant(0), fc.nat(40), fc.nat(20_000)),
  ttlMs: fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, fc.integer({ min: 1, max: 60 })),
  priority: fc.oneof({ weight: 2, arbitrary: fc.constant(0) }, fc.integer({ min: -3, max: 3 })),
  payload: fc.nat(300),
  losses: fc.oneof({ weight: 5, arbitrary: fc.constant(0) }, fc.nat(3)),
  version: fc.oneof(fc.constant(0), fc.nat(5)),
  hasMetadata: fc.boolean(),
});

const operation: fc.Arbitrary<Operation> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      op: fc.constant('submit' as const),
      tasks: fc.array(draft, { minLength: 1, maxLength: 12 }),
      exact: fc.boolean(),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      op: fc.constant('tick' as const),
      ms: fc.oneof(fc.nat(30), fc.nat(30_000)).map((ms) => ms / 4),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constant('commit' as const),
      segmentsMax: fc.nat(4),
      operations: fc.integer({ min: 1, max: 12 }),
      bytes: fc.oneof(fc.nat(600), fc.constant(1e6)),
      claims: fc.array(
        fc.record({
          place: fc.constantFrom(Place.THREAD, Place.INLINE),
          tasksMax: fc.integer({ min: 1, max: 9 }),
          mode: fc.constantFrom('now', 'now', 'ahead', 'alone'),
        }),
        { maxLength: 4 },
      ),
      release: fc.option(fc.nat(20), { freq: 5, nil: undefined }),
      isDone: fc.boolean(),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constant('results' as const),
      pick: fc.nat(20),
      outcomes: fc.array(fc.nat(6), { maxLength: 9 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('lose' as const), pick: fc.nat(20) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constantFrom('cancel' as const, 'watch' as const),
      pick: fc.nat(500),
    }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('drop' as const), pick: fc.nat(20) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      op: fc.constantFrom('hold', 'resume', 'resume', 'release', 'forget'),
      pick: fc.nat(20),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      op: fc.constant('take over' as const),
      tasks: fc.array(
        fc.tuple(draft, fc.nat(4)).map(([one, stands]) => ({ ...one, stands })),
        { minLength: 1, maxLength: 8 },
      ),
      resumes: fc.boolean(),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      op: fc.constant('hear' as const),
      pick: fc.nat(20),
      isDone: fc.boolean(),
    }),
  },
);

/** Both side by side. */
class Pair {
  readonly table: TaskTable;
  /** Of this node. */
  readonly segments: ModelSegment[] = [];
  /** Of another node, with tasks that stay. */
  readonly released: ModelSegment[] = [];
  readonly batches: ModelBatch[] = [];
  /** Segments to be written, the one that has waited longest first. */
  readonly dirty = new Set<ModelSegment>();
  now: Instant = { wallMs: 1_000_000_000, monoMs: 50_000.25 };
  #order = 0;
  #names = 0;

  constructor() {
    this.table = new TaskTable({ executor: EXECUTOR, startMonoMs: this.now.monoMs, ageingMs: 0 });
    for (const type of TYPES) this.table.defineType(type, this.now);
  }

  /** Of this node. */
  get tasks(): ModelTask[] {
    return this.segments.flatMap((segment) => segment.tasks);
  }

  /** With those that stay of released segments. */
  get allTasks(): ModelTask[] {
    return [...this.segments, ...this.released].flatMap((segment) => segment.tasks);
  }

  run(operation: Operation): void {
    switch (operation.op) {
      case 'submit':
        return this.#submit(operation.tasks, operation.exact);
      case 'tick':
        return this.#tick(operation.ms);
      case 'commit':
        return this.#commit(operation);
      case 'results':
        return this.#results(operation.pick, operation.outcomes);
      case 'lose':
        return this.#lose(operation.pick);
      case 'cancel':
      case 'watch':
        return this.#single(operation.op, operation.pick);
      case 'drop':
        return this.#drop(operation.pick);
      case 'hold':
        return this.#hold(operation.pick);
      case 'resume':
        return this.#resume(this.segments[operation.pick % Math.max(1, this.segments.length)]);
      case 'release':
        return this.#release(operation.pick);
      case 'forget':
        return this.#forget(operation.pick);
      case 'take over':
        return this.#takeOver(operation.tasks, operation.resumes);
      case 'hear':
        return this.#hear(operation.pick, operation.isDone);
    }
  }

  /** Everything that can be asked without changing anything. */
  compare(): void {
    const { table, tasks, allTasks } = this;
    assert.ok(table.check());
    const count = (isSo: (task: ModelTask) => boolean): number => tasks.filter(isSo).length;
    const { bytes: _, ...stats } = table.stats();
    assert.deepEqual(stats, {
      segments: this.segments.length + this.released.length,
      tasks: allTasks.length,
      open: count((task) => !task.isSettled),
      openBytes: payloadBytesOf(tasks.filter((task) => !task.isSettled)),
      pending: count((task) => task.state === TaskState.PENDING),
      running: allTasks.filter((task) => task.state === TaskState.RUNNING).length,
      completed: count((task) => task.state === TaskState.COMPLETED),
      failed: count((task) => task.state === TaskState.FAILED),
      cancelled: count((task) => task.state === TaskState.CANCELLED),
      expired: count((task) => task.state === TaskState.EXPIRED),
      delayed: count((task) => task.timer !== undefined && task.ready === undefined),
      readyThread: count((task) => task.ready !== undefined && /few|many/.test(task.source.type)),
      readyInline: count((task) => task.ready !== undefined && task.source.type === 'here'),
      unhandled: count((task) => task.ready !== undefined && task.source.type === 'nobody'),
      busy: allTasks.filter((task) => task.batch !== undefined).length,
      dirtySegments: this.dirty.size,
    });
    const [oldest] = this.dirty;
    assert.equal(table.firstDirty(), oldest?.handle ?? 0);
    const next = Math.min(...tasks.map((task) => task.timer?.tick ?? Number.POSITIVE_INFINITY));
    assert.ok(table.nextDueMs() <= next, `${table.nextDueMs()} is after ${next}`);
    for (const segment of this.segments) {
      assert.deepEqual(table.overlay(segment.handle), overlayOf(segment));
      assert.equal(table.findSegment(segment.ref), segment.handle);
    }
    for (const segment of this.released) {
      assert.equal(table.overlay(segment.handle), undefined);
      assert.notEqual(table.findSegment(segment.ref), segment.handle);
      assert.equal(table.segmentRef(segment.handle), segment.ref);
      assert.equal(table.segmentInfo(segment.handle)?.tasks, segment.tasks.length);
    }
    for (const task of allTasks) {
      const info = table.inspect(this.handle(task));
      const isRunning = task.state === TaskState.RUNNING;
      const isUnsettled = isEnded(task.state) && !task.isSettled;
      const executor = isRunning ? task.executor : isUnsettled ? task.ranUnder : '';
      assert.equal(table.executorOf(this.handle(task)), executor || undefined);
      assert.equal(info?.isReleased, task.segment.isReleased);
      assert.equal(info?.state, task.state);
      assert.equal(info?.attempt, task.attempt);
      assert.equal(info?.losses, task.losses);
      assert.equal(info?.mustBeAlone, task.state < TaskState.COMPLETED && mustBeAlone(task));
      assert.equal(info?.isReady, task.ready !== undefined);
      assert.equal(info?.isSettled, task.isSettled);
      assert.equal(info?.dueAtMs, task.dueAtMs);
    }
  }

  handle(task: ModelTask): TaskHandle {
    return this.table.taskAt(task.segment.handle, task.index);
  }

  #submit(drafts: readonly TaskDraft[], exact: boolean): void {
    // Exact due times may be earlier than what is stored, by the rounding.
    const dues = drafts.map(
      (one) => this.now.monoMs + one.delayMs - (exact && one.delayMs > 1 ? 0.75 : 0),
    );
    const segment = this.#ingest(drafts, `segment${this.#names++}`, {
      ...(exact && { dueMonoMs: Float64Array.from(dues) }),
    });
    for (const task of segment.tasks) this.#waitUntil(task, dues[task.index]!);
    this.#endExpired();
  }

  #ingest(
    drafts: readonly TaskDraft[],
    ref: string,
    options: { readonly dueMonoMs?: Float64Array; readonly hold?: boolean },
  ): ModelSegment {
    const { now } = this;
    const writer = new FrameWriter(FrameKind.TASKS);
    const sources = drafts.map((one, i): TaskToWrite => {
      const payload = Buffer.alloc(one.payload, i + 1);
      const dueAtMs = now.wallMs + one.delayMs;
      return {
        type: NAMES[one.type]!,
        tenant: '',
        dueAtMs,
        submittedAtMs: now.wallMs,
        expiresAtMs: one.ttlMs === 0 ? 0 : dueAtMs + one.ttlMs,
        priority: one.priority,
        attempt: 0,
        losses: one.losses,
        version: one.version,
        payload,
        payloadBytes: payload.length,
        metadata: one.hasMetadata ? Buffer.from(`{"key":"${i}"}`) : undefined,
      };
    });
    for (const source of sources) writeTask(writer, source);
    const handle = this.table.ingest(writer.finish(), ref, now, options);
    const segment: ModelSegment = {
      ref,
      handle,
      tasks: [],
      ended: [],
      isHeld: options.hold === true,
      isReleased: false,
    };
    this.segments.push(segment);
    sources.forEach((source, index) => {
      segment.tasks.push({
        segment,
        index,
        source,
        state: TaskState.PENDING,
        attempt: 0,
        isIsolated: false,
        losses: source.losses,
        dueAtMs: source.dueAtMs,
        changedAtMs: 0,
        executor: '',
        ranUnder: '',
        ready: undefined,
        timer: undefined,
        isListedExpired: false,
        bytes: NO_BYTES,
        isFiled: false,
        isSettled: false,
        isWatched: false,
        isCancelAsked: false,
        batch: undefined,
      });
    });
    return segment;
  }

  #waitUntil(task: ModelTask, dueMonoMs: number): void {
    if (dueMonoMs <= this.now.monoMs) this.#makeReady(task);
    else task.timer = { tick: Math.ceil(dueMonoMs), order: this.#order++ };
  }

  #makeReady(task: ModelTask): void {
    task.timer = undefined;
    const { expiresAtMs } = task.source;
    if (expiresAtMs > 0 && task.attempt === 0) {
      const leftMs = expiresAtMs - this.now.wallMs;
      if (leftMs <= 0) {
        task.isListedExpired = true;
        return;
      }
      task.timer = { tick: Math.ceil(this.now.monoMs + leftMs), order: this.#order++ };
    }
    task.ready = this.#order++;
  }

  #tick(ms: number): void {
    const monoMs = this.now.monoMs + ms;
    this.now = { monoMs, wallMs: 1_000_000_000 + Math.floor(monoMs - 50_000.25) };
    const due = this.tasks
      .filter((task) => task.timer !== undefined && task.timer.tick <= Math.floor(monoMs))
      .sort((a, b) => a.timer!.tick - b.timer!.tick || a.timer!.order - b.timer!.order);
    for (const task of due) {
      task.timer = undefined;
      if (task.ready === undefined) {
        this.#makeReady(task);
      } else {
        task.ready = undefined;
        task.isListedExpired = true;
      }
    }
    while (this.table.advance(this.now, 3));
    this.#endExpired();
  }

  #endExpired(): void {
    const listed = this.table.takeExpired();
    const expected = this.tasks.filter((task) => task.isListedExpired);
    assert.deepEqual(
      [...listed].sort((a, b) => a - b),
      expected.map((task) => this.handle(task)).sort((a, b) => a - b),
    );
    for (const task of expected) {
      task.isListedExpired = false;
      this.#end(task, TaskState.EXPIRED, Buffer.from('"expired"'));
    }
  }

  #end(task: ModelTask, state: TaskState, bytes: Uint8Array): void {
    assert.ok(this.table.end(this.handle(task), state, bytes, this.now));
    this.#noteEnd(task, state, bytes);
  }

  #noteEnd(task: ModelTask, state: TaskState, bytes: Uint8Array): void {
    task.state = state;
    task.changedAtMs = this.now.wallMs;
    task.ranUnder = task.executor;
    task.executor = '';
    task.bytes = bytes;
    task.timer = undefined;
    task.ready = undefined;
    task.segment.ended.push(task);
    this.dirty.add(task.segment);
  }

  #commit(operation: Operation & { readonly op: 'commit' }): void {
    const { table, now } = this;
    const cut = table.beginCut();
    const touched: ModelSegment[] = [];
    const filed: ModelTask[] = [];
    let operationsLeft = operation.operations;
    let bytesLeft = operation.bytes;
    while (operationsLeft > 3 && table.firstDirty() !== 0) {
      const segment = this.segments.find((one) => one.handle === table.firstDirty())!;
      assert.ok(segment, 'a dirty segment that does not exist');
      const expected = fileModel(segment, filed, operationsLeft, bytesLeft);
      const filing = table.file(cut, segment.handle, { keep: KEEP, operationsLeft, bytesLeft });
      if (!touched.includes(segment)) touched.push(segment);
      assert.deepEqual(filing.frame, expected.frame);
      assert.deepEqual(
        filing.deadLetters,
        expected.dead.map((task) => this.handle(task)),
      );
      for (const task of expected.dead) {
        assert.deepEqual(Buffer.from(table.deadLetter(this.handle(task))), deadLetterOf(task));
      }
      assert.equal(filing.left, segment.ended.length);
      assert.equal(
        filing.isComplete,
        segment.tasks.every((task) => task.isFiled),
      );
      this.dirty.delete(segment);
      if (filing.left > 0) this.dirty.add(segment);
      operationsLeft -= 1 + expected.dead.length;
      bytesLeft = expected.bytesLeft;
      if (filing.left > 0) break;
    }
    const claimed: ModelBatch[] = [];
    let segmentsLeft = operation.segmentsMax;
    for (const { place, tasksMax, mode } of operation.claims) {
      const limits = { place, tasksMax, mode, segmentsMax: segmentsLeft };
      const expected = this.#claimModel(limits, touched);
      const answer = table.claim(cut, { ...limits, bytesMax: 500, workMsMax: 1e9 }, now);
      assert.equal(answer?.tasks ?? 0, expected.length);
      if (answer === undefined) continue;
      segmentsLeft -= answer.segments;
      const batch = {
        handle: answer.batch,
        tasks: expected,
        hasReported: expected.map(() => false),
      };
      for (const task of expected) task.batch = batch;
      claimed.push(batch);
    }
    assert.deepEqual(
      table.touched(cut),
      touched.map((segment) => segment.handle),
    );
    this.compare();

    const watchedBefore = filed.filter((task) => task.isWatched);
    if (operation.release !== undefined) this.#release(operation.release);
    const isOurs = (task: ModelTask): boolean => !task.segment.isReleased;
    if (operation.isDone) {
      const settled = table.settle(cut);
      const watched = watchedBefore.filter(isOurs);
      const ended = filed.filter(isOurs);
      for (const task of ended) task.isSettled = true;
      assert.equal(settled.tasks, ended.length);
      assert.equal(settled.bytes, payloadBytesOf(ended));
      assert.deepEqual(
        settled.watched.map(({ task, state, json }) => [task, state, json]),
        watched.map((task) => [this.handle(task), task.state, Buffer.from(task.bytes).toString()]),
      );
      for (const batch of claimed) {
        assert.deepEqual(table.launch(batch.handle, 77), batchOf(batch.tasks, 77));
        this.batches.push(batch);
      }
      for (const segment of touched) {
        if (segment.isReleased) continue;
        if (segment.tasks.every((task) => task.isSettled)) this.#dropSegment(segment);
      }
    } else {
      table.revert(cut);
      for (const task of filed.filter(isOurs)) {
        task.isFiled = false;
        task.segment.ended.push(task);
      }
      for (const segment of touched) if (!segment.isReleased) this.dirty.add(segment);
      for (const batch of claimed) this.#unclaim(batch);
    }
    this.#endExpired();
  }

  /** Ready tasks in order: priority, then first come. Types at their limit are passed over. */
  #claimModel(
    { place, tasksMax, mode, segmentsMax }: Omit<ClaimLimits, 'bytesMax' | 'workMsMax'>,
    touched: ModelSegment[],
  ): ModelTask[] {
    const taken: ModelTask[] = [];
    let bytes = 0;
    let segmentsLeft = segmentsMax;
    const isAlone = mode === 'alone';
    while (taken.length < (isAlone ? 1 : tasksMax) && bytes < 500) {
      const task = this.#nextReady(place, isAlone);
      if (task === undefined) break;
      if (mode === 'ahead' && task.source.type === 'few') break;
      if (!touched.includes(task.segment)) {
        if (segmentsLeft === 0) break;
        segmentsLeft--;
        touched.push(task.segment);
      }
      if (task.segment.ended.length === 0) this.dirty.delete(task.segment);
      task.ready = undefined;
      task.timer = undefined;
      task.state = TaskState.RUNNING;
      task.executor = EXECUTOR;
      task.attempt++;
      task.changedAtMs = this.now.wallMs;
      // Counts as running for the limit from here on.
      task.batch = { handle: 0 as BatchHandle, tasks: [], hasReported: [] };
      taken.push(task);
      bytes += task.source.payloadBytes;
    }
    return taken;
  }

  #nextReady(place: Place, isAlone: boolean): ModelTask | undefined {
    const { tasks, allTasks } = this;
    const hasRoom = (name: string): boolean => {
      const type = TYPES.find((one) => one.name === name);
      if (type === undefined || type.place !== place) return false;
      const running = allTasks.filter((task) => task.batch && task.source.type === name).length;
      return running < type.concurrency;
    };
    const rooms = new Map(NAMES.map((name) => [name as string, hasRoom(name)]));
    const isHere = ({ source }: ModelTask): boolean =>
      TYPES.some((type) => type.name === source.type && type.place === place);
    const ready = tasks
      .filter((task) => task.ready !== undefined && mustBeAlone(task) === isAlone && isHere(task))
      .sort((a, b) => b.source.priority - a.source.priority || a.ready! - b.ready!);
    const first = ready.findIndex((task) => rooms.get(task.source.type));
    if (isAlone) {
      // One that waits for the limit of its type does not hold up the others: it goes behind them.
      const passedOver = first === -1 ? ready : ready.slice(0, first);
      for (const task of passedOver) task.ready = this.#order++;
    }
    return ready[first];
  }

  #unclaim(batch: ModelBatch): void {
    const left = batch.tasks.filter((task) => task.isCancelAsked || task.segment.isReleased);
    assert.deepEqual(
      this.table.unclaim(batch.handle, this.now),
      left.map((task) => this.handle(task)),
    );
    for (const task of batch.tasks) {
      task.batch = undefined;
      if (!left.includes(task)) this.#backToPending(task);
    }
    for (const task of left) {
      if (task.segment.isReleased) this.#refuseAll(task);
      else this.#end(task, TaskState.CANCELLED, Buffer.from('"asked"'));
    }
  }

  #backToPending(task: ModelTask): void {
    task.state = TaskState.PENDING;
    task.executor = '';
    task.attempt--;
    task.changedAtMs = this.now.wallMs;
    task.dueAtMs = this.now.wallMs;
    this.dirty.add(task.segment);
    if (!task.segment.isHeld) this.#makeReady(task);
  }

  #results(pick: number, outcomes: readonly number[]): void {
    const batch = this.batches[pick % Math.max(1, this.batches.length)];
    if (batch === undefined) return;
    const writer = new FrameWriter(FrameKind.RESULTS);
    const expected: [TaskHandle, number, number][] = [];
    const acts: (() => void)[] = [];
    outcomes.forEach((choice, i) => {
      // Also slots that do not exist, and slots twice.
      const slot = choice === 6 ? batch.tasks.length + 3 : i % (batch.tasks.length + 1);
      const outcome = (choice % 6) as Outcome;
      const json = choice === 1 ? undefined : `"${slot}:${outcome}"`;
      writeResult(writer, { slot, outcome, attempt: 9, runMs: 1, json });
      const task = batch.tasks[slot];
      if (task === undefined || batch.hasReported[slot]) {
        expected.push([0 as TaskHandle, STALE, slot]);
        return;
      }
      batch.hasReported[slot] = true;
      task.batch = undefined;
      if (task.segment.isReleased) {
        expected.push([this.handle(task), outcome, slot]);
        acts.push(() => this.#refuseAll(task));
      } else if (outcome === Outcome.COMPLETED) {
        this.#noteEnd(task, TaskState.COMPLETED, Buffer.from(json ?? ''));
      } else if (outcome === Outcome.NOT_STARTED && !task.isCancelAsked) {
        this.#backToPending(task);
      } else {
        expected.push([this.handle(task), outcome, slot]);
        acts.push(() => this.#decide(task, outcome, Buffer.from(json ?? '')));
      }
    });
    const frame = writer.finish();
    const verdicts = this.table.applyResults(batch.handle, frame, this.now);
    assert.ok(verdicts);
    const seen = Array.from({ length: verdicts.count }, (_, i) => [
      verdicts.tasks[i],
      verdicts.outcomes[i],
      verdicts.slots[i],
    ]);
    assert.deepEqual(seen, expected);
    for (let i = 0; i < verdicts.count; i++) {
      if (verdicts.outcomes[i] === STALE) continue;
      const at = verdicts.offsets[i]!;
      const text = Buffer.from(frame.subarray(at, at + verdicts.lengths[i]!)).toString();
      assert.ok(text === '' || text === `"${verdicts.slots[i]}:${verdicts.outcomes[i]}"`, text);
    }
    for (const act of acts) act();
    if (batch.hasReported.every(Boolean)) this.#close(batch);
    this.#endExpired();
  }

  #decide(task: ModelTask, outcome: Outcome, bytes: Uint8Array): void {
    switch (outcome) {
      case Outcome.FAILED:
        return this.#retry(task, 30.5, true);
      case Outcome.SNOOZED:
        return this.#retry(task, 12, false);
      case Outcome.FAILED_FOR_GOOD:
        return this.#end(task, TaskState.FAILED, bytes);
      default:
        return this.#end(task, TaskState.CANCELLED, bytes);
    }
  }

  #retry(task: ModelTask, delayMs: number, spent: boolean): void {
    const due = {
      wallMs: this.now.wallMs + Math.ceil(delayMs),
      monoMs: this.now.monoMs + delayMs,
      spent,
    };
    assert.ok(this.table.retry(this.handle(task), due, this.now));
    assert.ok(!this.table.retry(this.handle(task), due, this.now), 'retried twice');
    task.state = TaskState.PENDING;
    task.executor = '';
    if (!spent) task.attempt--;
    task.changedAtMs = this.now.wallMs;
    task.dueAtMs = due.wallMs;
    this.dirty.add(task.segment);
    if (!task.segment.isHeld) this.#waitUntil(task, due.monoMs);
  }

  #lose(pick: number): void {
    const batch = this.batches[pick % Math.max(1, this.batches.length)];
    if (batch === undefined) return;
    this.#close(batch);
    this.#endExpired();
  }

  #close(batch: ModelBatch): void {
    const lost = batch.tasks.filter((_, slot) => !batch.hasReported[slot]);
    assert.deepEqual(
      this.table.unreported(batch.handle),
      batch.tasks.flatMap((_, slot) => (batch.hasReported[slot] ? [] : [slot])),
    );
    assert.deepEqual(
      this.table.loseBatch(batch.handle),
      lost.map((task) => this.handle(task)),
    );
    this.batches.splice(this.batches.indexOf(batch), 1);
    for (const task of lost) {
      task.batch = undefined;
      if (task.segment.isReleased) {
        this.#refuseAll(task);
        continue;
      }
      task.losses++;
      assert.equal(this.table.noteLoss(this.handle(task)), task.losses);
      if (task.index % 3 === 0) {
        task.isIsolated = true;
        assert.ok(this.table.isolate(this.handle(task)));
      }
      if (task.losses < 3) this.#retry(task, 0, false);
      else this.#end(task, TaskState.FAILED, Buffer.from('"lost"'));
    }
  }

  #single(what: 'cancel' | 'watch', pick: number): void {
    const { allTasks } = this;
    const task = allTasks[pick % Math.max(1, allTasks.length)];
    if (task === undefined) return;
    if (what === 'watch' && task.segment.isReleased) {
      assert.equal(this.table.watch(this.handle(task)), 'gone');
      return;
    }
    if (what === 'watch') {
      assert.equal(this.table.watch(this.handle(task)), task.isSettled ? 'settled' : 'watching');
      task.isWatched ||= !task.isSettled;
      return;
    }
    const bytes = Buffer.from('"cancelled"');
    const answer = this.table.cancel(this.handle(task), bytes, this.now);
    if (task.state === TaskState.PENDING) {
      assert.equal(answer, 'cancelled');
      this.#noteEnd(task, TaskState.CANCELLED, bytes);
    } else if (task.state === TaskState.RUNNING) {
      assert.equal(answer, 'running');
      task.isCancelAsked = true;
      const place = this.table.placeOf(this.handle(task));
      assert.equal(place?.batch, task.batch?.handle);
      assert.equal(place?.slot, task.batch?.tasks.indexOf(task));
    } else {
      assert.equal(answer, 'ended');
    }
  }

  #drop(pick: number): void {
    const segment = this.segments[pick % Math.max(1, this.segments.length)];
    if (segment === undefined) return;
    if (segment.tasks.some((task) => task.batch)) {
      assert.ok(!this.table.drop(segment.handle), 'dropped while running');
    } else {
      this.#dropSegment(segment);
    }
  }

  #dropSegment(segment: ModelSegment): void {
    const handles = segment.tasks.map((task) => this.handle(task));
    assert.ok(this.table.drop(segment.handle));
    assert.ok(!this.table.drop(segment.handle));
    this.segments.splice(this.segments.indexOf(segment), 1);
    this.dirty.delete(segment);
    assert.equal(this.table.findSegment(segment.ref), 0);
    this.#areGone(handles);
  }

  #areGone(handles: readonly TaskHandle[]): void {
    for (const handle of handles) {
      assert.equal(this.table.inspect(handle), undefined);
      assert.equal(this.table.end(handle, TaskState.CANCELLED, NO_BYTES, this.now), false);
      assert.equal(this.table.cancel(handle, NO_BYTES, this.now), 'gone');
    }
  }

  #hold(pick: number): void {
    const segment = this.segments[pick % Math.max(1, this.segments.length)];
    if (segment === undefined) return;
    assert.ok(this.table.hold(segment.handle));
    segment.isHeld = true;
    for (const task of segment.tasks) {
      task.ready = undefined;
      task.timer = undefined;
    }
  }

  /** What ran on a node that is gone runs again; what runs on the other is left alone. */
  #resume(segment: ModelSegment | undefined): void {
    if (segment === undefined) return;
    const { open, openBytes, lost } = this.table.resume(segment.handle, this.now);
    if (!segment.isHeld) {
      assert.deepEqual({ open, openBytes, lost }, { open: 0, openBytes: 0, lost: [] });
      return;
    }
    segment.isHeld = false;
    const stillOpen = segment.tasks.filter((task) => !task.isSettled);
    const away = segment.tasks.filter(runsElsewhere);
    assert.equal(open, stillOpen.length);
    assert.equal(openBytes, payloadBytesOf(stillOpen));
    assert.deepEqual(
      lost,
      away.map((task) => this.handle(task)),
    );
    for (const task of segment.tasks) {
      if (task.state !== TaskState.PENDING) continue;
      this.#waitUntil(task, this.now.monoMs + (task.dueAtMs - this.now.wallMs));
    }
    if (segment.tasks.every((task) => task.isFiled)) this.dirty.add(segment);
    for (const task of away) {
      if (task.executor !== GONE) continue;
      task.losses++;
      assert.equal(this.table.noteLoss(this.handle(task)), task.losses);
      this.#retry(task, 0, false);
    }
    this.#endExpired();
  }

  #takeOver(drafts: readonly (TaskDraft & { stands: number })[], resumes: boolean): void {
    // It may come back from where it went, while some of its tasks run here still.
    const back = this.released.find(({ ref }) => this.table.findSegment(ref) === 0);
    const ref = back?.ref ?? `segment${this.#names++}`;
    const segment = this.#ingest(drafts, ref, { hold: true });
    for (const task of segment.tasks) {
      const { stands } = drafts[task.index]!;
      if (stands === 0) continue;
      task.attempt = stands;
      task.changedAtMs = this.now.wallMs;
      task.executor = stands === 1 ? OTHER : stands === 2 ? GONE : '';
      if (stands <= 2) task.state = TaskState.RUNNING;
      else if (stands === 3) task.dueAtMs = this.now.wallMs + 7;
      else {
        task.state = TaskState.COMPLETED;
        task.isFiled = true;
        task.isSettled = true;
      }
    }
    const overlay = overlayOf(segment);
    if (overlay !== undefined) this.table.applyOverlay(segment.handle, overlay);
    if (resumes) this.#resume(segment);
  }

  /** Another node tells what came of a task that ran there. */
  #hear(pick: number, isDone: boolean): void {
    const away = this.tasks.filter(runsElsewhere);
    const task = away[pick % Math.max(1, away.length)];
    if (task === undefined) return;
    if (isDone) this.#end(task, TaskState.COMPLETED, Buffer.from('"elsewhere"'));
    else this.#retry(task, 3, true);
    this.#endExpired();
  }

  #release(pick: number): void {
    const { table } = this;
    const segment = this.segments[pick % Math.max(1, this.segments.length)];
    if (segment === undefined) return;
    const open = segment.tasks.filter((task) => !task.isSettled);
    const stays = segment.tasks.filter((task) => task.batch);
    const gone = segment.tasks.filter((task) => !task.batch).map((task) => this.handle(task));
    const watched = open.filter((task) => task.isWatched);
    const expected = {
      open: open.length,
      openBytes: payloadBytesOf(open),
      running: stays.length,
      watched: watched.map((task) => ({ index: task.index, task: this.handle(task) })),
    };
    assert.deepEqual(table.release(segment.handle), expected);
    assert.equal(table.release(segment.handle), undefined);
    assert.equal(table.hold(segment.handle), false);
    assert.equal(table.findSegment(segment.ref), 0);
    this.#areGone(gone);
    segment.isReleased = true;
    segment.isHeld = false;
    segment.tasks = stays;
    segment.ended = [];
    this.segments.splice(this.segments.indexOf(segment), 1);
    this.dirty.delete(segment);
    if (stays.length > 0) this.released.push(segment);
  }

  /** Nothing is decided here about a task of a released segment. */
  #refuseAll(task: ModelTask): void {
    const handle = this.handle(task);
    const due = { ...this.now, spent: false };
    assert.equal(this.table.retry(handle, due, this.now), false);
    assert.equal(this.table.end(handle, TaskState.COMPLETED, NO_BYTES, this.now), false);
    assert.equal(this.table.noteLoss(handle), 0);
    assert.equal(this.table.isolate(handle), false);
  }

  #forget(pick: number): void {
    const { allTasks } = this;
    const canGo = (task: ModelTask): boolean => task.segment.isReleased && !task.batch;
    for (const task of allTasks) {
      if (!canGo(task)) assert.equal(this.table.forget(this.handle(task)), false);
    }
    const over = allTasks.filter(canGo);
    const task = over[pick % Math.max(1, over.length)];
    if (task === undefined) return;
    const handle = this.handle(task);
    const { segment } = task;
    assert.ok(this.table.forget(handle));
    assert.ok(!this.table.forget(handle), 'forgotten twice');
    this.#areGone([handle]);
    segment.tasks = segment.tasks.filter((one) => one !== task);
    if (segment.tasks.length > 0) return;
    this.released.splice(this.released.indexOf(segment), 1);
    assert.equal(this.table.segmentInfo(segment.handle), undefined);
  }
}

function runsElsewhere(task: ModelTask): boolean {
  return task.state === TaskState.RUNNING && task.batch === undefined;
}

function payloadBytesOf(tasks: readonly ModelTask[]): number {
  return tasks.reduce((sum, task) => sum + task.source.payloadBytes, 0);
}

function stateOf(task: ModelTask): StateRecord {
  return {
    index: task.index,
    state: task.state,
    attempt: task.attempt,
    losses: task.losses,
    dueAtMs: task.dueAtMs,
    atMs: task.changedAtMs,
    executor: task.executor,
    version: task.source.version,
    bytes: task.bytes,
  };
}

function overlayOf(segment: ModelSegment): Uint8Array | undefined {
  const writer = new FrameWriter(FrameKind.STATES);
  for (const task of segment.tasks) {
    if (task.state === TaskState.PENDING && task.changedAtMs === 0) continue;
    const record = { ...stateOf(task), bytes: NO_BYTES };
    const isUnfiled = isEnded(task.state) && !task.isFiled;
    writeState(
      writer,
      isUnfiled
        ? { ...record, state: TaskState.RUNNING, executor: task.ranUnder || EXECUTOR }
        : record,
    );
  }
  return writer.count === 0 ? undefined : writer.finish();
}

function deadLetterOf(task: ModelTask): Buffer {
  const states = new FrameWriter(FrameKind.STATES);
  writeState(states, stateOf(task));
  const first = new FrameWriter(FrameKind.TASKS);
  writeTask(first, task.source);
  const record = readTask(openFrame(first.finish(), FrameKind.TASKS), 0);
  const copy = new FrameWriter(FrameKind.TASKS);
  writeTask(copy, {
    ...record,
    attempt: task.attempt,
    losses: task.losses,
    payloadBytes: record.payload.length,
  });
  const stateFrame = states.finish();
  const length = Buffer.alloc(4);
  length.writeUInt32LE(stateFrame.length);
  return Buffer.concat([length, stateFrame, copy.finish()]);
}

function batchOf(tasks: readonly ModelTask[], token: number): Uint8Array {
  const writer = new FrameWriter(FrameKind.BATCH);
  tasks.forEach((task, slot) => {
    writeBatchEntry(writer, {
      slot,
      type: task.source.type,
      tenant: task.source.tenant,
      token,
      attempt: task.attempt,
      version: task.source.version,
      segment: task.segment.ref,
      index: task.index,
      payload: task.source.payload as Uint8Array,
      metadata: (task.source.metadata as Uint8Array | undefined) ?? NO_BYTES,
    });
  });
  return writer.finish();
}

/** What src/engine/cut.ts does with a segment's ended tasks. */
function fileModel(
  segment: ModelSegment,
  filed: ModelTask[],
  operationsLeft: number,
  bytesLeft: number,
): { frame: Uint8Array | undefined; dead: ModelTask[]; bytesLeft: number } {
  const kept: ModelTask[] = [];
  const dead: ModelTask[] = [];
  const later: ModelTask[] = [];
  let operations = operationsLeft;
  let left = bytesLeft;
  let keptBytes = 0;
  for (const task of segment.ended) {
    const isDead = task.state === TaskState.FAILED;
    const isKept = (KEEP as readonly TaskState[]).includes(task.state);
    const bytes = task.bytes.length + (isDead ? task.source.payloadBytes : 0);
    const fits = filed.length === 0 || (!(isDead && operations < 3) && keptBytes + bytes <= left);
    if (isKept && !fits) {
      later.push(task);
      continue;
    }
    task.isFiled = true;
    filed.push(task);
    if (isKept && isDead) {
      dead.push(task);
      operations--;
      left -= deadLetterOf(task).length + 64;
    } else if (isKept) {
      kept.push(task);
      keptBytes += task.bytes.length + 48;
    }
  }
  segment.ended = later;
  const writer = new FrameWriter(FrameKind.STATES);
  for (const task of kept) writeState(writer, stateOf(task));
  return { frame: kept.length === 0 ? undefined : writer.finish(), dead, bytesLeft: left };
}

function mustBeAlone(task: ModelTask): boolean {
  return task.losses >= 2 || task.isIsolated;
}

test('the table and its model tell the same, whatever happens', () => {
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 80, size: 'max' }), (operations) => {
      const pair = new Pair();
      try {
        for (const one of operations) {
          pair.run(one);
          pair.compare();
        }
        for (const segment of [...pair.segments, ...pair.released]) {
          const hasBatch = segment.tasks.some((task) => task.batch);
          assert.equal(pair.table.drop(segment.handle), !hasBatch);
        }
        assert.ok(pair.table.check());
      } finally {
        pair.table.close();
      }
    }),
    { numRuns: Number(process.env.MILLRACE_MODEL_RUNS ?? 150) },
  );
});
