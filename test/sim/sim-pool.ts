/**
 * The Pool of the simulation: threads that take virtual time, die, and hang, as the plan of each task says.
 *
 * Tasks of a batch run one after another, as synchronous handlers do. What ended is reported a little later,
 * together; when a thread dies what had ended is reported still, what had not begun as not started, and the rest is
 * lost: that is what the real pool reads out of a dead thread's memory.
 */
import type { Clock } from '../../src/core/clock.js';
import { MillraceError } from '../../src/core/errors.js';
import { FrameKind, FrameWriter, openFrame } from '../../src/core/frame.js';
import type { BatchListener, Pool, RunningBatch } from '../../src/core/pool.js';
import type { Random } from '../../src/core/random.js';
import { type BatchRecord, readBatchEntry, writeResult } from '../../src/core/records.js';
import { Outcome } from '../../src/core/states.js';
import { drawMs } from '../../src/testing/store-faults.js';
import type { Step } from './plan.js';

export const SNOOZE_MS = 500;

/** One execution, as the world sees it. */
export interface Execution {
  readonly record: BatchRecord;
  readonly step: Step;
  readonly runMs: number;
  /** Unique in the run; what it reports names it. */
  readonly run: number;
}

export interface PoolWorld {
  /** Set by the pool. */
  isStopped: boolean;
  readonly clock: Clock;
  readonly random: Random;
  /** Whether reports come twice, and after the end. */
  readonly hasEchoes: boolean;
  /** Whether threads can die. */
  readonly isMortal: boolean;
  /** The engine hands over a batch. */
  onLaunch(batch: readonly BatchRecord[]): void;
  /** A handler is called. */
  onStart(record: BatchRecord): Execution;
  /** Its work is done. */
  onEffect(execution: Execution): void;
  /** It has told how it ended. */
  onReport(execution: Execution, outcome: Outcome): void;
  /** Its thread died under it. */
  onLost(execution: Execution): void;
}

export class SimPool implements Pool {
  onFree: (() => void) | undefined;
  onReserve: (() => void) | undefined;
  readonly threadCount: number;
  readonly world: PoolWorld;
  readonly #running = new Set<SimBatch>();
  #freeThreads = 0;
  #isReserveFree = false;
  #isOpen = false;
  #onIdle: (() => void)[] = [];

  constructor(world: PoolWorld, threads: number) {
    this.world = world;
    this.threadCount = threads;
  }

  get freePlaces(): number {
    return this.#isOpen ? this.#freeThreads : 0;
  }

  get isReserveFree(): boolean {
    return this.#isOpen && this.#isReserveFree;
  }

  get isIdle(): boolean {
    return this.#running.size === 0 && this.#freeThreads === this.threadCount;
  }

  async start(): Promise<void> {
    this.#isOpen = true;
    this.#freeThreads = this.threadCount;
    this.#isReserveFree = true;
    this.onFree?.();
  }

  /** Nothing is heard of its threads afterwards, no echo either. */
  async stop(): Promise<void> {
    await this.drain(0);
    this.world.isStopped = true;
  }

