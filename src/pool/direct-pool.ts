/**
 * A Pool without batching, to measure what batching is worth: `experimental: { off: ['batching'] }`.
 *
 *   engine --run: always takes it--> [ queue without bound ] --a place is free--> pool, one task per message
 *
 * The strategy of a plain worker pool: whatever is ready is handed over at once, and waits in the pool. It needs
 * nothing of the engine but a number: free places without end, shared among the ready tasks, leave one task for
 * each batch. What is lost by it besides speed: what waits here counts as running, so it is no longer ordered by
 * priority, its claim is durable before there is a thread for it, and a crash loses it as if it had run.
 *
 * Invariants: (1) a batch is in the queue or with the pool below, never both; (2) after drain() the queue is empty.
 */
import type { MillraceError } from '../core/errors.js';
import { Fifo } from '../core/fifo.js';
import { FrameKind, FrameWriter, openFrame } from '../core/frame.js';
import type { BatchListener, Pool, RunningBatch } from '../core/pool.js';
import { readBatchEntry, writeResult } from '../core/records.js';
import { Outcome } from '../core/states.js';

/** As good as no bound, and still a small number for those who multiply it. */
const PLACES = 2 ** 24;

class Waiting implements RunningBatch {
  readonly frame: Uint8Array<ArrayBuffer>;
  readonly listener: BatchListener;
  readonly #cancels: Parameters<RunningBatch['cancel']>[] = [];
  #running: RunningBatch | undefined;

  constructor(frame: Uint8Array<ArrayBuffer>, listener: BatchListener) {
    this.frame = frame;
    this.listener = listener;
  }

  /** Its turn has come. */
  hand(running: RunningBatch): void {
    this.#running = running;
    for (const cancel of this.#cancels) running.cancel(...cancel);
  }

  cancel(...asked: Parameters<RunningBatch['cancel']>): void {
    if (this.#running === undefined) this.#cancels.push(asked);
    else this.#running.cancel(...asked);
  }

  startedAtMs(index: number): number {
    return this.#running?.startedAtMs(index) ?? 0;
  }

  kill(): void {
    this.#running?.kill();
  }
}

export class DirectPool implements Pool {
  onFree: (() => void) | undefined;
  readonly #pool: Pool;
  readonly #queue = new Fifo<Waiting>();
  #isOpen = false;
  #isDrained = false;

  /** @param pool - does the work; belongs to this one from now on */
  constructor(pool: Pool) {
    this.#pool = pool;
    pool.onFree = () => this.#handOver();
  }

  async replaceThreads(count: number, threadId?: number): Promise<void> {
    await this.#pool.replaceThreads?.(count, threadId);
  }

  inspectThreads(forMs: number): void {
    this.#pool.inspectThreads?.(forMs);
  }

  get threadCount(): number {
    return this.#pool.threadCount;
  }

  get freePlaces(): number {
    return this.#isOpen ? PLACES : 0;
  }

  get isReserveFree(): boolean {
    return this.#pool.isReserveFree;
  }

  get onReserve(): (() => void) | undefined {
    return this.#pool.onReserve;
  }

  set onReserve(listener: (() => void) | undefined) {
    this.#pool.onReserve = listener;
  }

  keepReserve(): void {
    this.#pool.keepReserve();
  }

  run(frame: Uint8Array<ArrayBuffer>, listener: BatchListener): RunningBatch {
    const waiting = new Waiting(frame, listener);
    this.#queue.push(waiting);
    this.#handOver();
    return waiting;
  }

  runAlone(frame: Uint8Array<ArrayBuffer>, listener: BatchListener): RunningBatch {
    return this.#pool.runAlone(frame, listener);
  }

  async start(): Promise<void> {
    await this.#pool.start();
    if (this.#isDrained || this.#isOpen) return;
    this.#isOpen = true;
    this.onFree?.();
  }

  async drain(graceMs: number): Promise<void> {
    this.#isOpen = false;
    this.#isDrained = true;
    for (const { frame, listener } of this.#queue.takeAll()) {
      listener.onResults(notStarted(frame));
      listener.onEnd(undefined);
    }
    await this.#pool.drain(graceMs);
  }

  stop(): Promise<void> {
    return this.drain(0);
  }

  #handOver(): void {
    while (this.#queue.length > 0 && this.#pool.freePlaces > 0) {
      const waiting = this.#queue.shift()!;
      const { listener } = waiting;
      const running = this.#pool.run(waiting.frame, {
        ...(listener.onProgress && { onProgress: (said) => listener.onProgress?.(said) }),
        onResults: (results) => listener.onResults(results),
        onEnd: (loss: MillraceError | undefined) => {
          listener.onEnd(loss);
          this.#handOver();
        },
      });
      waiting.hand(running);
    }
  }
}

/** The results of a batch of which nothing ran. */
function notStarted(frame: Uint8Array): Uint8Array {
  const reader = openFrame(frame, FrameKind.BATCH);
  const writer = new FrameWriter(FrameKind.RESULTS, { bytes: 0 });
  for (let index = 0; index < reader.count; index++) {
    const { slot, attempt } = readBatchEntry(reader, index);
    const outcome = Outcome.NOT_STARTED;
    writeResult(writer, { slot, outcome, attempt, runMs: 0, json: undefined });
  }
  return writer.finish();
}
