/**
 * Door: whether the engine takes anything in, and why not.
 *
 *   open      tasks are taken
 *   stalled   until the store answers: a commit has had no answer for seconds, and nothing else can be written before it has
 *   shut      for good: another writer has the lane, or the engine ends
 */
import { MillraceError } from '../core/errors.js';

/** When to try again while the store does not answer. */
const STALL_RETRY_MS = 1_000;

export class Door {
  #refusal: MillraceError | undefined;
  #stall: MillraceError | undefined;
  #isClosed = false;

  /** Why nothing is taken any more, for good. */
  get refusal(): MillraceError | undefined {
    return this.#refusal;
  }

  /** Whether the engine ends: from then on nobody here waits for anything. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Why nothing is taken now, for good or not. */
  get cause(): MillraceError | undefined {
    return this.#refusal ?? this.#stall;
  }

  /** The same, and whether that is for good; undefined: tasks are taken. */
  get notTaking(): { readonly cause: MillraceError; readonly isFinal: boolean } | undefined {
    if (this.#refusal) return { cause: this.#refusal, isFinal: true };
    return this.#stall && { cause: this.#stall, isFinal: false };
  }

  /** The commit at hand has had no answer for seconds. @returns what submitters hear until it has */
  stall(cause: MillraceError): MillraceError {
    this.#stall = new MillraceError(
      'ERR_MILLRACE_STORE_UNAVAILABLE',
      `the store gives no definite answer: ${cause.message}; try again later`,
      { details: { retryAfterMs: STALL_RETRY_MS }, cause },
    );
    return this.#stall;
  }

  /** It has an answer, and the next one may be cut. */
  endStall(): void {
    this.#stall = undefined;
  }

  /** Nothing is taken any more, because of this. */
  shut(cause: MillraceError): void {
    this.#refusal = cause;
  }

  /** The engine ends. @returns why nothing is taken any more: this, if it has not been shut before */
  close(cause: MillraceError): MillraceError {
    this.#isClosed = true;
    this.#refusal ??= cause;
    return this.#refusal;
  }
}

/** What submitters hear whose commit has no definite answer. */
export function mayBeStored(cause: MillraceError): MillraceError {
  return new MillraceError(
    'ERR_MILLRACE_STORE_UNAVAILABLE',
    `the store gives no definite answer: ${cause.message}; the task may be stored all the same. Submit it again with an idempotencyKey, which makes one task of both`,
    { details: { retryAfterMs: STALL_RETRY_MS, mayBeStored: true }, cause },
  );
}
