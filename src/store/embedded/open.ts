/**
 * Opens a store directory:
 *
 *   lock-<pid>-<random>    whoever has it open (directory-lock.ts)
 *   FORMAT                 the format's number (format-file.ts)
 *   data.mdb               everything (lmdb-backend.ts); data.mdb-lock belongs to LMDB
 *
 * The lock comes first, so nobody reads or repairs what another process is writing.
 */
import { accessSync, constants, mkdirSync } from 'node:fs';
import path from 'node:path';
import type { Clock } from '../../core/clock.js';
import { isMillraceError, type MillraceError } from '../../core/errors.js';
import type { Store } from '../../core/store.js';
import type { HistoryOptions } from '../factory.js';
import { StateMachine } from '../machine/state-machine.js';
import { StoreView } from '../machine/store-view.js';
import { inspectDataFile } from './data-file.js';
import { DirectoryLock } from './directory-lock.js';
import { isCorrupt, notWritable, unreadable } from './faults.js';
import { checkFormat } from './format-file.js';
import { LmdbBackend } from './lmdb-backend.js';

const DATA_FILE = 'data.mdb';

export async function openDirectory(
  directory: string,
  clock: Clock,
  history: HistoryOptions,
): Promise<Store> {
  prepare(directory);
  const lock = await DirectoryLock.acquire(directory);
  let backend: LmdbBackend | undefined;
  try {
    backend = await openBackend(directory);
    const { incarnation } = backend;
    const orphans = backend.orphans();
    const machine = new StateMachine(clock, { backend, incarnation, orphans }, history);
    // What the last process left on its leases is gone before anybody can see it.
    await machine.idle();
    return new StoreView(machine, async () => {
      await machine.close();
      await lock.release();
    });
  } catch (error) {
    await backend?.close();
    await lock.release();
    throw error;
  }
}

function prepare(directory: string): void {
  try {
    // Task payloads are nobody else's business.
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    accessSync(directory, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (error) {
    throw notWritable(directory, error);
  }
}

async function openBackend(directory: string): Promise<LmdbBackend> {
  try {
    checkFormat(directory, DATA_FILE);
    const file = path.join(directory, DATA_FILE);
    const fault = inspectDataFile(file);
    if (fault !== undefined) throw unreadable(directory, fault);
    return await LmdbBackend.open(directory, file);
  } catch (error) {
    throw asStoreError(directory, error);
  }
}

function asStoreError(directory: string, error: unknown): MillraceError {
  if (isMillraceError(error)) return error;
  return isCorrupt(error) ? unreadable(directory, error) : notWritable(directory, error);
}
