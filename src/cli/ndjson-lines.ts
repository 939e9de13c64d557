/**
 * NDJSON bytes -> values with their line numbers, in bounded memory.
 *
 * A line that is no JSON, or is too long, comes out as the error it is, in its place: the lines after it are as good
 * as before. Blank lines are passed over but counted. A byte order mark at the start is none of the data.
 */
import { MillraceError } from '../core/errors.js';

export type Line =
  | { readonly line: number; readonly value: unknown }
  | { readonly line: number; readonly error: MillraceError };

export interface LineOptions {
  /** A longer line is dropped unread. Allows for spaces: what counts in the end is the encoded input. */
  readonly bytesMax: number;
}

const NEWLINE = 0x0a;
const SHOWN_CHARS = 60;

/** Values and errors of the lines of a byte stream, in order. */
export async function* ndjsonLines(
  source: AsyncIterable<Uint8Array>,
  options: LineOptions,
): AsyncGenerator<Line> {
  const pending = new PendingLine(options.bytesMax);
  let line = 1;
  for await (const chunk of source) {
    let from = 0;
    for (;;) {
      const newlineAt = chunk.indexOf(NEWLINE, from);
      pending.add(chunk.subarray(from, newlineAt === -1 ? undefined : newlineAt));
      if (newlineAt === -1) break;
      const parsed = pending.take(line++);
      if (parsed !== undefined) yield parsed;
      from = newlineAt + 1;
    }
  }
  const last = pending.take(line);
  if (last !== undefined) yield last;
}

/** A line on its way in: its pieces as long as they may still be wanted, and its length in any case. */
class PendingLine {
  readonly #bytesMax: number;
  #pieces: Uint8Array[] = [];
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  add(piece: Uint8Array): void {
    this.#bytes += piece.length;
    if (this.#bytes > this.#bytesMax) this.#pieces = [];
    else if (piece.length > 0) this.#pieces.push(piece);
  }

  /** The line as it is now, and a fresh start; undefined for a blank one. */
  take(line: number): Line | undefined {
    const pieces = this.#pieces;
    const bytes = this.#bytes;
    this.#pieces = [];
    this.#bytes = 0;
    if (bytes > this.#bytesMax) return { line, error: tooLong(line, bytes, this.#bytesMax) };
    return parseLine(line, Buffer.concat(pieces));
  }
}

function parseLine(line: number, content: Uint8Array): Line | undefined {
  let text: string;
  try {
    // Each line has its own decoder: a broken one must not leave anything behind. It removes the byte order mark,
    // which is wanted in the first line and does no harm in others.
    text = new TextDecoder('utf-8', { fatal: true }).decode(content);
  } catch (cause) {
    return { line, error: badLine(line, 'it is not UTF-8', cause) };
  }
  if (text.trim() === '') return undefined;
  try {
    return { line, value: JSON.parse(text) };
  } catch (cause) {
    const start = text.length > SHOWN_CHARS ? `${text.slice(0, SHOWN_CHARS)}...` : text.trim();
    return { line, error: badLine(line, `${(cause as Error).message}: ${start}`, cause) };
  }
}

function badLine(line: number, reason: string, cause: unknown): MillraceError {
  return new MillraceError('ERR_MILLRACE_INPUT_LINE', `line ${line} is not JSON: ${reason}`, {
    details: { line },
    cause,
  });
}

function tooLong(line: number, bytes: number, bytesMax: number): MillraceError {
  return new MillraceError(
    'ERR_MILLRACE_PAYLOAD_TOO_LARGE',
    `line ${line} has ${bytes} bytes, the limit is ${bytesMax}; store the data elsewhere and pass a reference`,
    { details: { line, bytes, bytesMax } },
  );
}
