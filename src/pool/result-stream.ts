/**
 * The results of many items as an async iterator, in the order of the items.
 *
 *   source --pull--> [ window: items under way, and results nobody has taken yet ] --next()--> consumer
 *
 * The source is read only as far as the window reaches beyond the consumer, so neither an endless source nor a
 * slow consumer fills memory. It is read in portions, whenever half of the window is free, since a portion makes a
 * batch. A result that is there is handed out without another turn of the event loop.
 *
 * An item that fails ends the iteration with its error, in its turn, as a loop over plain code would; when
 * `settled`, every item has its outcome instead. Leaving the loop early drops what is still under way.
 *
 * Invariants: (1) entries `#head` to `#tail` are the window, in order; (2) at most one pull waits for something;
 * (3) after the end nothing is pulled and nothing is under way.
 */
import { Encoding } from '../core/codec.js';
import { type Item, ItemStage } from './batcher.js';

/** An item whose payload is still to come. */
export type EntryToFill = Item & {
  text: string;
  memory: Uint8Array | undefined;
  offset: number;
  encoding: Encoding;
  byteLength: number;
};

/** What a stream asks of its pool. */
export interface StreamPort {
  /** Items beyond the consumer. */
  readonly window: number;
  /** The source is read when there is room for so many: at most `window`. */
  readonly portion: number;
  /** Encodes an item into `entry` and sends it; a promise when it has to wait for room. Throws for bad input. */
  submit(input: unknown, entry: EntryToFill, signal: AbortSignal): Promise<void> | undefined;
  drop(entry: Item, reason: string): void;
}

/** An item and, later, what became of it. */
export class StreamEntry implements Item {
  text = '';
  memory: Uint8Array | undefined;
  offset = 0;
  encoding: Encoding = Encoding.JSON;
  byteLength = 0;
  stage: ItemStage = ItemStage.NEW;
  isDropped = false;
  flight: Item['flight'];
  slot = 0;
  state: 'free' | 'under way' | 'value' | 'error' = 'under way';
  result: unknown;
  /** Ends the iteration also when outcomes are settled: it is no item's. */
  isFatal = false;
  readonly #stream: ResultStream;
  /** Of the item in the source. */
  index = 0;

  constructor(stream: ResultStream) {
    this.#stream = stream;
  }

  /** As new, free for another item. REQUIRES: it ended with a value, so nobody else refers to it. */
  renew(): void {
    this.text = '';
    this.memory = undefined;
    this.encoding = Encoding.JSON;
    this.byteLength = 0;
    this.stage = ItemStage.NEW;
    this.state = 'free';
    this.result = undefined;
  }

  get timeoutMs(): number {
    return this.#stream.timeoutMs;
  }

  get onProgress(): ((value: unknown) => void) | undefined {
    const { onProgress } = this.#stream;
    return onProgress && ((value) => onProgress(value, this.index));
  }

  onValue(value: unknown): void {
    this.state = 'value';
    this.result = value;
    this.#stream.onEnded(this);
  }

  onError(error: unknown): void {
    this.state = 'error';
    this.result = error;
    this.#stream.onEnded(this);
  }
}

type Answer = (result: IteratorResult<unknown> | Promise<never>) => void;

export class ResultStream implements AsyncIterableIterator<unknown> {
  /** How long each item may run; 0 means what the pool's items may. */
  readonly timeoutMs: number;
  /** Hears of progress, and of which item. */
  readonly onProgress: ((value: unknown, index: number) => void) | undefined;
  #read = 0;
  readonly #port: StreamPort;
  /** Undefined for a plain array, which is read by index. */
  readonly #source: Iterator<unknown> | AsyncIterator<unknown> | undefined;
  readonly #array: readonly unknown[];
  #arrayNext = 0;
  readonly #settled: boolean;
  /** Aborted at the end; stops a submit that waits for room. */
  readonly #end = new AbortController();
  readonly #endSignal = this.#end.signal;
  readonly #unlisten: () => void;
  /** A ring: number i is at i modulo its size. Places outside the window have entries that may be free. */
  #entries: StreamEntry[] = [];
  readonly #mask: number;
  /** Numbers of the first entry in the window, and of the next to come. */
  #head = 0;
  #tail = 0;
  /** Calls of next() that wait, in order. */
  readonly #waiting: Answer[] = [];
  #isPulling = false;
  #isExhausted = false;

  constructor(
    port: StreamPort,
    items: Iterable<unknown> | AsyncIterable<unknown>,
    options: {
      readonly settled: boolean;
      readonly signal: AbortSignal | undefined;
      readonly timeoutMs: number;
      readonly onProgress: ((value: unknown, index: number) => void) | undefined;
    },
  ) {
    this.#port = port;
    // Beside the window, one whose source was late and the one that ends it all.
    const size = 2 ** Math.ceil(Math.log2(port.window + 2));
    this.#mask = size - 1;
    this.timeoutMs = options.timeoutMs;
    this.onProgress = options.onProgress;
    this.#settled = options.settled;
    const isArray = isPlainArray(items);
    this.#array = isArray ? items : [];
    this.#source = isArray
      ? undefined
      : Symbol.asyncIterator in items
        ? items[Symbol.asyncIterator]()
        : items[Symbol.iterator]();
    const { signal } = options;
    const onAbort = (): void => {
      this.#finish('the signal was aborted');
      this.#addFatal(signal?.reason);
      this.#serve();
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    this.#unlisten = () => signal?.removeEventListener('abort', onAbort);
    if (signal?.aborted) onAbort();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<unknown>> {
    const entry = this.#first();
    if (this.#waiting.length === 0 && entry !== undefined && entry.state !== 'under way') {
      this.#head++;
      const result = this.#resultOf(entry);
      this.#pullIfRoom();
      return Promise.resolve(result);
    }
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      this.#pullIfRoom();
      this.#serve();
    });
  }

