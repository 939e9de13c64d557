/**
 * A runtime for the tests of a service that embeds millrace: no folder, no server, and no time but the test's own.
 *
 *   inline    tasks run by themselves when they are due, on the main thread; time passes in `clock.advance` only
 *   manual    the same, and nothing runs before `drain`
 *   threads   as in production: worker threads and the real clock, with a store in memory
 *
 * What runs is the real engine: retries, delays, keys and limits are those of production, not of a double.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import type { Clock } from '../core/clock.js';
import { type Duration, durationMs } from '../core/durations.js';
import { MillraceError } from '../core/errors.js';
import { invalidOption, knownOptions, oneOf } from '../core/options.js';
import { seededRandom } from '../core/random.js';
import {
  type AnyTask,
  type Submittable,
  type TaskModule,
  tasksByName,
  tasksOfModule,
} from '../core/task.js';
import { createRuntime, createRuntimeIn } from '../millrace.js';
import type { Runtime } from '../runtime.js';
import type { RuntimeOptions } from '../runtime-options.js';
import { memoryStore } from '../store/index.js';
import {
  type Expected,
  type InputMatch,
  SubmissionRecord,
  type Submitted,
} from './submission-record.js';
import { TestClock } from './test-clock.js';

export interface TestRuntimeOptions {
  /** The service's tasks. With `threads` the URL or path of their module; else also what `defineTasks` returned. */
  readonly tasks: TaskModule | URL | string;
  /** @defaultValue 'inline' */
  readonly mode?: 'inline' | 'manual' | 'threads';
  /** Decides what is left to chance, such as the jitter of retries. @defaultValue 1 */
  readonly seed?: number;
  /** Everything else that `createRuntime` takes. */
  readonly runtime?: Omit<RuntimeOptions, 'tasks' | 'store'>;
}

const OPTIONS: Readonly<Record<keyof TestRuntimeOptions, true>> = {
  tasks: true,
  mode: true,
  seed: true,
  runtime: true,
};
const MODES = ['inline', 'manual', 'threads'] as const;
/** Of real time: what a handler that waits for something real may take. */
const DRAIN_WITHIN = '10s';
const REAL_POLL_MS = 1;
/** Of virtual time, in one step to what comes next. */
const STEP_MS_MAX = 60_000;

/**
 * Starts a runtime for a test.
 *
 * @throws ERR_MILLRACE_INVALID_OPTION, and what `createRuntime` throws
 */
export async function testRuntime(options: TestRuntimeOptions): Promise<TestRuntime> {
  const {
    tasks,
    mode: given = 'inline',
    seed = 1,
    runtime: more = {},
  } = knownOptions(options, '', OPTIONS);
  const mode = oneOf(given, 'mode', MODES);
  if (tasks === undefined) throw invalidOption('tasks', tasks, 'a tasks module');
  const quiet = { metrics: false, healing: false, ...more, store: memoryStore() };
  if (mode === 'threads') {
    return new TestRuntime(mode, await createRuntime({ ...quiet, tasks }), undefined);
  }
  const clock = new TestClock();
  const module = { tasks: await inlineTasks(tasks) };
  const runtime = await createRuntimeIn(
    { clock, random: seededRandom(seed) },
    { ...quiet, tasks: module },
  );
  const started = new TestRuntime(mode, runtime, clock);
  if (mode === 'manual') await started.hold();
  return started;
}

/** Comes from {@link testRuntime}. */
export class TestRuntime {
  /** What the service under test gets. */
  readonly runtime: Runtime;
  readonly #mode: (typeof MODES)[number];
  readonly #clock: TestClock | undefined;
  readonly #record = new SubmissionRecord();

  constructor(mode: (typeof MODES)[number], runtime: Runtime, clock: TestClock | undefined) {
    this.#mode = mode;
    this.runtime = runtime;
    this.#clock = clock;
    this.#record.follow(runtime);
  }

