/**
 * The tasks of `millrace demo`: SHA-256 and gzip size of a file. Worker threads load this module too, so it imports
 * nothing of the runtime but the vocabulary of tasks.
 *
 * Both tasks do the same work; one of them throws at its first attempt, as a busy disk or a network share would.
 */
import { createHash } from 'node:crypto';
import { closeSync, constants, createReadStream, fstatSync, openSync, readFileSync } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { createGzip, gzipSync } from 'node:zlib';
import { NonRetryableError } from '../core/errors.js';
import {
  defineTask,
  defineTasks,
  type ExecutionContext,
  type Task,
  type TaskModule,
} from '../core/task.js';

export interface FileInput {
  readonly path: string;
}

export interface Fingerprint {
  readonly sha256: string;
  readonly bytes: number;
  readonly gzipBytes: number;
  /** When the handler was called: epoch ms, with fractions. */
  readonly startedAtMs: number;
  readonly runMs: number;
  readonly attempt: number;
}

/** The fastest level: the demo shows a runtime, not a compressor. */
export const GZIP_LEVEL = 1;

/** Larger files are streamed: a thread holds no more than this of one file, twice while it compresses. */
const WHOLE_BYTES_MAX = 4_194_304;
const STREAM_CHUNK_BYTES = 1_048_576;

/** What no retry changes. */
const HOPELESS = new Set(['ENOENT', 'EACCES', 'EPERM', 'EISDIR', 'ENOTDIR', 'ELOOP', 'ENXIO']);

export const fingerprint: Task<FileInput, Fingerprint> = defineTask({
  name: 'demo.fingerprint',
  run: fingerprintFile,
});

export const fingerprintShaky: Task<FileInput, Fingerprint> = defineTask({
  name: 'demo.fingerprint-shaky',
  retry: { attempts: 4, min: '50ms', max: '1s' },
  run(input: FileInput, ctx: ExecutionContext): Promise<Fingerprint> {
    if (ctx.execution.attempt === 1) {
      throw new Error(`${input.path}: the first attempt of this kind of task always fails`);
    }
    return fingerprintFile(input, ctx);
  },
});

const tasks: TaskModule = defineTasks({ fingerprint, fingerprintShaky });
export default tasks;

async function fingerprintFile({ path }: FileInput, ctx: ExecutionContext): Promise<Fingerprint> {
  const began = performance.now();
  const startedAtMs = performance.timeOrigin + began;
  try {
    const measured = measureWhole(path) ?? (await measureStreamed(path, ctx.signal));
    return {
      ...measured,
      startedAtMs,
      runMs: performance.now() - began,
      attempt: ctx.execution.attempt,
    };
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code !== undefined && HOPELESS.has(code)) throw new NonRetryableError(message, { cause });
    throw cause;
  }
}

type Measured = Pick<Fingerprint, 'sha256' | 'bytes' | 'gzipBytes'>;

/** Reads and compresses in one go; undefined for a file that is too large for that. */
function measureWhole(path: string): Measured | undefined {
  // What was a file when it was found may be a pipe by now: opening one must not wait for a writer.
  const descriptor = openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
  try {
    const stats = fstatSync(descriptor);
    if (!stats.isFile()) throw new NonRetryableError(`${path} is no file any more`);
    if (stats.size > WHOLE_BYTES_MAX) return undefined;
    const content = readFileSync(descriptor);
    return {
      sha256: createHash('sha256').update(content).digest('hex'),
      bytes: content.length,
      gzipBytes: gzipSync(content, { level: GZIP_LEVEL }).length,
    };
  } finally {
    closeSync(descriptor);
  }
}

async function measureStreamed(path: string, signal: AbortSignal): Promise<Measured> {
  const hash = createHash('sha256');
  let bytes = 0;
  let gzipBytes = 0;
  await pipeline(
    createReadStream(path, { highWaterMark: STREAM_CHUNK_BYTES }),
    async function* (chunks: AsyncIterable<Buffer>) {
      for await (const chunk of chunks) {
        bytes += chunk.length;
        hash.update(chunk);
        yield chunk;
      }
    },
    createGzip({ level: GZIP_LEVEL }),
    async (chunks: AsyncIterable<Buffer>) => {
      for await (const chunk of chunks) gzipBytes += chunk.length;
    },
    { signal },
  );
  return { sha256: hash.digest('hex'), bytes, gzipBytes };
}
