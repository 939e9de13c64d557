/**
 * One process per directory, without files that outlive their process.
 *
 * Node offers no flock(). A pid file goes stale, and taking a stale one over is a race; an abstract socket is not
 * seen across containers that share a volume. So the lock is a Unix socket in the directory: the kernel says whether
 * somebody listens, whatever became of the process id, and stops saying so when that process ends, kill -9 included.
 *
 * Each opener listens on a socket of its own, under a name never used again, and then looks for others:
 *
 *   1. listen on `.lock-<pid>-<random>`, then rename it to `lock-<pid>-<random>`    visible only when it answers
 *   2. connect to every other `lock-*`:
 *        nobody listens        its process is gone: unlink it
 *        answers "owner"       locked
 *        answers "claiming"    the lower name goes first: a higher claim gives up when it sees a lower one, and
 *                              a lower one waits until the higher has either gone or become the owner
 *        answers nothing       alive, but busy: locked
 *        hangs up              it is leaving, mostly: it gave up, or ends, while we were in its line. It is asked again
 *   3. nobody left: answer "owner" from now on
 *
 * Why two never both own: every opener is visible before it looks, so of any two at least one sees the other.
 * If both see each other, the higher gives up. If only one does, what it sees is an owner, or a claim that is about
 * to become one, and it waits to see that. Nothing here is ever taken over, so there is no moment in which that can
 * go wrong: a dead name is only unlinked, and nobody will use it again.
 */
import { randomBytes } from 'node:crypto';
import { readdirSync, renameSync, unlinkSync } from 'node:fs';
import { connect, createServer, type Server } from 'node:net';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { MillraceError } from '../../core/errors.js';
import { notWritable } from './faults.js';
import { SocketFolder } from './socket-folder.js';

const NAME_FORM = /^lock-(\d+)-[0-9a-f]{16}$/;
/** How long a living opener may take to answer before it counts as the owner. */
const ANSWER_MS = 1_000;
const CLAIM_POLL_MS = 5;
/** Who hangs up so often does not leave. */
const HANG_UPS_MAX = ANSWER_MS / CLAIM_POLL_MS;
type Standing = 'gone' | 'claiming' | 'owner';

export class DirectoryLock {
  readonly #directory: string;
  readonly #name: string;
  readonly #sockets: SocketFolder;
  readonly #server: Server;
  #standing: Standing = 'claiming';

  private constructor(directory: string) {
    this.#directory = directory;
    this.#name = `lock-${process.pid}-${randomBytes(8).toString('hex')}`;
    this.#sockets = new SocketFolder(directory);
    this.#server = createServer((socket) => {
      socket.on('error', () => {});
      // Gone as soon as it is told: a peer that hangs must not hold up release().
      socket.end(this.#standing, () => socket.destroy());
    });
  }

  /**
   * Takes the directory for this process.
   *
   * @throws ERR_MILLRACE_STORE_LOCKED when it is taken, also by this very process; `details.pid` says by whom
   * @throws ERR_MILLRACE_STORE_NOT_WRITABLE when no socket can be made there
   */
  static async acquire(directory: string): Promise<DirectoryLock> {
    const lock = new DirectoryLock(directory);
    try {
      await lock.#listen();
      await lock.#outlastOthers();
      lock.#standing = 'owner';
      return lock;
    } catch (error) {
      await lock.release();
      throw error;
    }
  }

  /** Gives the directory free. Idempotent. */
  async release(): Promise<void> {
    this.#standing = 'gone';
    unlinkIfThere(path.join(this.#directory, this.#name));
    if (this.#server.listening) await new Promise((resolve) => this.#server.close(resolve));
    this.#sockets.close();
  }

  async #listen(): Promise<void> {
    const hidden = `.${this.#name}`;
    try {
      await new Promise<void>((resolve, reject) => {
        this.#server.on('error', reject);
        // exclusive: in a cluster's worker the primary process would listen, and outlive us.
        this.#server.listen({ path: this.#sockets.path(hidden), exclusive: true }, resolve);
      });
      this.#server.unref();
      renameSync(path.join(this.#directory, hidden), path.join(this.#directory, this.#name));
    } catch (error) {
      throw notWritable(this.#directory, error);
    }
  }

  async #outlastOthers(): Promise<void> {
    for (let hangUps = 0; ; ) {
      let mustWait = false;
      for (const name of readdirSync(this.#directory)) {
        const pid = NAME_FORM.exec(name)?.[1];
        if (pid === undefined || name === this.#name) continue;
        const standing = await this.#ask(name);
        if (standing === 'gone') unlinkIfThere(path.join(this.#directory, name));
        else if (standing === 'hung up' && ++hangUps < HANG_UPS_MAX) mustWait = true;
        else if (standing !== 'claiming' || name < this.#name) throw locked(this.#directory, pid);
        else mustWait = true;
      }
      if (!mustWait) return;
      await delay(CLAIM_POLL_MS);
    }
  }

  #ask(name: string): Promise<Standing | 'hung up'> {
    return new Promise((resolve) => {
      let answer = '';
      const socket = connect(this.#sockets.path(name));
      socket.setTimeout(ANSWER_MS, () => finish('owner'));
      socket.on('data', (bytes) => {
        answer += bytes.toString('latin1');
      });
      socket.on('end', () => {
        if (answer === '') finish('hung up');
        else finish(answer === 'claiming' || answer === 'gone' ? answer : 'owner');
      });
      socket.on('error', ({ code }: NodeJS.ErrnoException) => {
        // Refused: the name is there and nobody listens. Missing: its owner has just cleaned up.
        if (code === 'ECONNREFUSED' || code === 'ENOENT') finish('gone');
        else finish(code === 'ECONNRESET' ? 'hung up' : 'owner');
      });
      const finish = (standing: Standing | 'hung up'): void => {
        socket.destroy();
        resolve(standing);
      };
    });
  }
}

function locked(directory: string, pid: string): MillraceError {
  const who = Number(pid) === process.pid ? 'this process' : `process ${pid}`;
  return new MillraceError(
    'ERR_MILLRACE_STORE_LOCKED',
    `store directory ${directory} is in use by ${who} (pid ${pid}); one process uses it at a time: stop that one, or choose another directory`,
    { details: { directory, pid: Number(pid) } },
  );
}

function unlinkIfThere(file: string): void {
  try {
    unlinkSync(file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}
