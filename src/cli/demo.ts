/**
 * `millrace demo`: fingerprints every file below a folder, one task per file, and tells how that went.
 *
 *   folder walk -> slots -> submit (waits while the queue is full) -> store -> worker threads -> settled -> tally
 *
 * The walk is lazy and the number of files in flight is bounded, so memory does not grow with the folder. A second
 * walk, names only, counts the files for the progress bar.
 *
 * A file is the idempotency key made of its real path, size and modification time. So a run finds out by submitting
 * whether a file is new, is still open in the store since an earlier run was stopped, or was done then. The file's
 * own path also decides, always the same way, whether its task is delayed or of the kind that fails at first.
 */
import { createHash } from 'node:crypto';
import { channel } from 'node:diagnostics_channel';
import { existsSync, realpathSync, statSync } from 'node:fs';
import { lstat } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { hasCode, isMillraceError, MillraceError } from '../core/errors.js';
import type { Settlement } from '../core/states.js';
import { createRuntime } from '../millrace.js';
import type { Runtime } from '../runtime.js';
import type { TaskHandle } from '../task-handle.js';
import { wholeOption } from './arguments.js';
import { type Arguments, ExitCode } from './command.js';
import { type Origin, summaryText, Tally } from './demo-tally.js';
import { type Fingerprint, fingerprint, fingerprintShaky } from './demo-tasks.js';
import { filesBelow } from './folder-walk.js';
import { GcObserver } from './gc-observer.js';
import { Interruption, STOPPING } from './interruption.js';
import { Progress } from './progress.js';
import { Slots } from './slots.js';
import { storeOf } from './store-option.js';

/** Open tasks in the queue; submit() waits beyond. */
const QUEUE_TASKS_MAX = 256;
/** Files between the walk and their end, those that wait in submit() included. */
const IN_FLIGHT_MAX = 384;
/** Files out of 256 whose task is delayed, and out of the others, whose task fails at first. */
const DELAYED_SHARE = 13;
const SHAKY_SHARE = 8;
const DELAY_MIN_MS = 100;
const DELAY_SPREAD_MS = 1_400;
/** A task that failed or was forgotten is submitted anew under a further key; each run adds one at most. */
const KEYS_PER_FILE_MAX = 1_000;

export async function run(args: Arguments): Promise<ExitCode> {
  const threads = wholeOption(args, 'threads', { min: 1, max: 1_024 });
  const isJson = args.options.has('json');
  const folder = folderOf(args.positionals[0]);
  const store = storeOf(args);
  const gc = new GcObserver();
  const interruption = new Interruption();
  const startedAtMs = now();
  const runtime = await createRuntime({
    tasks: new URL('./demo-tasks.js', import.meta.url),
    store,
    ...(threads !== undefined && { threads: { max: threads } }),
    queue: { maxTasks: QUEUE_TASKS_MAX },
    // A key is known for twice its time at most; the result it stands for is kept as long.
    retention: {
      idempotency: '30d',
      completed: { age: '60d', bytes: '4GB' },
      failed: { age: '60d' },
    },
  });
  const demo = new Demo(runtime, { folder, startedAtMs, skip: store.location }, interruption);
  const { open: recovered, threads: threadCount } = runtime.stats();
  const progress = new Progress(
    { stream: process.stderr, noun: 'files', form: isJson ? 'json' : 'text' },
    () => demo.progress(),
  );
  progress.start();
  interruption.signal.addEventListener('abort', () => progress.note(STOPPING));
  try {
    await demo.feed();
  } finally {
    progress.stop();
    demo.stop();
    await runtime.close();
    interruption.dispose();
  }
  const summary = demo.tally.summary({
    folder,
    store: store.location,
    elapsedMs: now() - startedAtMs,
    threads: threadCount,
    isInterrupted: interruption.signal.aborted,
    recovered,
    gc: gc.stop(),
  });
  process.stdout.write(isJson ? `${JSON.stringify(summary)}\n` : summaryText(summary));
  if (summary.isInterrupted) return ExitCode.INTERRUPTED;
  return summary.failed + summary.unreadableFolders > 0 ? ExitCode.FAILED : ExitCode.DONE;
}

