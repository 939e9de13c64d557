/**
 * How a command reaches a store's tasks, whoever has it:
 *
 *   a folder in use       over the socket of the process that has it
 *   a folder not in use   opened here, for as long as the command runs
 *   etcd                  read directly; what changes tasks joins as a client that runs nothing
 *
 * Reading changes nothing: no folder is created, nothing is recovered, no member is put.
 */
import { existsSync } from 'node:fs';
import path from 'node:path';
import type { Control, Reading } from '../admin/control.js';
import { ControlClient } from '../admin/control-client.js';
import { CONTROL_SOCKET } from '../admin/control-socket-name.js';
import { StoreControl } from '../admin/store-control.js';
import { MillraceError } from '../core/errors.js';
import { createRuntime } from '../millrace.js';
import { SocketFolder } from '../store/embedded/socket-folder.js';
import type { StoreFactory } from '../store/index.js';
import { systemClock } from '../timing/system-clock.js';
import type { Arguments } from './command.js';
import { storeOf } from './store-option.js';

/** A store that a command may ask. */
export interface Access<Kind extends Reading> {
  readonly control: Kind;
  /** For people. */
  readonly location: string;
  close(): Promise<void>;
}

/** @throws ERR_MILLRACE_STORE_... when it cannot be reached; ERR_MILLRACE_INVALID_OPTION for `--store memory` */
export async function openReading(args: Arguments): Promise<Access<Reading>> {
  const factory = existingStore(args);
  return (await overSocket(factory)) ?? openDirectly(factory);
}

/** To change tasks as well. @throws as {@link openReading} */
export async function openControl(args: Arguments): Promise<Access<Control>> {
  const factory = existingStore(args);
  const inUse = await overSocket(factory);
  if (inUse !== undefined) return inUse;
  if (factory.kind === 'embedded') await refuseInterrupted(factory);
  const runtime = await createRuntime({
    tasks: { tasks: {} },
    store: factory,
    metrics: false,
    healing: false,
  });
  return {
    control: runtime.operations,
    location: factory.location,
    close: () => runtime.close(),
  };
}

/** Opens and always closes. */
export async function withAccess<Kind extends Reading, Result>(
  opening: Promise<Access<Kind>>,
  use: (access: Access<Kind>) => Promise<Result>,
): Promise<Result> {
  const access = await opening;
  try {
    return await use(access);
  } finally {
    await access.close();
  }
}

function existingStore(args: Arguments): StoreFactory {
  const factory = storeOf(args);
  if (factory.kind === 'memory') {
    throw new MillraceError(
      'ERR_MILLRACE_INVALID_OPTION',
      'a store in memory is seen by its own process only; give --store a folder, or etcd://host:2379/<namespace>',
    );
  }
  if (factory.kind === 'embedded' && !existsSync(path.join(factory.location, 'data.mdb'))) {
    throw new MillraceError(
      'ERR_MILLRACE_STORE_UNAVAILABLE',
      `there is no store in ${factory.location}; give --store, or set MILLRACE_STORE`,
      { details: { directory: factory.location } },
    );
  }
  return factory;
}

async function overSocket(factory: StoreFactory): Promise<Access<Control> | undefined> {
  if (factory.kind !== 'embedded') return undefined;
  const folder = new SocketFolder(factory.location);
  const control = new ControlClient(folder.path(CONTROL_SOCKET));
  const close = async (): Promise<void> => folder.close();
  try {
    if (await control.isThere()) return { control, location: factory.location, close };
  } catch (error) {
    folder.close();
    throw error;
  }
  folder.close();
  return undefined;
}

async function openDirectly(factory: StoreFactory): Promise<Access<Reading>> {
  const store = await factory.open({ clock: systemClock });
  return {
    control: new StoreControl(store, () => systemClock.wallMs()),
    location: factory.location,
    close: () => store.close(),
  };
}

/**
 * A runtime that opens a folder takes what ran in it for lost, and lets it run again unless its contract says otherwise. Here
 * no contract is known: so what was interrupted is left to a process that has them.
 */
async function refuseInterrupted(factory: StoreFactory): Promise<void> {
  const running = await withAccess(openDirectly(factory), ({ control }) =>
    control.list({ status: 'running', limit: 1 }),
  );
  if (running.tasks.length === 0 && running.next === undefined) return;
  throw new MillraceError(
    'ERR_MILLRACE_STORE_LOCKED',
    `tasks in ${factory.location} were running when its last process ended; start that service again, which decides what becomes of them, and then ask once more`,
    { details: { directory: factory.location } },
  );
}