  async return(value?: unknown): Promise<IteratorResult<unknown>> {
    this.#finish('the consumer left');
    this.#serve();
    return { done: true, value };
  }

  /** An item has its result. */
  onEnded(entry: StreamEntry): void {
    if (this.#waiting.length > 0 && entry === this.#first()) this.#serve();
  }

  /** Answers waiting calls of next() as far as there are answers. */
  #serve(): void {
    while (this.#waiting.length > 0) {
      const entry = this.#first();
      if (entry === undefined) {
        if (!this.#isExhausted || this.#isPulling) break;
        this.#finish('the items have ended');
        this.#waiting.shift()!({ done: true, value: undefined });
      } else if (entry.state === 'under way') {
        break;
      } else {
        this.#head++;
        this.#waiting.shift()!(this.#resultOf(entry));
      }
    }
    this.#pullIfRoom();
  }

  #resultOf(entry: StreamEntry): IteratorResult<unknown> | Promise<never> {
    const { state, result } = entry;
    if (this.#settled && !entry.isFatal) {
      const value: PromiseSettledResult<unknown> =
        state === 'value'
          ? { status: 'fulfilled', value: result }
          : { status: 'rejected', reason: result };
      return { done: false, value };
    }
    if (state === 'value') {
      entry.renew();
      return { done: false, value: result };
    }
    this.#finish('an item before it failed');
    return Promise.reject(result);
  }

  #pullIfRoom(): void {
    if (this.#isPulling || this.#isExhausted) return;
    const { window, portion } = this.#port;
    if (this.#tail - this.#head <= window - portion) this.#pull();
  }

  /** The next to come out. */
  #first(): StreamEntry | undefined {
    return this.#head < this.#tail ? this.#entries[this.#head & this.#mask] : undefined;
  }

  /** An entry at the end of the window. */
  #append(): StreamEntry {
    const at = this.#tail++ & this.#mask;
    let entry = this.#entries[at];
    if (entry?.state === 'free') {
      entry.state = 'under way';
    } else {
      entry = new StreamEntry(this);
      this.#entries[at] = entry;
    }
    return entry;
  }

  /** Reads the source until the window is full; goes on later where there is something to wait for. */
  #pull(): void {
    while (!this.#isExhausted && this.#tail - this.#head < this.#port.window) {
      let later: PromiseLike<void> | undefined;
      try {
        if (this.#source === undefined) {
          if (this.#arrayNext < this.#array.length)
            later = this.#submit(this.#array[this.#arrayNext++]);
          else this.#isExhausted = true;
        } else {
          const step = this.#source.next();
          later = 'then' in step ? step.then((it) => this.#accept(it)) : this.#accept(step);
        }
      } catch (error) {
        this.#addFatal(error);
        return;
      }
      if (later !== undefined) {
        this.#isPulling = true;
        const goOn = (): void => {
          this.#isPulling = false;
          this.#pullIfRoom();
          this.#serve();
        };
        later.then(goOn, (error) => {
          this.#addFatal(error);
          goOn();
        });
        return;
      }
    }
  }

  /** Sends an item; a promise when it waits for room. */
  #accept(step: IteratorResult<unknown>): Promise<void> | undefined {
    if (this.#isExhausted) return undefined;
    if (step.done) {
      this.#isExhausted = true;
      return undefined;
    }
    return this.#submit(step.value);
  }

  #submit(input: unknown): Promise<void> | undefined {
    const entry = this.#append();
    entry.index = this.#read++;
    try {
      const waits = this.#port.submit(input, entry, this.#endSignal);
      return waits === undefined ? undefined : failing(entry, waits);
    } catch (error) {
      fail(entry, error);
      return undefined;
    }
  }

  /** The next thing to come out, and the last. */
  #addFatal(error: unknown): void {
    this.#isExhausted = true;
    const entry = this.#append();
    entry.index = this.#read;
    entry.isFatal = true;
    entry.onError(error);
  }

  /** Stops everything; what next() is still asked gets `done`. */
  #finish(reason: string): void {
    this.#unlisten();
    const wasExhausted = this.#isExhausted;
    this.#isExhausted = true;
    const entries = this.#entries;
    const [head, tail] = [this.#head, this.#tail];
    this.#entries = [];
    this.#head = 0;
    this.#tail = 0;
    for (let number = head; number < tail; number++) {
      const entry = entries[number & this.#mask]!;
      if (entry.state === 'under way') this.#port.drop(entry, reason);
    }
    this.#end.abort();
    if (wasExhausted) return;
    try {
      // An async generator answers with a promise, and nobody is left to hear it.
      void Promise.resolve(this.#source?.return?.()).catch(() => {});
    } catch {
      // The same for one that throws.
    }
  }
}

/** Apart, because a function that makes a closure makes room for it in every call. */
function failing(entry: StreamEntry, waits: Promise<void>): Promise<void> {
  return waits.catch((error) => fail(entry, error));
}

function fail(entry: StreamEntry, error: unknown): void {
  if (!entry.isDropped) entry.onError(error);
}

/** An array that is iterated as arrays are: reading it by index saves an object per item. */
function isPlainArray(items: object): items is readonly unknown[] {
  return (
    Array.isArray(items) &&
    items[Symbol.iterator] === Array.prototype[Symbol.iterator] &&
    !(Symbol.asyncIterator in items)
  );
}
