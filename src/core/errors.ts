/**
 * The one error class of millrace and the table of everything that can go wrong.
 *
 * Two worlds are kept apart. A programmer error inside millrace fails `invariant()` and carries a fixed tag
 * that finds the line. An operating error is expected and typed: users match on `code`, which stays stable
 * and survives two installed copies of the package, postMessage and the store, where classes do not.
 *
 * The facts about a code (its kind, whether a retry can help, what it means) live in the table below and
 * nowhere else; `docs/reference/errors.md` is checked against it by a test.
 */

/** Who has to act on an error, and so how callers should treat it. */
export type ErrorKind =
  | 'usage' // the caller's code is wrong: fix it; thrown at once
  | 'capacity' // backpressure, quota, full store: wait `retryAfterMs`, then try again
  | 'deadline' // a time budget is spent
  | 'cancelled' // somebody asked for it: not a failure
  | 'conflict' // somebody else was first: read again
  | 'coordination' // store, lease or lock trouble
  | 'task' // user code failed, or its thread died
  | 'internal'; // "cannot happen"

/** Every code, with its kind and meaning. */
export const ERRORS = {
  ERR_MILLRACE_UNKNOWN_TASK: {
    kind: 'usage',
    doc: 'No task of this name is defined in the tasks module.',
  },
  ERR_MILLRACE_INVALID_OPTION: { kind: 'usage', doc: 'An option has an unusable value.' },
  ERR_MILLRACE_INVALID_DURATION: {
    kind: 'usage',
    doc: "A duration is neither milliseconds nor a string like '250ms', '5s', '2m', '1h', '7d'.",
  },
  ERR_MILLRACE_INVALID_INPUT: {
    kind: 'usage',
    doc: "The input does not satisfy the task's schema.",
  },
  ERR_MILLRACE_PAYLOAD_TOO_LARGE: {
    kind: 'usage',
    doc: 'The encoded input is larger than the payload limit.',
  },
  ERR_MILLRACE_PAYLOAD_TOO_DEEP: {
    kind: 'usage',
    doc: 'The input is nested deeper than the depth limit.',
  },
  ERR_MILLRACE_PAYLOAD_NOT_SERIALIZABLE: {
    kind: 'usage',
    doc: 'The input or a result cannot be encoded (a cycle, a BigInt, a function, a throwing toJSON).',
  },
  ERR_MILLRACE_TASKS_MODULE: {
    kind: 'usage',
    doc: 'The tasks module does not load, or does not export tasks.',
  },
  ERR_MILLRACE_INPUT_LINE: {
    kind: 'usage',
    doc: 'A line of NDJSON input does not parse; `details.line` is its number.',
  },
  ERR_MILLRACE_CLOSED: { kind: 'usage', doc: 'The object was used after close().' },
  ERR_MILLRACE_NATIVE_MISSING: {
    kind: 'usage',
    doc: 'No native core for this platform: none was shipped and none was built.',
  },
  ERR_MILLRACE_QUEUE_FULL: {
    kind: 'capacity',
    doc: 'Admission refused: more tasks or bytes are pending than the limits allow.',
  },
  ERR_MILLRACE_STORE_FULL: { kind: 'capacity', doc: 'The store has no space left.' },
  ERR_MILLRACE_STORE_LOCKED: {
    kind: 'coordination',
    doc: 'Another process owns the store directory.',
  },
  ERR_MILLRACE_STORE_NOT_WRITABLE: {
    kind: 'coordination',
    doc: 'The store directory cannot be created or written.',
  },
  ERR_MILLRACE_STORE_FORMAT: {
    kind: 'coordination',
    doc: 'The store was written in a format this version does not know.',
  },
  ERR_MILLRACE_STORE_CORRUPT: {
    kind: 'coordination',
    doc: 'Stored bytes do not decode; `details` name the key and the reason.',
  },
  ERR_MILLRACE_STORE_UNAVAILABLE: {
    kind: 'coordination',
    doc: 'The store did not answer, or answered with a fault, in time. From a submit: with `details.mayBeStored` the task was on its way and may be stored; without, it certainly is not.',
  },
  ERR_MILLRACE_COMPACTED: {
    kind: 'coordination',
    doc: 'The revision asked for is no longer kept; list again and go on from there.',
  },
  ERR_MILLRACE_LEASE_LOST: { kind: 'coordination', doc: 'The lease expired or was revoked.' },
  ERR_MILLRACE_LOCK_TIMEOUT: {
    kind: 'deadline',
    doc: 'The lock was not free in time; `details` tell who holds it.',
  },
  ERR_MILLRACE_LOCK_NESTED: {
    kind: 'usage',
    doc: 'A lock was asked for by somebody who holds one.',
  },
  ERR_MILLRACE_TASK_FAILED: {
    kind: 'task',
    doc: 'The task failed for good; `cause` is what its handler threw.',
  },
  ERR_MILLRACE_TASK_TIMEOUT: {
    kind: 'deadline',
    doc: 'The handler ran longer than the task may; its signal was aborted, and its thread ended if that did not help.',
  },
  ERR_MILLRACE_TASK_CANCELLED: { kind: 'cancelled', doc: 'The task was cancelled.' },
  ERR_MILLRACE_TASK_EXPIRED: { kind: 'deadline', doc: 'The task did not start within its ttl.' },
  ERR_MILLRACE_TASK_LOST: {
    kind: 'task',
    doc: 'The thread or process died under the task, and it may not, or no longer, run again.',
  },
  ERR_MILLRACE_TASK_GONE: {
    kind: 'conflict',
    doc: 'The store knows no such task: it never existed, or its retention is over.',
  },
  ERR_MILLRACE_RESULT_TIMEOUT: { kind: 'deadline', doc: 'The result did not arrive in time.' },
  ERR_MILLRACE_CLAIM_LOST: {
    kind: 'conflict',
    doc: 'The task has begun or ended, and so is not what it was to be changed as; `details.status` says which.',
  },
  ERR_MILLRACE_STALE_EXECUTION: {
    kind: 'conflict',
    doc: 'A result came from an execution that is no longer the current one; it was refused.',
  },
  ERR_MILLRACE_STALE_REVISION: {
    kind: 'conflict',
    doc: 'The record changed since it was read.',
  },
  ERR_MILLRACE_INTERNAL: {
    kind: 'internal',
    doc: 'A bug in millrace; `details.tag` finds the line. Please report it.',
  },
} as const;

