/**
 * The files below a folder, one after another, as they are asked for.
 *
 * Lazy: only the folders on the way to the current file are open. Symbolic links are not followed, so a walk ends
 * and sees no file twice; sockets, pipes and devices are left out. A folder that cannot be read is told and passed.
 */
import type { Dirent } from 'node:fs';
import { opendir } from 'node:fs/promises';
import path from 'node:path';

export interface WalkOptions {
  /** Folders below the root to go down; 0 stays in the root. @defaultValue no limit */
  readonly depthMax?: number;
  /** Absolute paths that are not entered. */
  readonly skip?: ReadonlySet<string>;
  /** Ends the walk early, without an error. */
  readonly signal?: AbortSignal;
  /** A folder cannot be read. */
  readonly onUnreadable?: (folder: string, error: Error) => void;
  /** Entries that are neither folder nor file are offered too, e.g. to follow links to files. */
  readonly withLinks?: boolean;
}

/** Entries that the system is asked for at once. */
const ENTRIES_AT_ONCE = 256;

/** Absolute paths of the files below an absolute folder, in no particular order. */
export async function* filesBelow(
  folder: string,
  options: WalkOptions = {},
): AsyncGenerator<{ readonly path: string; readonly isLink: boolean }> {
  const { depthMax = Number.POSITIVE_INFINITY } = options;
  for await (const entry of entriesOf(folder, options)) {
    if (options.signal?.aborted) return;
    const full = path.join(folder, entry.name);
    if (entry.isFile()) yield { path: full, isLink: false };
    else if (entry.isSymbolicLink() && options.withLinks) yield { path: full, isLink: true };
    else if (entry.isDirectory() && depthMax > 0 && !options.skip?.has(full)) {
      yield* filesBelow(full, { ...options, depthMax: depthMax - 1 });
    }
  }
}

async function* entriesOf(folder: string, options: WalkOptions): AsyncGenerator<Dirent> {
  try {
    yield* await opendir(folder, { bufferSize: ENTRIES_AT_ONCE });
  } catch (error) {
    options.onUnreadable?.(folder, error as Error);
  }
}
