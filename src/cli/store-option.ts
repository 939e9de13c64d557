/**
 * `--store memory | <folder>`, else MILLRACE_STORE, else `.millrace` in the current folder.
 */
import path from 'node:path';
import { MillraceError } from '../core/errors.js';
import { fileStore, memoryStore, type StoreFactory } from '../store/index.js';
import type { Arguments } from './command.js';

const DEFAULT_FOLDER = '.millrace';

/** @throws ERR_MILLRACE_INVALID_OPTION for a kind of store that does not exist */
export function storeOf(args: Arguments): StoreFactory {
  const place = args.options.get('store') ?? (process.env.MILLRACE_STORE || DEFAULT_FOLDER);
  if (place === 'memory') return memoryStore();
  // A mistyped server address must not become a folder of that name.
  const scheme = /^([a-z][a-z0-9+.-]+):\/\//i.exec(place)?.[1];
  if (scheme === undefined) return fileStore(path.resolve(place));
  throw new MillraceError(
    'ERR_MILLRACE_INVALID_OPTION',
    `there is no '${scheme}' store; give --store memory or a folder`,
    { details: { store: place.slice(0, 200) } },
  );
}
