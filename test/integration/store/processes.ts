/**
 * Store directories, and other processes that use them.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Store } from '../../../src/core/store.js';
import { fileStore } from '../../../src/store/index.js';
import { VirtualClock } from '../../../src/testing/virtual-clock.js';

const CHILD = fileURLToPath(new URL('./child.js', import.meta.url));
/** The C source is not compiled by tsc, so it is where it was written: four folders above the output's. */
const SHIM = fileURLToPath(
  new URL('../../../../test/integration/store/faulty-disk.c', import.meta.url),
);

/** What still uses a test's folder: hooks run in the order they were made, and the folder's is the first. */
const users = new WeakMap<TestContext, (() => Promise<void>)[]>();

/** A folder that goes when the test ends; the store's directory is below it, and does not exist yet. */
export async function scratch(t: TestContext): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'millrace-embedded-'));
  const leaving: (() => Promise<void>)[] = [];
  users.set(t, leaving);
  t.after(async () => {
    for (const leave of leaving) await leave();
    await rm(folder, { recursive: true, force: true });
  });
  return folder;
}

/** Opens a directory in this process; the test's end closes it. */
export async function openHere(t: TestContext, directory: string): Promise<Store> {
  const store = await fileStore(directory).open({ clock: new VirtualClock() });
  users.get(t)!.push(() => store.close());
  return store;
}

/** What a child says, one JSON object a line. */
export type Message = Readonly<Record<string, unknown>> & { readonly type: string };

export interface Child {
  readonly process: ChildProcess;
  /** The next thing it says; undefined when it has ended. */
  next(): Promise<Message | undefined>;
  /** Ends it with a signal, and resolves when it is gone. */
  kill(signal: NodeJS.Signals): Promise<void>;
}

/** Starts child.ts in one of its roles. */
export function startChild(
  t: TestContext,
  role: string,
  directory: string,
  env: NodeJS.ProcessEnv = {},
): Child {
  const child = spawn(process.execPath, [CHILD, role, directory], {
    env: { ...process.env, ...env },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const kill = async (signal: NodeJS.Signals): Promise<void> => {
    child.kill(signal);
    await ended;
  };
  users.get(t)!.push(() => kill('SIGKILL'));
  return {
    process: child,
    kill,
    async next() {
      const { done, value } = await lines.next();
      return done ? undefined : (JSON.parse(value) as Message);
    },
  };
}

/** Compiles the faulty disk. @returns the environment that puts it in front of libc */
export async function faultyDisk(folder: string): Promise<NodeJS.ProcessEnv> {
  const library = path.join(folder, 'faulty-disk.so');
  await promisify(execFile)('cc', ['-shared', '-fPIC', '-O1', '-o', library, SHIM, '-ldl']);
  return { LD_PRELOAD: library };
}
