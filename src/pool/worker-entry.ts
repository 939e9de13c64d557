/**
 * What runs in a worker thread: loads the user's module, then runs batches that come over its port.
 *
 * Piscina calls `attach` once; when it returns, the thread belongs to the port. Nothing is awaited in between, so
 * the thread's event loop is free for the handlers' own timers, streams and servers.
 */
import type { ChildAnswer, ChildAsk } from '../core/children.js';
import { fromWire, toWire } from '../core/error-wire.js';
import { hasCode, MillraceError } from '../core/errors.js';
import type { HandlerHooks, HookSite, HooksModule } from '../core/handler-hooks.js';
import { type AnyTask, defineTask, type Handler, tasksOfModule } from '../core/task.js';
import { type BatchReport, BatchRunner, type RunnerBatch } from './batch-runner.js';
import { LastWords } from './last-words.js';
import {
  type AnswerMessage,
  type AskMessage,
  type AttachData,
  type AttachResult,
  type CancelMessage,
  clockOffsetMs,
  type InspectMessage,
  ITEM,
  type ResultMessage,
  type RunMessage,
} from './messages.js';
import { ResultLog } from './result-log.js';
import type { Notes } from './task-notes.js';
import { VitalsWriter } from './worker-vitals.js';

// Taken before user code loads: fake timers in there must not stop the thread.
const { setImmediate: soon, setTimeout: wakeIn, performance } = globalThis;
const wallMs = Date.now;

/** Called by Piscina with the data of the thread's only run. */
export async function attach(data: AttachData): Promise<AttachResult> {
  const { port } = data;
  port.postMessage({ place: -1, hasEntered: true } satisfies ResultMessage);
  // Before user code loads and may replace the clock.
  const offsetMs = clockOffsetMs();
  let tasks: ReadonlyMap<string, AnyTask>;
  let hooks: readonly HandlerHooks[];
  try {
    tasks = await load(data);
    const site: HookSite = { tell: (handles) => port.postMessage({ place: -1, handles }) };
    hooks = await Promise.all(data.preload.map((location) => loadHooks(location, site)));
  } catch (error) {
    port.close();
    return { error: toWire(error) };
  }
  const vitals = new VitalsWriter(data.vitals);
  const time = {
    nowMs: () => performance.now(),
    wallMs,
    soon,
    later: (delayMs: number, wake: () => void) => void wakeIn(wake, delayMs),
  };
  const runner = new BatchRunner(time, tasks, {
    executor: data.executor,
    limits: data.limits,
    hooks,
    wantsLines: () => vitals.wantsLines,
    noteCounts: vitals,
    lastWords: new LastWords(data.lastWords),
    allowsBytes: data.kind === 'function',
  });
  // The last lines before process.exit() or an uncaught exception are the ones that matter.
  process.once('exit', () => runner.notes.send());
  vitals.note(performance.now());
  const batches: (RunnerBatch | undefined)[] = [];
  const logs: ResultLog[] = [];

  const post = (message: ResultMessage): void => {
    port.postMessage(message, message.results === undefined ? [] : [message.results]);
  };
  const questions = new Questions((message) => port.postMessage(message));
  port.on('message', (message: RunMessage | CancelMessage | InspectMessage | AnswerMessage) => {
    if ('inspectMs' in message) {
      for (const one of hooks) one.inspect?.(message.inspectMs);
      return;
    }
    if ('call' in message) {
      questions.answer(message);
      return;
    }
    const { place } = message;
    if ('slot' in message) {
      batches[place]?.cancel(message.slot, message.reason, message.isTimeout);
      return;
    }
    const { batch, log } = message;
    if (log !== undefined) logs[place] = new ResultLog(log.memory, log.capacity);
    try {
      const report = new PortReport(place, post, questions);
      batches[place] = runner.run(new Uint8Array(batch), report, logs[place]!);
    } catch (error) {
      batches[place] = undefined;
      post({ place, error: toWire(error) });
      return;
    }
    // The message came in a turn of its own: no need to wait for the next.
    runner.begin();
    vitals.note(performance.now());
  });
  return { clockOffsetMs: offsetMs };
}

/** What handlers of this thread have asked, until it is answered. */
class Questions {
  readonly #post: (message: AskMessage) => void;
  readonly #open = new Map<number, (message: AnswerMessage) => void>();
  #calls = 0;

  constructor(post: (message: AskMessage) => void) {
    this.#post = post;
  }

  ask(place: number, ask: ChildAsk): Promise<ChildAnswer> {
    const call = ++this.#calls;
    return new Promise((resolve, reject) => {
      this.#post({ place, call, ask });
      this.#open.set(call, ({ answer, error }) => {
        if (answer === undefined) reject(fromWire(error));
        else resolve(answer);
      });
    });
  }

  answer(message: AnswerMessage): void {
    this.#open.get(message.call)?.(message);
    this.#open.delete(message.call);
  }
}

/** Sends home what is reported. The pool counts, so the end needs a message only when there was nothing to count. */
class PortReport implements BatchReport {
  readonly #place: number;
  readonly #post: (message: ResultMessage) => void;
  readonly #questions: Questions;
  #hasResults = false;

  constructor(place: number, post: (message: ResultMessage) => void, questions: Questions) {
    this.#place = place;
    this.#post = post;
    this.#questions = questions;
  }

  ask(ask: ChildAsk): Promise<ChildAnswer> {
    return this.#questions.ask(this.#place, ask);
  }

  onResults(frame: Uint8Array<ArrayBuffer>): void {
    this.#hasResults = true;
    this.#post({ place: this.#place, results: frame.buffer });
  }

  onNotes(notes: Notes): void {
    this.#post({ place: this.#place, notes });
  }

  onParked(): void {
    this.#post({ place: this.#place, isParked: true });
  }

  onEnd(): void {
    if (!this.#hasResults) this.#post({ place: this.#place, isEmpty: true });
  }
}

/** @throws ERR_MILLRACE_TASKS_MODULE */
async function load(data: AttachData): Promise<ReadonlyMap<string, AnyTask>> {
  const location = data.module;
  let module: Record<string, unknown>;
  try {
    module = await import(location);
    return data.kind === 'tasks' ? tasksOfModule(module, location) : itemTask(module, location);
  } catch (cause) {
    if (hasCode(cause, 'ERR_MILLRACE_TASKS_MODULE')) throw cause;
    throw new MillraceError(
      'ERR_MILLRACE_TASKS_MODULE',
      `${location} does not load: ${cause instanceof Error ? cause.message : String(cause)}`,
      { details: { location }, cause },
    );
  }
}

async function loadHooks(location: string, site: HookSite): Promise<HandlerHooks> {
  const { createHooks } = (await import(location)) as HooksModule;
  return createHooks(site);
}

/** The module's default function as a task. */
function itemTask(
  module: Readonly<Record<string, unknown>>,
  location: string,
): ReadonlyMap<string, AnyTask> {
  // What a compiler made of `export default` in a CommonJS module is one level deeper.
  const exported = module.default as { default?: unknown } | undefined;
  const run = typeof exported === 'function' ? exported : exported?.default;
  if (typeof run !== 'function') {
    throw new MillraceError(
      'ERR_MILLRACE_TASKS_MODULE',
      `${location} has no function as its default export; export default (item, ctx) => result`,
      { details: { location, exports: Object.keys(module) } },
    );
  }
  return new Map([[ITEM, defineTask({ name: ITEM, run: run as Handler<unknown, unknown> })]]);
}
