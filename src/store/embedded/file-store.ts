/**
 * The description of a store in a directory. LMDB's binary is loaded when it is opened, not before.
 */
import path from 'node:path';
import { MillraceError } from '../../core/errors.js';
import type { Store } from '../../core/store.js';
import type { HistoryOptions, StoreContext, StoreFactory } from '../factory.js';

export interface FileStoreOptions {
  readonly history?: HistoryOptions;
}

/**
 * Describes a durable store in a directory of this machine: what it has acknowledged survives kill -9 and power
 * loss. One process at a time uses a directory; it is created when missing.
 *
 * @param directory - relative paths count from the current folder, now
 * @throws ERR_MILLRACE_INVALID_OPTION for an empty path
 */
export function fileStore(directory: string, options: FileStoreOptions = {}): StoreFactory {
  if (typeof directory !== 'string' || directory === '') {
    throw new MillraceError(
      'ERR_MILLRACE_INVALID_OPTION',
      `store directory is ${JSON.stringify(directory)}; give a path like './data'`,
    );
  }
  const location = path.resolve(directory);
  return {
    kind: 'embedded',
    location,
    async open({ clock }: StoreContext): Promise<Store> {
      const { openDirectory } = await import('./open.js');
      return openDirectory(location, clock, options.history ?? {});
    },
  };
}
