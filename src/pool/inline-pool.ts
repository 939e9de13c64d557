/**
 * The Pool on the main thread, for tasks with `exec: 'inline'`.
 *
 * The same batch runner as in worker threads, on the Clock it is given: handlers run in slices of a few
 * milliseconds between turns of the event loop. Nothing here can die, so tasks are lost by `drain` only; a sync
 * handler that never returns hangs the process, as any code on the main thread would.
 */

import { hasSubscribers } from '../core/channels.js';
import type { ChildAnswer, ChildAsk, ChildDesk } from '../core/children.js';
import type { Clock, WakeUp } from '../core/clock.js';
import type { PayloadLimits } from '../core/codec.js';
import { invariant, type MillraceError } from '../core/errors.js';
import type { HandlerHooks } from '../core/handler-hooks.js';
import type { BatchListener, Pool, RunningBatch } from '../core/pool.js';
import { BaseService } from '../core/service.js';
import type { AnyTask } from '../core/task.js';
import { BatchRunner, type RunnerBatch } from './batch-runner.js';
import { Places } from './places.js';
import { ResultLog } from './result-log.js';
import { SentBatch, taskLost } from './sent-batch.js';
import { noRuntime } from './task-children.js';

export interface InlinePoolOptions {
  /** Batches at once; those that only wait for I/O do not count. @defaultValue 8 */
  readonly places?: number;
  /** Unreported tasks above which batches that only wait count too. @defaultValue 1024 */
  readonly overlapMax?: number;
  /** Names this process in execution ids. @defaultValue 'local' */
  readonly executor?: string;
  /** Of results. @defaultValue those of payloads */
  readonly limits?: PayloadLimits;
  /** Woven around the handlers. @defaultValue none */
  readonly hooks?: readonly HandlerHooks[];
  /** Does what handlers ask for. @defaultValue none: they are told so */
  readonly children?: ChildDesk;
}

interface Running {
  readonly sent: SentBatch;
  readonly log: ResultLog;
  inRunner: RunnerBatch | undefined;
}

export class InlinePool extends BaseService implements Pool {
  onFree: (() => void) | undefined;
  onReserve: (() => void) | undefined;
  readonly #clock: Clock;
  readonly #runner: BatchRunner;
  readonly #places: Places;
  readonly #children: ChildDesk | undefined;
  readonly #running = new Set<Running>();
  /** For the next batches. */
  readonly #logs: ResultLog[] = [];
  #isOpen = false;
  #graceEndsMs = Number.POSITIVE_INFINITY;
  #graceTimer: WakeUp | undefined;
  #onIdle: (() => void) | undefined;