  /**
   * The runtime's time; `await clock.advance('24h')` lets it pass.
   *
   * @throws ERR_MILLRACE_INVALID_OPTION in the mode `threads`, whose time is real
   */
  get clock(): Clock & { advance(time: Duration): Promise<void> } {
    if (this.#clock !== undefined) return this.#clock;
    throw invalidOption('mode', this.#mode, "'inline' or 'manual' to move the clock");
  }

  /** Everything that was submitted and accepted so far, oldest first. */
  get submitted(): readonly Submitted[] {
    return this.#record.all;
  }

  /**
   * Expects that a task has been submitted.
   *
   * @param match - a part of its input, or a function that says whether an input is meant
   * @returns the submissions that fit
   * @throws AssertionError that shows what was submitted instead
   */
  expectSubmitted<Input>(
    task: Submittable<Input, never> | Submittable<Input, unknown> | string,
    match?: InputMatch<Input>,
    expected: Expected = {},
  ): readonly Submitted<Input>[] {
    return this.#record.expect(task as Submittable<Input, unknown> | string, match, expected);
  }

  /** Expects that a task has not been submitted, or not with such an input. @throws AssertionError */
  expectNotSubmitted<Input>(
    task: Submittable<Input, never> | Submittable<Input, unknown> | string,
    match?: InputMatch<Input>,
  ): void {
    this.expectSubmitted(task, match, { times: 0 });
  }

  /** Forgets what was submitted so far, for what comes next. */
  clearSubmitted(): void {
    this.#record.clear();
  }

  /**
   * Runs what is due, and what that submits, until nothing of it is left. Delayed tasks and retries stay.
   *
   * @param options.delayed - lets time pass until these have ended, too. @defaultValue false
   * @param options.within - of real time, for handlers that wait for something real. @defaultValue '10s'
   * @throws ERR_MILLRACE_RESULT_TIMEOUT when something still runs by then
   */
  async drain(
    options: { readonly delayed?: boolean; readonly within?: Duration } = {},
  ): Promise<void> {
    const { delayed = false, within = DRAIN_WITHIN } = options;
    const withinMs = durationMs(within, 'within');
    const deadlineMs = performance.now() + withinMs;
    if (this.#mode === 'manual') await this.#release();
    await this.#untilDone(delayed, deadlineMs, withinMs);
    if (this.#mode === 'manual') await this.hold();
  }

  async #untilDone(delayed: boolean, deadlineMs: number, withinMs: number): Promise<void> {
    for (;;) {
      await this.#clock?.advance(0);
      const { ready, running, delayed: waiting } = this.runtime.stats();
      if (ready === 0 && running === 0 && !(delayed && waiting > 0)) return;
      if (performance.now() > deadlineMs) throw stillOpen(withinMs, { ready, running });
      const isIdle = ready === 0 && running === 0;
      if (isIdle && this.#clock !== undefined)
        await this.#clock.advance(Math.min(this.#clock.untilNextMs, STEP_MS_MAX));
      // Somebody waits for something real.
      else await delay(REAL_POLL_MS);
    }
  }

  /** Lets nothing run until the next `drain`. */
  async hold(): Promise<void> {
    for (const queue of this.#queues()) await this.runtime.pause({ queue });
  }

  async #release(): Promise<void> {
    for (const queue of this.#queues()) await this.runtime.resume({ queue });
  }

  #queues(): ReadonlySet<string> {
    return new Set([...this.runtime.tasks.values()].map(({ spec }) => spec.queue));
  }

  /** Ends the runtime; what runs is interrupted. */
  async close(): Promise<void> {
    const closed = this.runtime.close();
    if (this.#clock === undefined) return closed;
    let isClosed = false;
    const settled = closed.finally(() => {
      isClosed = true;
    });
    settled.catch(() => {});
    // Its own deadlines pass, too.
    while (!isClosed) await this.#clock.advance('1s');
    return settled;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** The same tasks on the main thread, whatever their `exec`. */
async function inlineTasks(
  tasks: TaskModule | URL | string,
): Promise<Readonly<Record<string, AnyTask>>> {
  const byName =
    typeof tasks === 'object' && !(tasks instanceof URL)
      ? tasksByName(Object.values(tasks.tasks))
      : await loadTasks(tasks);
  return Object.fromEntries(
    [...byName].map(([name, task]) => [
      name,
      { ...task, spec: { ...task.spec, exec: 'inline' } } as AnyTask,
    ]),
  );
}

async function loadTasks(location: URL | string): Promise<ReadonlyMap<string, AnyTask>> {
  const url = typeof location === 'string' ? pathToFileURL(location).href : location.href;
  return tasksOfModule((await import(url)) as Record<string, unknown>, url);
}

function stillOpen(
  withinMs: number,
  left: { readonly ready: number; readonly running: number },
): MillraceError {
  return new MillraceError(
    'ERR_MILLRACE_RESULT_TIMEOUT',
    `${left.running} tasks still run and ${left.ready} are ready after ${withinMs} ms; a handler waits for something that does not come, or raise 'within'`,
    { details: { withinMs, ...left } },
  );
}
