/** A pool whose batches have spans where their tasks are sampled. Everything else goes through. */
import type { BatchListener, Pool, RunningBatch } from '../core/pool.js';
import type { Tracing } from './tracing.js';

export class TracedPool implements Pool {
  readonly #pool: Pool;
  readonly #tracing: Tracing;

  /** @param pool - does the work; belongs to this one from now on */
  constructor(pool: Pool, tracing: Tracing) {
    this.#pool = pool;
    this.#tracing = tracing;
  }

  get threadCount(): number {
    return this.#pool.threadCount;
  }

  get freePlaces(): number {
    return this.#pool.freePlaces;
  }

  get onFree(): (() => void) | undefined {
    return this.#pool.onFree;
  }

  set onFree(listener: (() => void) | undefined) {
    this.#pool.onFree = listener;
  }

  get onReserve(): (() => void) | undefined {
    return this.#pool.onReserve;
  }

  set onReserve(listener: (() => void) | undefined) {
    this.#pool.onReserve = listener;
  }

  get isReserveFree(): boolean {
    return this.#pool.isReserveFree;
  }

  keepReserve(): void {
    this.#pool.keepReserve();
  }

  run(batch: Uint8Array<ArrayBuffer>, listener: BatchListener): RunningBatch {
    return this.#traced(batch, listener, (frame, heard) => this.#pool.run(frame, heard));
  }

  runAlone(batch: Uint8Array<ArrayBuffer>, listener: BatchListener): RunningBatch {
    return this.#traced(batch, listener, (frame, heard) => this.#pool.runAlone(frame, heard));
  }

  async replaceThreads(count: number, threadId?: number): Promise<void> {
    await this.#pool.replaceThreads?.(count, threadId);
  }

  inspectThreads(forMs: number): void {
    this.#pool.inspectThreads?.(forMs);
  }

  drain(graceMs: number): Promise<void> {
    return this.#pool.drain(graceMs);
  }

  start(): Promise<void> {
    return this.#pool.start();
  }

  stop(): Promise<void> {
    return this.#pool.stop();
  }

  #traced(
    batch: Uint8Array<ArrayBuffer>,
    listener: BatchListener,
    run: (frame: Uint8Array<ArrayBuffer>, heard: BatchListener) => RunningBatch,
  ): RunningBatch {
    const spans = this.#tracing.open(batch);
    if (spans === undefined) return run(batch, listener);
    return run(batch, {
      ...(listener.onProgress && { onProgress: (said) => listener.onProgress?.(said) }),
      onResults(results) {
        // Before the frame is given away.
        spans.onResults(results);
        listener.onResults(results);
      },
      onEnd(loss) {
        spans.end(loss);
        listener.onEnd(loss);
      },
    });
  }
}
