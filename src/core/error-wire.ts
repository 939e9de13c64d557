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
    const error = thrown as Record<string, unknown>;
    const details = smallPlainData(error.details);
    return {
      name: typeof error.name === 'string' ? cut(error.name, 128) : 'Error',
      message:
        typeof error.message === 'string'
          ? cut(error.message, MESSAGE_CHARS_MAX)
          : cut(String(thrown), MESSAGE_CHARS_MAX),
      ...(typeof error.code === 'string' && { code: cut(error.code, 128) }),
      ...(details && { details }),
      ...(typeof error.stack === 'string' && { stack: cut(error.stack, STACK_CHARS_MAX) }),
      ...(error.cause !== undefined &&
        causesLeft > 0 && { cause: toWire(error.cause, causesLeft - 1) }),
    };
  } catch {
    return { name: 'Error', message: 'an error that cannot be described was thrown' };
  }
}

/** The error a wire form describes: a MillraceError for a code of ours, else an Error with the same data. */
export function fromWire(wire: unknown): Error {
  const data = (typeof wire === 'object' && wire !== null ? wire : {}) as Partial<WireError>;
  const message = typeof data.message === 'string' ? data.message : 'an unknown error';
  const options = data.cause === undefined ? {} : { cause: fromWire(data.cause) };
  const code = typeof data.code === 'string' ? data.code : undefined;
  const error: Error =
    code !== undefined && Object.hasOwn(ERRORS, code)
      ? new MillraceError(code as ErrorCode, message, { ...options, details: data.details ?? {} })
      : new Error(message, options);
  const fields: Record<string, unknown> = {};
  if (typeof data.name === 'string') fields.name = data.name;
  if (typeof data.stack === 'string') fields.stack = data.stack;
  if (!(error instanceof MillraceError)) {
    if (code !== undefined) fields.code = code;
    if (data.details !== undefined) fields.details = data.details;
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

function smallPlainData(details: unknown): ErrorDetails | undefined {
  if (typeof details !== 'object' || details === null) return undefined;
  try {
    const json = JSON.stringify(details);
    if (json.length > DETAILS_CHARS_MAX || json === '{}') return undefined;
    return JSON.parse(json) as ErrorDetails;
  } catch {
    return undefined;
  }
}
