/** A server program for tests and benches: started on a port, ended with the process that started it whatever becomes of it. */
import { spawn } from 'node:child_process';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { NotToBeHad } from './debian.js';
import { killAtEnd } from './guardian.js';

const START_MS_MAX = 30_000;
const LOG_CHARS_MAX = 2_000;
/** What clients have for leaving. */
const LEAVE_MS_MAX = 2_000;

/** Who a server runs as, where it refuses to be root. */
export interface Identity {
  readonly uid: number;
  readonly gid: number;
}

export interface ServerOptions {
  /** @defaultValue whoever this is */
  readonly identity?: Identity | undefined;
  /** Folders with libraries that the program needs, and the system may not have. @defaultValue none */
  readonly libraries?: readonly string[];
}

export interface StartedServer {
  /** Resolves when it listens. @throws NotToBeHad when it ends instead, or takes too long */
  answers(port: number): Promise<void>;
  /** Resolves when its log has a text: some listen before they take anybody. @throws as `answers` */
  says(text: string): Promise<void>;
  close(): Promise<void>;
}

export function startServer(
  program: string,
  args: readonly string[],
  { identity, libraries = [] }: ServerOptions = {},
): StartedServer {
  const child = spawn(program, args, {
    stdio: ['ignore', 'ignore', 'pipe'],
    ...identity,
    env: withLibraries(libraries),
    cwd: '/',
  });
  let log = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    log = (log + text).slice(-LOG_CHARS_MAX);
  });
  let hasEnded = false;
  const ended = new Promise<void>((resolve) => {
    child.once('error', (error) => {
      log += error.message;
      resolve();
    });
    child.once('exit', () => resolve());
  }).then(() => {
    hasEnded = true;
  });
  const callOff = child.pid === undefined ? undefined : killAtEnd(child.pid);
  const startUntil = async (isUp: () => boolean | Promise<boolean>): Promise<void> => {
    const lateAt = performance.now() + START_MS_MAX;
    while (!(await isUp())) {
      if (hasEnded || performance.now() > lateAt) {
        throw new NotToBeHad(`${program} does not start: ${log.trim().split('\n').at(-1)}`);
      }
      await sleep(20);
    }
  };
  return {
    answers: (port) => startUntil(() => listens(port)),
    says: (text) => startUntil(() => log.includes(text)),
    async close() {
      // PostgreSQL lets clients that are about to leave do so, and with the second signal ends the others; Redis takes either.
      child.kill('SIGTERM');
      const impatient = setTimeout(() => child.kill('SIGINT'), LEAVE_MS_MAX);
      await ended;
      clearTimeout(impatient);
      callOff?.();
    },
  };
}

/** The environment of a program that came out of packages, with the libraries that came with it. */
export function withLibraries(libraries: readonly string[]): NodeJS.ProcessEnv {
  if (libraries.length === 0) return process.env;
  return { ...process.env, LD_LIBRARY_PATH: libraries.join(':') };
}

function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
