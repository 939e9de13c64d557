/**
 * A watch whose stream can be cut: what was under way is lost, and reading goes on behind the last batch that was
 * told, once the stream is back. As on etcd with a client that resumes correctly, the reader notices nothing but the
 * delay, unless what it needs next has been compacted meanwhile.
 */
import type { MillraceError } from '../core/errors.js';
import type { Revision, WatchBatch } from '../core/store.js';

type Result = IteratorResult<WatchBatch, undefined>;

const DONE: Result = { done: true, value: undefined };

/** What the watch asks of its connection. */
export interface WatchLink {
  /** Reads on from a revision. */
  readonly open: (revision: Revision) => AsyncIterator<WatchBatch>;
  /** Calls when the news has come through; in order. */
  readonly deliver: (tell: () => void) => void;
  /** Asked for each batch that comes through. */
  readonly isCut: () => boolean;
  /** Calls once the stream may be back, or never while the link is cut. */
  readonly reconnect: (resume: () => void) => void;
  readonly onEnd: () => void;
}

interface Question {
  readonly resolve: (result: Result) => void;
  readonly reject: (error: unknown) => void;
}

export class SimWatch implements AsyncIterableIterator<WatchBatch, undefined> {
  readonly #link: WatchLink;
  readonly #questions: Question[] = [];
  #stream: AsyncIterator<WatchBatch> | undefined;
  /** The revision after the last one told. */
  #position: Revision;
  #isReading = false;
  #isEnded = false;
  #failure: MillraceError | undefined;

  constructor(start: Revision, link: WatchLink) {
    this.#link = link;
    this.#position = start;
    this.#stream = link.open(start);
  }

  /** Where reading goes on, while the stream is cut. */
  get cutAt(): Revision | undefined {
    return this.#stream === undefined ? this.#position : undefined;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.#questions.push({ resolve, reject });
      this.#pump();
    });
  }

  return(): Promise<Result> {
    this.end();
    return Promise.resolve(DONE);
  }

  /** Ends the iteration, with an error for the next question or quietly. */
  end(failure?: MillraceError): void {
    if (this.#isEnded || this.#failure) return;
    this.#failure = failure;
    this.#isEnded = failure === undefined;
    this.#close();
    this.#link.onEnd();
    this.#answerEnd();
  }

  /** The reader is dead: nothing is answered any more. */
  abandon(): void {
    this.#questions.length = 0;
    this.#isEnded = true;
    this.#close();
  }

  /** The stream may be back. */
  resume(): void {
    if (this.#stream !== undefined || this.#isEnded || this.#failure) return;
    this.#stream = this.#link.open(this.#position);
    this.#pump();
  }

  #pump(): void {
    if (this.#isEnded || this.#failure) return this.#answerEnd();
    const stream = this.#stream;
    if (this.#isReading || stream === undefined || this.#questions.length === 0) return;
    this.#isReading = true;
    stream.next().then(
      (result) => this.#link.deliver(() => this.#onBatch(stream, result)),
      (error) => this.#link.deliver(() => this.#onError(stream, error as MillraceError)),
    );
  }

  #onBatch(stream: AsyncIterator<WatchBatch>, result: Result): void {
    if (!this.#isCurrent(stream)) return;
    if (result.done) return;
    if (this.#link.isCut()) return this.#cut();
    this.#position = (result.value.revision + 1) as Revision;
    this.#questions.shift()?.resolve(result);
    this.#pump();
  }

  #onError(stream: AsyncIterator<WatchBatch>, error: MillraceError): void {
    if (!this.#isCurrent(stream)) return;
    if (this.#link.isCut()) return this.#cut();
    this.end(error);
  }

  #isCurrent(stream: AsyncIterator<WatchBatch>): boolean {
    if (stream !== this.#stream || this.#isEnded || this.#failure) return false;
    this.#isReading = false;
    return true;
  }

  #cut(): void {
    this.#close();
    this.#link.reconnect(() => this.resume());
  }

  #close(): void {
    void this.#stream?.return?.();
    this.#stream = undefined;
    this.#isReading = false;
  }

  /** An error is told once; after it the iteration is over, as with generators. */
  #answerEnd(): void {
    for (const question of this.#questions.splice(0)) {
      const failure = this.#failure;
      this.#failure = undefined;
      this.#isEnded = true;
      if (failure) question.reject(failure);
      else question.resolve(DONE);
    }
  }
}