/** One run over one folder. */
class Demo {
  readonly tally = new Tally();
  readonly #runtime: Runtime;
  readonly #place: { readonly folder: string; readonly startedAtMs: number; readonly skip: string };
  readonly #interruption: Interruption;
  readonly #inFlight = new Slots(IN_FLIGHT_MAX);
  /** Aborted when the run is over, however it ends. */
  readonly #over = new AbortController();
  /** Tasks that failed for good while this run watched. */
  readonly #failedNow = new Set<string>();
  /** How many files there are; undefined until all are counted. */
  #filesTotal: number | undefined;
  #fault: unknown;

  readonly #onRetry = (): void => {
    this.tally.retries++;
  };
  readonly #onFailed = (event: unknown): void => {
    this.#failedNow.add((event as { readonly taskId: string }).taskId);
  };

  constructor(
    runtime: Runtime,
    place: { readonly folder: string; readonly startedAtMs: number; readonly skip: string },
    interruption: Interruption,
  ) {
    this.#runtime = runtime;
    this.#place = place;
    this.#interruption = interruption;
    channel('millrace:task:retry').subscribe(this.#onRetry);
    channel('millrace:task:failed').subscribe(this.#onFailed);
  }

  progress(): { done: number; total: number | undefined; bytes: number; retries: number } {
    const { ended, bytes, retries } = this.tally;
    return { done: ended, total: this.#filesTotal, bytes, retries };
  }

  /**
   * Hands every file over and waits for all of them to end. Interrupted, it lets the running ones end and resolves.
   *
   * @throws what made it impossible to go on, e.g. ERR_MILLRACE_STORE_FULL
   */
  async feed(): Promise<void> {
    const { signal } = this.#interruption;
    // Running tasks end, the others stay in the store; their handles hear that the runtime is closed.
    signal.addEventListener('abort', () => void this.#runtime.close(), { once: true });
    if (signal.aborted) await this.#runtime.close();
    const counted = this.#countFiles();
    for await (const file of this.#walk((path, { message }) =>
      this.tally.noteUnreadableFolder({ path, message }),
    )) {
      await this.#inFlight.acquire();
      if (signal.aborted || this.#fault !== undefined) {
        this.#inFlight.release();
        break;
      }
      void this.#fingerprint(file)
        .catch((error) => this.#noteFault(error))
        .finally(() => this.#inFlight.release());
    }
    await this.#inFlight.idle();
    this.#over.abort();
    await counted;
    if (this.#fault !== undefined) throw this.#fault;
  }

  stop(): void {
    this.#over.abort();
    channel('millrace:task:retry').unsubscribe(this.#onRetry);
    channel('millrace:task:failed').unsubscribe(this.#onFailed);
  }

  async #countFiles(): Promise<void> {
    let files = 0;
    for await (const _ of this.#walk(() => {})) files++;
    if (!this.#over.signal.aborted) this.#filesTotal = files;
  }

  async *#walk(onUnreadable: (folder: string, error: Error) => void): AsyncGenerator<string> {
    const walk = filesBelow(this.#place.folder, {
      // The store changes while it is walked, and holds nothing of the user's.
      skip: new Set([this.#place.skip]),
      signal: AbortSignal.any([this.#interruption.signal, this.#over.signal]),
      onUnreadable,
    });
    for await (const file of walk) yield file.path;
  }

  async #fingerprint(file: string): Promise<void> {
    let key: string;
    try {
      const { size, mtimeMs } = await lstat(file);
      key = digest(`${file}\0${size}\0${mtimeMs}`);
    } catch (error) {
      // It is gone since it was found, or its name is not UTF-8.
      return this.tally.noteFailed({ path: file, message: (error as Error).message });
    }
    try {
      await this.#settle(file, key);
    } catch (error) {
      if (this.#isGivenUp(error)) return;
      throw error;
    }
  }

  async #settle(file: string, firstKey: string): Promise<void> {
    let key = firstKey;
    for (let turn = 0; turn < KEYS_PER_FILE_MAX; turn++) {
      const { handle, dueAtMs } = await this.#submit(file, key);
      this.tally.left++;
      const settled = await this.#settledOf(handle);
      this.tally.left--;
      if (settled?.status === 'completed') {
        const origin = this.#originOf(handle, settled.value);
        if (origin === 'takenOver') this.tally.recoveredMet++;
        this.tally.noteDone(origin, settled.value, dueAtMs);
        return;
      }
      const isFailedNow = this.#failedNow.delete(handle.id);
      if (settled !== undefined && (handle.created || isFailedNow)) {
        if (!handle.created) this.tally.recoveredMet++;
        this.tally.noteFailed({ path: file, message: reasonOf(settled.error) });
        return;
      }
      // It failed in an earlier run, and what was wrong then may be right now. Or its result is forgotten.
      key = digest(`${firstKey}\0${handle.id}`);
    }
    const message = `it failed in ${KEYS_PER_FILE_MAX} earlier runs and is not tried again`;
    this.tally.noteFailed({ path: file, message });
  }

  async #submit(
    file: string,
    idempotencyKey: string,
  ): Promise<{ readonly handle: TaskHandle<Fingerprint>; readonly dueAtMs: number }> {
    const traits = createHash('sha256').update(file).digest();
    const task = traits[0]! < SHAKY_SHARE ? fingerprintShaky : fingerprint;
    const isDelayed = traits[1]! < DELAYED_SHARE;
    const delay = isDelayed ? DELAY_MIN_MS + (traits[2]! / 255) * DELAY_SPREAD_MS : 0;
    const dueAtMs = now() + delay;
    const { signal } = this.#interruption;
    const handle = await this.#runtime.submit(
      task,
      { path: file },
      { idempotencyKey, delay, signal },
    );
    return { handle, dueAtMs };
  }

  /** How a task ended; undefined when the store has forgotten it. */
  async #settledOf(handle: TaskHandle<Fingerprint>): Promise<Settlement<Fingerprint> | undefined> {
    try {
      return await handle.settled();
    } catch (error) {
      if (hasCode(error, 'ERR_MILLRACE_TASK_GONE')) return undefined;
      throw error;
    }
  }

  #originOf(handle: TaskHandle<Fingerprint>, value: Fingerprint): Origin {
    if (handle.created) return 'new';
    const endedAtMs = value.startedAtMs + value.runMs;
    return endedAtMs < this.#place.startedAtMs ? 'doneEarlier' : 'takenOver';
  }

  /** Whether a submission or a wait ended because the run does. */
  #isGivenUp(error: unknown): boolean {
    const { signal } = this.#interruption;
    return signal.aborted && (error === signal.reason || hasCode(error, 'ERR_MILLRACE_CLOSED'));
  }

  #noteFault(error: unknown): void {
    this.#fault ??= error;
    this.#over.abort();
  }
}

/** The folder to walk, as a real path. @throws ERR_MILLRACE_INVALID_OPTION */
function folderOf(given: string | undefined): string {
  const folder = given ?? defaultFolder();
  try {
    const real = realpathSync(folder);
    if (statSync(real).isDirectory()) return real;
  } catch (cause) {
    throw new MillraceError(
      'ERR_MILLRACE_INVALID_OPTION',
      `cannot walk the folder '${folder}': ${(cause as Error).message}`,
      { details: { folder }, cause },
    );
  }
  throw new MillraceError('ERR_MILLRACE_INVALID_OPTION', `'${folder}' is no folder; give one`, {
    details: { folder },
  });
}

/** The repository's own node_modules when the command is run in it, else the current folder. */
function defaultFolder(): string {
  const root = realpathSync(fileURLToPath(new URL('../../..', import.meta.url)));
  const modules = path.join(root, 'node_modules');
  return realpathSync(process.cwd()) === root && existsSync(modules) ? modules : '.';
}

/** What a task died of, in one line. */
function reasonOf(error: Error): string {
  const { cause } = error;
  return isMillraceError(error) && cause instanceof Error ? cause.message : error.message;
}

/** Keys have a length limit, paths do not. */
function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

/** Epoch ms with fractions, on the same scale as the handlers' times. */
function now(): number {
  return performance.timeOrigin + performance.now();
}
