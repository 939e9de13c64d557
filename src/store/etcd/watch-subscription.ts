/**
 * One iteration of a watch on etcd: what its reader has not taken yet, and where the server has to go on.
 *
 *   told to the reader | buffered        | needed next                        server's history ->
 *   ... r3  r4  r5     | r6  r9  r12     | nextRevision = 13
 *
 * `nextRevision` is all there is to resume from. It moves to the last *event's* revision + 1, and to a header's
 * revision + 1 only when that is a progress notification: a header is the newest revision of the member, which an
 * answer with old events carries as well as any other.
 *
 * The buffer is bounded. When the reader is so slow that it is full, the watch is *lagging*: it takes nothing more and
 * is detached from its stream, so that it holds up nobody. Once the reader has taken half of the buffer the watch is
 * attached again and the server tells it the rest from its history; if that has been compacted by then, the reader
 * gets ERR_MILLRACE_COMPACTED after everything that is buffered.
 *
 * Invariants: (1) batches leave in order of revisions, each once; (2) everything before `nextRevision` has been told,
 * or is buffered, or did not concern the range; (3) a lagging watch receives nothing.
 */
import type { MillraceError } from '../../core/errors.js';
import { Fifo } from '../../core/fifo.js';
import type { KeyRange, Revision, WatchBatch, WatchEvent } from '../../core/store.js';

const DONE: IteratorResult<WatchBatch, undefined> = { done: true, value: undefined };
/** What an event weighs in the buffer besides its key and value. */
const EVENT_BYTES = 128;

/** Who delivers: attaches a subscription to a stream, and lets it go. */
export interface Deliverer {
  attach(subscription: WatchSubscription): void;
  detach(subscription: WatchSubscription): void;
  /** The subscription has ended, for whatever reason; called once. */
  onEnd(subscription: WatchSubscription): void;
}

export interface SubscriptionOptions {
  /** As stored: with the prefix. */
  readonly range: KeyRange;
  /** What is taken off the front of every key. */
  readonly prefixLength: number;
  /** 0: the next one the server has. */
  readonly startRevision: number;
  /**
   * Whether the reader asked for "from now on". The start is then the newest revision that this process has heard of;
   * where that is gone already, the first attachment begins at the oldest there is. (Whoever compacts leaves the last
   * thousands of revisions, so nothing that happened after the call is among what is gone.)
   */
  readonly isStartOpen: boolean;
  readonly bufferBytesMax: number;
}

interface Question {
  readonly resolve: (result: IteratorResult<WatchBatch, undefined>) => void;
  readonly reject: (error: unknown) => void;
}

export class WatchSubscription implements AsyncIterableIterator<WatchBatch, undefined> {
  readonly range: KeyRange;
  readonly prefixLength: number;
  readonly #deliverer: Deliverer;
  readonly #bufferBytesMax: number;
  readonly #buffer = new Fifo<{ readonly batch: WatchBatch; readonly bytes: number }>();
  #bufferBytes = 0;
  readonly #questions = new Fifo<Question>();
  #nextRevision: number;
  #isStartOpen: boolean;
  #isLagging = false;
  #isEnded = false;
  #failure: MillraceError | undefined;

  constructor(deliverer: Deliverer, options: SubscriptionOptions) {
    this.#deliverer = deliverer;
    this.range = options.range;
    this.prefixLength = options.prefixLength;
    this.#bufferBytesMax = options.bufferBytesMax;
    this.#nextRevision = options.startRevision;
    this.#isStartOpen = options.isStartOpen;
  }

  /** Where the server has to go on; 0 as long as it is to choose. */
  get nextRevision(): number {
    return this.#nextRevision;
  }

  get isEnded(): boolean {
    return this.#isEnded;
  }

  get isLagging(): boolean {
    return this.#isLagging;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<WatchBatch, undefined>> {
    const batch = this.#shift();
    if (batch) return Promise.resolve({ done: false, value: batch });
    if (this.#failure) {
      // An error is told once; after it the iteration is over, as with generators.
      const failure = this.#failure;
      this.#failure = undefined;
      return Promise.reject(failure);
    }
    if (this.#isEnded) return Promise.resolve(DONE);
    return new Promise((resolve, reject) => {
      this.#questions.push({ resolve, reject });
    });
  }

  return(): Promise<IteratorResult<WatchBatch, undefined>> {
    this.end();
    return Promise.resolve(DONE);
  }

  /** The server has chosen where to begin. */
  began(revision: Revision): void {
    if (this.#nextRevision === 0) this.#nextRevision = revision + 1;
  }

  /** Its stream was cut: from here on it needs exactly what comes next. */
  cut(): void {
    this.#isStartOpen = false;
  }

  /** Takes whole revisions, in order. What has been told before is left out. */
  receive(batches: readonly WatchBatch[]): void {
    for (const batch of batches) {
      if (this.#isEnded || this.#isLagging) return;
      if (batch.revision < this.#nextRevision) continue;
      this.#nextRevision = batch.revision + 1;
      this.#isStartOpen = false;
      const question = this.#questions.shift();
      if (question) question.resolve({ done: false, value: batch });
      else this.#keep(batch);
    }
  }

  /** Everything up to this revision has been told; only for a watch that waits for no fragment. */
  progress(revision: Revision): void {
    if (this.#isLagging || this.#isEnded || revision < this.#nextRevision) return;
    this.#nextRevision = revision + 1;
    this.#isStartOpen = false;
  }

  /**
   * What is needed next is gone.
   *
   * @param failure - what the reader is told, unless it only asked for what is new
   * @returns whether the watch goes on, from the oldest revision there is
   */
  compacted(compactRevision: Revision, failure: MillraceError): boolean {
    if (this.#isStartOpen) {
      this.#isStartOpen = false;
      this.#nextRevision = Math.max(this.#nextRevision, compactRevision);
      return true;
    }
    this.fail(failure);
    return false;
  }

  /** Ends with an error, after what is buffered. */
  fail(failure: MillraceError): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    const question = this.#questions.shift();
    if (question) question.reject(failure);
    else this.#failure = failure;
    this.#close();
  }

  /** Ends at once, quietly or with an error for the next question. What is buffered is dropped. */
  end(failure?: MillraceError): void {
    this.#buffer.takeAll();
    this.#bufferBytes = 0;
    if (failure) return this.fail(failure);
    this.#failure = undefined;
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#close();
  }

  #close(): void {
    for (const { resolve } of this.#questions.takeAll()) resolve(DONE);
    this.#deliverer.onEnd(this);
  }

  #keep(batch: WatchBatch): void {
    const bytes = bytesOf(batch);
    this.#buffer.push({ batch, bytes });
    this.#bufferBytes += bytes;
    if (this.#bufferBytes < this.#bufferBytesMax) return;
    this.#isLagging = true;
    this.#deliverer.detach(this);
  }

  #shift(): WatchBatch | undefined {
    const kept = this.#buffer.shift();
    if (kept === undefined) return undefined;
    this.#bufferBytes -= kept.bytes;
    if (this.#isLagging && !this.#isEnded && this.#bufferBytes * 2 <= this.#bufferBytesMax) {
      this.#isLagging = false;
      this.#deliverer.attach(this);
    }
    return kept.batch;
  }
}

function bytesOf(batch: WatchBatch): number {
  let bytes = 0;
  for (const event of batch.events) {
    bytes += EVENT_BYTES + eventBytes(event);
  }
  return bytes;
}

function eventBytes(event: WatchEvent): number {
  return event.type === 'put'
    ? event.entry.key.length + event.entry.value.length
    : event.key.length;
}