  /** @param tasks - by name; the ones without a handler fail when they are run */
  constructor(clock: Clock, tasks: ReadonlyMap<string, AnyTask>, options: InlinePoolOptions = {}) {
    super();
    this.#clock = clock;
    this.#children = options.children;
    const time = {
      nowMs: () => clock.monoMs(),
      wallMs: () => clock.wallMs(),
      soon: (turn: () => void) => void clock.wakeSoon(turn),
      later: (delayMs: number, wake: () => void) => void clock.wakeIn(delayMs, wake),
    };
    const wantsLines = (): boolean => hasSubscribers('millrace:task:log');
    this.#runner = new BatchRunner(time, tasks, { ...options, wantsLines });
    this.#places = new Places({
      places: options.places ?? 8,
      overlapMax: options.overlapMax ?? 1_024,
    });
  }

  /** The main one. */
  get threadCount(): number {
    return 1;
  }

  get freePlaces(): number {
    return this.#isOpen ? this.#places.free : 0;
  }

  run(batch: Uint8Array<ArrayBuffer>, listener: BatchListener): RunningBatch {
    invariant(this.freePlaces > 0, 'inline-pool-no-place');
    const sent = new SentBatch(batch, listener, (tasks) => this.#places.take(tasks));
    const running: Running = {
      sent,
      log: this.#takeLog(sent.count),
      inRunner: undefined,
    };
    this.#running.add(running);
    const end = (error?: MillraceError): void => this.#end(running, () => sent.end(error));
    try {
      running.inRunner = this.#runner.run(
        batch,
        {
          onNotes: (notes) => sent.notes(notes),
          ask: (ask) => this.#answer(ask, sent),
          onResults: (frame) => this.#change(() => sent.results(frame)),
          onParked: () => this.#change(() => sent.park()),
          onEnd: () => end(),
        },
        running.log,
      );
    } catch (error) {
      // Not before `run` has returned.
      this.#clock.wakeSoon(() => end(error as MillraceError));
    }
    return {
      cancel: (slot, reason, isTimeout) => {
        if (!sent.hasEnded) running.inRunner?.cancel(slot, reason, isTimeout);
      },
      startedAtMs: (index) => (sent.hasEnded ? -1 : running.log.startedAtMs(index)),
      kill: () => {},
    };
  }

  /** There is only one main thread: what must be alone is so in its batch. */
  keepReserve(): void {}

  get isReserveFree(): boolean {
    return this.freePlaces > 0;
  }

  runAlone(batch: Uint8Array<ArrayBuffer>, listener: BatchListener): RunningBatch {
    return this.run(batch, listener);
  }

  drain(graceMs: number): Promise<void> {
    this.#isOpen = false;
    const endsMs = this.#clock.monoMs() + Math.max(0, graceMs);
    if (endsMs < this.#graceEndsMs) {
      this.#graceEndsMs = endsMs;
      this.#graceTimer?.cancel();
      if (graceMs <= 0) this.#giveUp();
      else if (this.#running.size > 0) {
        this.#graceTimer = this.#clock.wakeIn(graceMs, () => this.#giveUp());
      }
    }
    return super.stop();
  }

  override stop(): Promise<void> {
    return this.drain(0);
  }

  protected async onStart(): Promise<void> {
    if (this.#graceEndsMs !== Number.POSITIVE_INFINITY) return;
    this.#isOpen = true;
    this.onFree?.();
  }

  protected async onStop(): Promise<void> {
    if (this.#running.size > 0) {
      await new Promise<void>((resolve) => {
        this.#onIdle = resolve;
      });
    }
    this.#graceTimer?.cancel();
  }

  /** Nobody can stop a handler on the main thread: signals are aborted, and what comes later is not heard. */
  #giveUp(): void {
    for (const running of [...this.#running]) {
      this.#end(running, () => running.sent.lose(taskLost('shutdown'), running.log));
      running.inRunner?.cancelAll('the process shuts down');
    }
  }

  #end(running: Running, end: () => void): void {
    if (!this.#running.delete(running)) return;
    this.#change(end);
    // After a drain the runner may still write there.
    if (this.#isOpen) {
      running.log.clear();
      this.#logs.push(running.log);
    }
    if (this.#running.size === 0) this.#onIdle?.();
  }

  async #answer(ask: ChildAsk, sent: SentBatch): Promise<ChildAnswer> {
    if (this.#children === undefined) throw noRuntime();
    let goOn: (() => void) | undefined;
    if (ask.kind === 'end' || ask.kind === 'begin') {
      this.#change(() => {
        goOn = sent.waitForOthers();
      });
    }
    try {
      return await this.#children(ask);
    } finally {
      goOn?.();
    }
  }

  #takeLog(count: number): ResultLog {
    const log = this.#logs.pop();
    if (log !== undefined && log.capacity >= count) return log;
    const capacity = Math.max(64, count);
    return new ResultLog(new ArrayBuffer(ResultLog.bytesFor(capacity)), capacity);
  }

  /** Makes a change and says so when it freed the first place. */
  #change(change: () => void): void {
    const wasFull = this.freePlaces === 0;
    change();
    if (!wasFull || this.freePlaces === 0) return;
    this.onReserve?.();
    this.onFree?.();
  }
}
