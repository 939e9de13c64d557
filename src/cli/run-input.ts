/**
 * Where `millrace run` gets its inputs: NDJSON from standard input or a file, or one input per file of a glob.
 */
import { createReadStream, statSync } from 'node:fs';
import path from 'node:path';
import type { Readable } from 'node:stream';
import { MillraceError } from '../core/errors.js';
import { usage } from './arguments.js';
import { filesMatching, isGlob, parseGlob } from './glob.js';
import { ndjsonLines } from './ndjson-lines.js';
import { RUN } from './run-fact.js';

/** One input, or what is wrong with it; `label` says in the results which one it was. */
export type RunInput = { readonly label: InputLabel } & (
  | { readonly value: unknown }
  | { readonly error: Error }
);

export type InputLabel = { readonly line: number } | { readonly path: string };

/** Four times the limit of an encoded input: a line may be written with spaces. */
const LINE_BYTES_MAX = 4 * 262_144;

/**
 * The inputs that `--input` names, as they are asked for. Ends early, without an error, when the signal is aborted.
 *
 * @throws ERR_MILLRACE_INVALID_OPTION at once for a file that is not there or a bad pattern, and while it is read
 *   when a glob matches nothing
 */
export function inputsOf(given: string | undefined, signal: AbortSignal): AsyncIterable<RunInput> {
  if (given === undefined && process.stdin.isTTY) {
    throw usage(RUN, '--input is missing, and nothing is piped into standard input');
  }
  if (given === undefined || given === '-') return fromLines(process.stdin, signal);
  if (isGlob(given)) return fromFiles(given, signal);
  requireFile(given);
  if (/\.(ndjson|jsonl)$/i.test(given)) return fromLines(createReadStream(given), signal);
  return fromFiles(given.replaceAll('\\', '\\\\'), signal);
}

async function* fromLines(source: Readable, signal: AbortSignal): AsyncGenerator<RunInput> {
  const onAbort = (): void => void source.destroy();
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    if (signal.aborted) return;
    for await (const { line, ...content } of ndjsonLines(source, { bytesMax: LINE_BYTES_MAX })) {
      yield { label: { line }, ...content };
    }
  } catch (error) {
    // A stream that was destroyed ends with an error.
    if (!signal.aborted) throw error;
  } finally {
    signal.removeEventListener('abort', onAbort);
    source.destroy();
  }
}

async function* fromFiles(pattern: string, signal: AbortSignal): AsyncGenerator<RunInput> {
  const unreadable: RunInput[] = [];
  const onUnreadable = (path: string, error: Error): void => {
    unreadable.push({ label: { path }, error });
  };
  let found = 0;
  for await (const path of filesMatching(parseGlob(pattern), { signal, onUnreadable })) {
    found++;
    yield { label: { path }, value: { path } };
  }
  yield* unreadable;
  if (found + unreadable.length > 0 || signal.aborted) return;
  throw new MillraceError('ERR_MILLRACE_INVALID_OPTION', `no file matches '${pattern}'`, {
    details: { pattern },
  });
}

function requireFile(file: string): void {
  try {
    if (!statSync(file).isDirectory()) return;
  } catch (cause) {
    throw new MillraceError(
      'ERR_MILLRACE_INVALID_OPTION',
      `cannot read the input '${file}': ${(cause as Error).message}`,
      { details: { file }, cause },
    );
  }
  throw new MillraceError(
    'ERR_MILLRACE_INVALID_OPTION',
    `the input '${file}' is a folder; for its files give '${path.join(file, '**')}'`,
    { details: { file } },
  );
}