export type ErrorCode = keyof typeof ERRORS;

/** Plain facts about one error: the datum, the limit, whatever the reader at 3 a.m. needs. */
export type ErrorDetails = Readonly<Record<string, unknown>>;

const BRAND = Symbol.for('millrace.error');

/** Every operating error of millrace. Match on `code`, never on the class or the message. */
export class MillraceError extends Error {
  /** Stable identifier out of {@link ERRORS}. */
  readonly code: ErrorCode;
  /** Who has to act. */
  readonly kind: ErrorKind;
  /** The datum, the limit and the like. Plain data. */
  readonly details: ErrorDetails;

  constructor(
    code: ErrorCode,
    message: string,
    options: { readonly details?: ErrorDetails; readonly cause?: unknown } = {},
  ) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined);
    this.name = 'MillraceError';
    this.code = code;
    this.kind = ERRORS[code].kind;
    this.details = options.details ?? {};
    Object.defineProperty(this, BRAND, { value: true });
  }
}

/** Whether a value is an error of this package, also of another installed copy. Never throws. */
export function isMillraceError(value: unknown): value is MillraceError {
  try {
    return typeof value === 'object' && value !== null && BRAND in value;
  } catch {
    return false;
  }
}

/** Whether a value is an error with this code. Never throws. */
export function hasCode(value: unknown, code: ErrorCode): value is MillraceError {
  try {
    return isMillraceError(value) && value.code === code;
  } catch {
    return false;
  }
}

/**
 * Thrown by a handler to say that no retry can help: the task fails for good at once.
 * Recognised by its name, so that a copy of the class from another installation works too.
 */
export class NonRetryableError extends Error {
  constructor(message?: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'NonRetryableError';
  }
}

/** Fails with ERR_MILLRACE_INTERNAL and the tag of the call site unless the condition holds. */
export function invariant(
  condition: unknown,
  tag: string,
  details?: ErrorDetails,
): asserts condition {
  if (!condition) {
    throw new MillraceError('ERR_MILLRACE_INTERNAL', `invariant ${tag} does not hold`, {
      details: { tag, ...details },
    });
  }
}