  async drain(graceMs: number): Promise<void> {
    this.#isOpen = false;
    if (this.#running.size === 0) return;
    this.world.clock.wakeIn(graceMs, () => {
      for (const batch of [...this.#running]) batch.die('shutdown');
    });
    await new Promise<void>((resolve) => this.#onIdle.push(resolve));
  }

  keepReserve(): void {}

  run(frame: Uint8Array<ArrayBuffer>, listener: BatchListener): RunningBatch {
    if (this.freePlaces <= 0) throw new Error('the engine runs a batch without a place');
    this.#freeThreads--;
    return this.#begin(frame, listener, () => {
      this.#freeThreads++;
      if (this.#isOpen && this.#freeThreads === 1) this.onFree?.();
    });
  }

  runAlone(frame: Uint8Array<ArrayBuffer>, listener: BatchListener): RunningBatch {
    if (!this.isReserveFree) throw new Error('the engine runs a suspect without a reserve');
    this.#isReserveFree = false;
    return this.#begin(frame, listener, () => {
      this.#isReserveFree = true;
      if (this.#isOpen) this.onReserve?.();
    });
  }

  #begin(frame: Uint8Array, listener: BatchListener, leave: () => void): RunningBatch {
    const batch = new SimBatch(this.world, frame, listener, (restartMs) => {
      this.#running.delete(batch);
      if (this.#running.size === 0) for (const resolve of this.#onIdle.splice(0)) resolve();
      if (restartMs === 0) leave();
      else this.world.clock.wakeIn(restartMs, leave);
    });
    this.#running.add(batch);
    return batch;
  }
}

class SimBatch implements RunningBatch {
  readonly #world: PoolWorld;
  readonly #records: readonly BatchRecord[];
  readonly #listener: BatchListener;
  readonly #leave: (restartMs: number) => void;
  /** 0 not begun, below 0 ended. */
  readonly #startedAtMs: number[];
  #ended: { readonly record: BatchRecord; outcome: Outcome; json: string; runMs: number }[] = [];
  #isFlushDue = false;
  #next = 0;
  #current: { readonly execution: Execution; isOver: boolean } | undefined;
  readonly #cancelled = new Map<number, string>();
  #isOver = false;

  constructor(
    world: PoolWorld,
    frame: Uint8Array,
    listener: BatchListener,
    leave: (restartMs: number) => void,
  ) {
    const reader = openFrame(frame, FrameKind.BATCH);
    this.#world = world;
    this.#records = Array.from({ length: reader.count }, (_, i) => readBatchEntry(reader, i));
    this.#listener = listener;
    this.#leave = leave;
    this.#startedAtMs = this.#records.map(() => 0);
    world.onLaunch(this.#records);
    world.clock.wakeIn(drawMs(world.random, 0, 0.5), () => this.#step());
  }

  cancel(slot: number, reason: string): void {
    this.#cancelled.set(slot, reason);
    const current = this.#current;
    // A handler that hears its signal ends soon, unless it is stuck.
    if (current?.execution.record.slot !== slot || current.execution.step === 'stuck') return;
    this.#world.clock.wakeIn(drawMs(this.#world.random, 0, 20), () => {
      if (this.#current === current) this.#end(Outcome.CANCELLED, JSON.stringify(reason));
    });
  }

  startedAtMs(index: number): number {
    return this.#isOver ? -1 : this.#startedAtMs[index]!;
  }

  kill(): void {
    if (this.#world.isMortal) this.die('timeout');
  }

  die(reason: 'exit' | 'timeout' | 'shutdown'): void {
    if (this.#isOver) return;
    this.#isOver = true;
    const begun = this.#current === undefined ? 0 : 1;
    if (this.#current !== undefined) this.#world.onLost(this.#current.execution);
    this.#current = undefined;
    for (const record of this.#records.slice(this.#next)) {
      this.#ended.push({ record, outcome: Outcome.NOT_STARTED, json: '', runMs: 0 });
    }
    this.#next = this.#records.length;
    this.#flush();
    this.#listener.onEnd(
      new MillraceError('ERR_MILLRACE_TASK_LOST', `the thread ended: ${reason}`, {
        details: { reason, begun },
      }),
    );
    this.#leave(reason === 'shutdown' ? 0 : drawMs(this.#world.random, 1, 50));
  }

  #step(): void {
    if (this.#isOver) return;
    const record = this.#records[this.#next];
    if (record === undefined) {
      this.#isOver = true;
      this.#flush();
      this.#listener.onEnd(undefined);
      return this.#leave(0);
    }
    const index = this.#next++;
    const reason = this.#cancelled.get(record.slot);
    if (reason !== undefined) {
      this.#ended.push({
        record,
        outcome: Outcome.CANCELLED,
        json: JSON.stringify(reason),
        runMs: 0,
      });
      return this.#step();
    }
    this.#startedAtMs[index] = this.#world.clock.monoMs() + 1e-9;
    const execution = this.#world.onStart(record);
    const current = { execution, isOver: false };
    this.#current = current;
    if (execution.step === 'stuck') return;
    this.#world.clock.wakeIn(execution.runMs, () => {
      if (this.#current === current) this.#finish(execution);
    });
  }

  #finish(execution: Execution): void {
    const { step, run } = execution;
    if (step === 'crash') return this.die('exit');
    this.#world.onEffect(execution);
    switch (step) {
      case 'effectThenCrash':
        return this.die('exit');
      case 'throw':
        return this.#end(Outcome.FAILED, failure(run));
      case 'throwForGood':
        return this.#end(Outcome.FAILED_FOR_GOOD, failure(run));
      case 'snooze':
        return this.#end(Outcome.SNOOZED, `${SNOOZE_MS}`);
      case 'giveUp':
        return this.#end(Outcome.CANCELLED, JSON.stringify(`run ${run}`));
      default:
        return this.#end(Outcome.COMPLETED, JSON.stringify({ run }));
    }
  }

  #end(outcome: Outcome, json: string): void {
    const { execution } = this.#current!;
    this.#current = undefined;
    const { record, runMs } = execution;
    this.#startedAtMs[this.#next - 1] = -1;
    this.#ended.push({ record, outcome, json, runMs });
    this.#world.onReport(execution, outcome);
    if (!this.#isFlushDue) {
      this.#isFlushDue = true;
      this.#world.clock.wakeIn(drawMs(this.#world.random, 0, 3), () => this.#flush());
    }
    this.#step();
  }

  #flush(): void {
    this.#isFlushDue = false;
    if (this.#ended.length === 0) return;
    const writer = new FrameWriter(FrameKind.RESULTS);
    for (const { record, outcome, json, runMs } of this.#ended.splice(0)) {
      writeResult(writer, {
        slot: record.slot,
        attempt: record.attempt,
        outcome,
        runMs,
        json: json === '' ? undefined : json,
      });
    }
    const frame = writer.finish();
    this.#listener.onResults(frame);
    if (!this.#world.hasEchoes || this.#world.random.float() < 0.5) return;
    // The same report once more, maybe when the batch is long over.
    const echoMs = drawMs(this.#world.random, 0, 300);
    this.#world.clock.wakeIn(echoMs, () => {
      if (!this.#world.isStopped) this.#listener.onResults(frame);
    });
  }
}

function failure(run: number): string {
  return JSON.stringify({ name: 'Error', message: `run ${run}` });
}
