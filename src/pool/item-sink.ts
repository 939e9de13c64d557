/**
 * A WritableStream into a pool: what is written is run.
 *
 *   readable --pipeTo--> write() --permit--> pool        close(): when the last item has ended
 *
 * A write is done when its item is accepted, so a stream that is faster than the workers waits for them, in its turn
 * among all who wait. An item that fails ends the stream with its error, as a sink that cannot write would; with
 * `onResult` every item has its outcome there instead, and only what concerns the whole pool ends the stream.
 *
 * Invariants: (1) `#entries` are the items accepted and not ended; (2) after an error or abort nothing is under way.
 */
import { WritableStream, type WritableStreamDefaultController } from 'node:stream/web';
import { Encoding } from '../core/codec.js';
import { hasCode } from '../core/errors.js';
import { type Item, ItemStage } from './batcher.js';
import type { StreamPort } from './result-stream.js';

export interface SinkOptions {
  readonly onResult: ((outcome: PromiseSettledResult<unknown>, index: number) => void) | undefined;
  readonly signal: AbortSignal | undefined;
  readonly timeoutMs: number;
  readonly onProgress: ((value: unknown, index: number) => void) | undefined;
}

/** Makes the stream. */
export function itemSink(port: StreamPort, options: SinkOptions): WritableStream<unknown> {
  const sink = new ItemSink(port, options);
  return new WritableStream({
    start: (controller) => sink.start(controller),
    write: (input) => sink.write(input),
    close: () => sink.close(),
    abort: (reason) => sink.end(reason),
  });
}

class SinkEntry implements Item {
  text = '';
  memory: Uint8Array | undefined;
  offset = 0;
  encoding: Encoding = Encoding.JSON;
  byteLength = 0;
  stage: ItemStage = ItemStage.NEW;
  isDropped = false;
  flight: Item['flight'];
  slot = 0;
  readonly index: number;
  readonly #sink: ItemSink;

  constructor(sink: ItemSink, index: number) {
    this.#sink = sink;
    this.index = index;
  }

  get timeoutMs(): number {
    return this.#sink.timeoutMs;
  }

  get onProgress(): ((value: unknown) => void) | undefined {
    const { onProgress } = this.#sink;
    return onProgress && ((value) => onProgress(value, this.index));
  }

  onValue(value: unknown): void {
    this.#sink.onEnded(this, { status: 'fulfilled', value });
  }

  onError(reason: unknown): void {
    this.#sink.onEnded(this, { status: 'rejected', reason });
  }
}

class ItemSink {
  readonly timeoutMs: number;
  readonly onProgress: SinkOptions['onProgress'];
  readonly #port: StreamPort;
  readonly #onResult: SinkOptions['onResult'];
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort = (): void => this.end(this.#signal?.reason);
  /** Aborted at the end; stops a write that waits for room. */
  readonly #end = new AbortController();
  readonly #entries = new Set<SinkEntry>();
  #controller: WritableStreamDefaultController | undefined;
  #written = 0;
  /** Why the stream has ended before it was closed. */
  #failure: { readonly reason: unknown } | undefined;
  #onIdle: (() => void) | undefined;

  constructor(port: StreamPort, { onResult, signal, timeoutMs, onProgress }: SinkOptions) {
    this.#port = port;
    this.#onResult = onResult;
    this.#signal = signal;
    this.timeoutMs = timeoutMs;
    this.onProgress = onProgress;
  }

  start(controller: WritableStreamDefaultController): void {
    this.#controller = controller;
    this.#signal?.addEventListener('abort', this.#onAbort, { once: true });
    if (this.#signal?.aborted) this.#onAbort();
  }

  async write(input: unknown): Promise<void> {
    const entry = new SinkEntry(this, this.#written++);
    this.#entries.add(entry);
    try {
      await this.#port.submit(input, entry, this.#end.signal);
    } catch (error) {
      if (this.#failure !== undefined) return;
      this.onEnded(entry, { status: 'rejected', reason: error });
    }
  }

  /** When every item has ended. */
  async close(): Promise<void> {
    if (this.#entries.size > 0) {
      await new Promise<void>((resolve) => {
        this.#onIdle = resolve;
      });
    }
    this.#signal?.removeEventListener('abort', this.#onAbort);
    // A stream that is closing takes no error any other way.
    if (this.#failure !== undefined) throw this.#failure.reason;
  }

  /** Gives up what is under way, and takes nothing more. */
  end(reason: unknown): void {
    if (this.#failure !== undefined) return;
    this.#failure = { reason };
    this.#signal?.removeEventListener('abort', this.#onAbort);
    for (const entry of this.#entries) this.#port.drop(entry, 'the stream has ended');
    this.#entries.clear();
    this.#end.abort(reason);
    this.#controller?.error(reason);
    this.#onIdle?.();
  }

  onEnded(entry: SinkEntry, outcome: PromiseSettledResult<unknown>): void {
    if (!this.#entries.delete(entry)) return;
    if (outcome.status === 'rejected' && !this.#isItems(outcome.reason)) {
      this.end(outcome.reason);
      return;
    }
    try {
      this.#onResult?.(outcome, entry.index);
    } catch (error) {
      this.end(error);
      return;
    }
    if (this.#entries.size === 0) this.#onIdle?.();
  }

  /** Whether an error is one item's affair, and somebody is there to hear of it. */
  #isItems(error: unknown): boolean {
    return (
      this.#onResult !== undefined &&
      !hasCode(error, 'ERR_MILLRACE_CLOSED') &&
      !hasCode(error, 'ERR_MILLRACE_TASKS_MODULE')
    );
  }
}
