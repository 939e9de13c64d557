/**
 * Errors as plain data, for crossing threads and for the store.
 *
 * postMessage keeps neither class nor `code`, and JSON keeps nothing of an Error at all. What arrives is data
 * that looks like the error that left (name, message, code, details, stack, causes), never a rebuilt class of
 * the sender's: stored bytes must not choose which code runs.
 */
import { ERRORS, type ErrorCode, type ErrorDetails, MillraceError } from './errors.js';

export interface WireError {
  readonly name: string;
  readonly message: string;
  readonly code?: string;
  /** HTTP's, of errors that carry one as `status` or `statusCode`. */
  readonly status?: number;
  readonly details?: ErrorDetails;
  readonly stack?: string;
  readonly cause?: WireError;
}

const MESSAGE_CHARS_MAX = 4_096;
const STACK_CHARS_MAX = 8_192;
const DETAILS_CHARS_MAX = 4_096;
const CAUSES_MAX = 4;

/** Anything that can be thrown, as plain data of bounded size. Never throws. */
export function toWire(thrown: unknown, causesLeft: number = CAUSES_MAX): WireError {
  try {
    if (typeof thrown !== 'object' || thrown === null) {
      return { name: 'Error', message: cut(String(thrown), MESSAGE_CHARS_MAX) };
    }
    // Each field is read once: a getter may throw, or answer differently the next time.
    const code = textOf(thrown, 'code', 128);
    const status = statusOf(thrown);
    const details = smallPlainData(fieldOf(thrown, 'details'));
    const stack = textOf(thrown, 'stack', STACK_CHARS_MAX);
    const cause = causesLeft > 0 ? fieldOf(thrown, 'cause') : undefined;
    return {
      name: textOf(thrown, 'name', 128) ?? 'Error',
      message:
        textOf(thrown, 'message', MESSAGE_CHARS_MAX) ?? cut(String(thrown), MESSAGE_CHARS_MAX),
      ...(code !== undefined && { code }),
      ...(status !== undefined && { status }),
      ...(details !== undefined && { details }),
      ...(stack !== undefined && { stack }),
      ...(cause !== undefined && { cause: toWire(cause, causesLeft - 1) }),
    };
  } catch {
    return { name: 'Error', message: 'an error that cannot be described was thrown' };
  }
}

/**
 * The error a wire form describes: a MillraceError for a code of ours, else an Error with the same data.
 * Fields of the wrong type are left out, and so are causes beyond those that `toWire` sends.
 */
export function fromWire(wire: unknown, causesLeft: number = CAUSES_MAX): Error {
  const data = isPlainObject(wire) ? (wire as Partial<WireError>) : {};
  const message = typeof data.message === 'string' ? data.message : 'an unknown error';
  const options =
    data.cause === undefined || causesLeft === 0
      ? {}
      : { cause: fromWire(data.cause, causesLeft - 1) };
  const code = typeof data.code === 'string' ? data.code : undefined;
  const details = isPlainObject(data.details) ? data.details : undefined;
  const error: Error =
    code !== undefined && Object.hasOwn(ERRORS, code)
      ? new MillraceError(code as ErrorCode, message, { ...options, details: details ?? {} })
      : new Error(message, options);
  const fields: Record<string, unknown> = {};
  if (typeof data.name === 'string') fields.name = data.name;
  if (typeof data.stack === 'string') fields.stack = data.stack;
  if (!(error instanceof MillraceError)) {
    if (code !== undefined) fields.code = code;
    if (isStatus(data.status)) fields.status = data.status;
    if (details !== undefined) fields.details = details;
  }
  for (const [key, value] of Object.entries(fields)) {
    Object.defineProperty(error, key, { value, configurable: true, writable: true });
  }
  return error;
}

function cut(text: string, charsMax: number): string {
  return text.length <= charsMax
    ? text
    : `${text.slice(0, charsMax)}... (${text.length} characters)`;
}

function fieldOf(error: object, name: string): unknown {
  try {
    return (error as Record<string, unknown>)[name];
  } catch {
    return undefined;
  }
}

function textOf(error: object, name: string, charsMax: number): string | undefined {
  const value = fieldOf(error, name);
  return typeof value === 'string' ? cut(value, charsMax) : undefined;
}

function statusOf(error: object): number | undefined {
  const status = fieldOf(error, 'status') ?? fieldOf(error, 'statusCode');
  return isStatus(status) ? status : undefined;
}

function isStatus(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 100 && (value as number) <= 599;
}

function isPlainObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function smallPlainData(details: unknown): ErrorDetails | undefined {
  if (typeof details !== 'object' || details === null) return undefined;
  try {
    const json = JSON.stringify(details);
    if (json.length > DETAILS_CHARS_MAX || json === '{}') return undefined;
    const plain: unknown = JSON.parse(json);
    return isPlainObject(plain) ? plain : undefined;
  } catch {
    return undefined;
  }
}
