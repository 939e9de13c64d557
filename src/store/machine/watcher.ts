/**
 * One iteration of a watch: a position in the history, and nothing else.
 *
 * It buffers no events. Whoever asks for the next batch reads on from the position; when there is nothing yet, the
 * question waits for `wake()`. So a reader that never comes back costs one object, and falls off the ring when
 * changes *of its range* are forgotten; changes it would not have seen anyway are skipped as they go.
 */
import { MillraceError } from '../../core/errors.js';
import type { KeyRange, Revision, WatchBatch, WatchEvent } from '../../core/store.js';
import type { Change } from './history.js';
import type { Keyspace } from './keyspace.js';

const DONE: IteratorResult<WatchBatch, undefined> = { done: true, value: undefined };

interface Question {
  readonly resolve: (result: IteratorResult<WatchBatch, undefined>) => void;
  readonly reject: (error: unknown) => void;
}

export class Watcher implements AsyncIterableIterator<WatchBatch, undefined> {
  readonly #keyspace: Keyspace;
  readonly #range: KeyRange;
  readonly #onEnd: (watcher: Watcher) => void;
  readonly #questions: Question[] = [];
  /** The revision to look at next. */
  #position: number;
  #isEnded = false;
  #failure: MillraceError | undefined;

  constructor(
    keyspace: Keyspace,
    range: KeyRange,
    startRevision: Revision,
    onEnd: (watcher: Watcher) => void,
  ) {
    this.#keyspace = keyspace;
    this.#range = range;
    this.#position = startRevision;
    this.#onEnd = onEnd;
  }

  /** Where reading goes on: everything before has been told, or did not concern the range. */
  get position(): Revision {
    return this.#position as Revision;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<WatchBatch, undefined>> {
    return new Promise((resolve, reject) => {
      this.#questions.push({ resolve, reject });
      this.wake();
    });
  }

  return(): Promise<IteratorResult<WatchBatch, undefined>> {
    this.end();
    return Promise.resolve(DONE);
  }

  /** Answers who waits, as far as there is something new. */
  wake(): void {
    while (this.#questions.length > 0) {
      const answer = this.#isEnded ? DONE : this.#read();
      if (answer === undefined) return;
      const question = this.#questions.shift()!;
      if (answer instanceof MillraceError) question.reject(answer);
      else question.resolve(answer);
    }
  }

  /** Ends the iteration, with an error for the next question or quietly. */
  end(failure?: MillraceError): void {
    if (this.#isEnded || this.#failure) return;
    this.#failure = failure;
    this.#isEnded = failure === undefined;
    this.#onEnd(this);
    this.wake();
  }

  /** Called before everything up to `revision` is forgotten. */
  skip(revision: Revision): void {
    while (this.#position <= revision && this.#position >= this.#keyspace.history.watchable) {
      if (this.#matches(this.#position).length > 0) return;
      this.#position += 1;
    }
  }

  #read(): IteratorResult<WatchBatch, undefined> | MillraceError | undefined {
    if (this.#failure) {
      // An error is told once; after it the iteration is over, as with generators.
      this.#isEnded = true;
      return this.#failure;
    }
    const { history, durable } = this.#keyspace;
    if (this.#position < history.watchable) {
      this.#isEnded = true;
      this.#onEnd(this);
      return compacted(this.#position, history.watchable);
    }
    while (this.#position <= durable) {
      const revision = this.#position as Revision;
      const changes = this.#matches(revision);
      this.#position += 1;
      if (changes.length > 0) {
        return { done: false, value: { revision, events: changes.map(eventOf) } };
      }
    }
    return undefined;
  }

  #matches(revision: number): Change[] {
    const { from, to } = this.#range;
    const { changes } = this.#keyspace.history.record(revision as Revision);
    return changes.filter(({ key }) => from <= key && key < to);
  }
}

/** The error of whoever needs a revision that is gone. */
export function compacted(revision: number, compactRevision: number): MillraceError {
  return new MillraceError(
    'ERR_MILLRACE_COMPACTED',
    `revision ${revision} is no longer kept, the oldest is ${compactRevision}; read the range again and go on from its revision`,
    { details: { revision, compactRevision } },
  );
}

function eventOf({ key, revision, entry }: Change): WatchEvent {
  return entry ? { type: 'put', entry } : { type: 'delete', key, modRevision: revision };
}
