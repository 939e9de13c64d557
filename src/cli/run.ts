/**
 * `millrace run`: a tasks module of the user's over input of the user's, results as NDJSON.
 *
 *   input (paused while full) -> slots -> submit -> store -> threads -> settled -> record -> stdout (waits for its reader)
 *
 * A slot is held from the input to the written record, so neither a slow store, nor slow tasks, nor a slow reader
 * fills memory. What is wrong with one input (no JSON, too large, not what the task's schema wants) becomes a failed
 * record in its place; what is wrong with the store or the call ends the run.
 */
import { channel } from 'node:diagnostics_channel';
import { toWire, type WireError } from '../core/error-wire.js';
import { hasCode, isMillraceError, MillraceError } from '../core/errors.js';
import { nearMiss } from '../core/near-miss.js';
import type { AnyTask } from '../core/task.js';
import { createRuntime } from '../millrace.js';
import type { Runtime } from '../runtime.js';
import { usage, wholeOption } from './arguments.js';
import { type Arguments, ExitCode } from './command.js';
import { Interruption, STOPPING } from './interruption.js';
import { Progress } from './progress.js';
import { RecordWriter } from './record-writer.js';
import { RUN } from './run-fact.js';
import { type InputLabel, inputsOf, type RunInput } from './run-input.js';
import { Slots } from './slots.js';
import { storeOf } from './store-option.js';
import { plural, span } from './units.js';

/** Inputs between their source and their written record. */
const IN_FLIGHT_MAX = 1_024;

export async function run(args: Arguments): Promise<ExitCode> {
  const threads = wholeOption(args, 'threads', { min: 1, max: 1_024 });
  const isJson = args.options.has('json');
  const store = storeOf(args);
  const interruption = new Interruption();
  const inputOver = new AbortController();
  const inputs = inputsOf(
    args.options.get('input'),
    AbortSignal.any([interruption.signal, inputOver.signal]),
  );
  const runtime = await createRuntime({
    tasks: args.positionals[0]!,
    store,
    ...(threads !== undefined && { threads: { max: threads } }),
  });
  const startedAtMs = performance.now();
  const recovered = runtime.stats().open;
  let feed: Feed | undefined;
  let progress: Progress | undefined;
  try {
    const task = chosenTask(runtime, args.options.get('task'));
    const running = new Feed(runtime, task, interruption, inputOver);
    feed = running;
    progress = new Progress(
      { stream: process.stderr, noun: 'tasks', form: isJson ? 'json' : 'text' },
      () => running.progress(),
    );
    if (recovered > 0) warnOfRecovered(recovered, store.location);
    progress.start();
    interruption.signal.addEventListener('abort', () => {
      if (!running.isReaderGone) progress?.note(STOPPING);
    });
    await running.consume(inputs);
  } finally {
    progress?.stop();
    feed?.stop();
    await runtime.close();
    interruption.dispose();
  }
  const isInterrupted = interruption.signal.aborted;
  if (!feed.isReaderGone) {
    const facts = { ...feed.counts(), elapsedMs: performance.now() - startedAtMs, isInterrupted };
    process.stderr.write(
      isJson ? `${JSON.stringify(facts)}\n` : summaryLine(facts, store.location),
    );
  }
  if (isInterrupted) return ExitCode.INTERRUPTED;
  return feed.counts().failed > 0 ? ExitCode.FAILED : ExitCode.DONE;
}

interface Counts {
  readonly completed: number;
  readonly failed: number;
  /** Accepted by the store and not ended when the run was interrupted. */
  readonly left: number;
  readonly retries: number;
}

/** One run: from inputs to records. */
class Feed {
  readonly #runtime: Runtime;
  readonly #task: AnyTask;
  readonly #interruption: Interruption;
  /** Aborted to end an input that waits for more, when something else makes it useless. */
  readonly #inputOver: AbortController;
  readonly #slots = new Slots(IN_FLIGHT_MAX);
  readonly #writer: RecordWriter;
  #completed = 0;
  #failed = 0;
  #left = 0;
  #retries = 0;
  #inputCount = 0;
  #isInputOver = false;
  #fault: unknown;
  /** Nobody reads the results any more. */
  isReaderGone = false;

  readonly #onRetry = (): void => {
    this.#retries++;
  };

  constructor(
    runtime: Runtime,
    task: AnyTask,
    interruption: Interruption,
    inputOver: AbortController,
  ) {
    this.#runtime = runtime;
    this.#task = task;
    this.#interruption = interruption;
    this.#inputOver = inputOver;
    this.#writer = new RecordWriter(process.stdout, () => {
      this.isReaderGone = true;
      interruption.request();
    });
    channel('millrace:task:retry').subscribe(this.#onRetry);
  }

  counts(): Counts {
    return {
      completed: this.#completed,
      failed: this.#failed,
      left: this.#left,
      retries: this.#retries,
    };
  }

  progress(): { done: number; total: number | undefined; retries: number } {
    const total = this.#isInputOver ? this.#inputCount : undefined;
    return { done: this.#completed + this.#failed, total, retries: this.#retries };
  }

  /** @throws what made it impossible to go on */
  async consume(inputs: AsyncIterable<RunInput>): Promise<void> {
    const { signal } = this.#interruption;
    // Running tasks end, the others stay in the store; their handles hear that the runtime is closed.
    signal.addEventListener('abort', () => void this.#runtime.close(), { once: true });
    try {
      for await (const input of inputs) {
        await this.#slots.acquire();
        if (signal.aborted || this.#fault !== undefined) {
          this.#slots.release();
          break;
        }
        this.#inputCount++;
        void this.#handle(input)
          .catch((error) => this.#noteFault(error))
          .finally(() => this.#slots.release());
      }
    } catch (error) {
      this.#noteFault(error);
    }
    this.#isInputOver = true;
    await this.#slots.idle();
    if (this.#fault !== undefined) throw this.#fault;
  }

  stop(): void {
    channel('millrace:task:retry').unsubscribe(this.#onRetry);
  }

  async #handle(input: RunInput): Promise<void> {
    if ('error' in input) return this.#writeFailure(input.label, undefined, input.error);
    const { signal } = this.#interruption;
    let id: string | undefined;
    try {
      const handle = await this.#runtime.submit(this.#task, input.value, { signal });
      id = handle.id;
      this.#left++;
      const settled = await handle.settled();
      this.#left--;
      if (settled.status === 'completed') {
        this.#completed++;
        const { value } = settled;
        await this.#writer.write({ ...input.label, id, status: 'completed', value });
      } else {
        await this.#writeFailure(input.label, id, settled.error, settled.status);
      }
    } catch (error) {
      const isOver = signal.aborted && hasCode(error, 'ERR_MILLRACE_CLOSED');
      if (isOver || (signal.aborted && error === signal.reason)) return;
      // Not accepted, for a reason of its own: bad input.
      if (id !== undefined || !isMillraceError(error) || error.kind !== 'usage') throw error;
      await this.#writeFailure(input.label, undefined, error);
    }
  }

  async #writeFailure(
    label: InputLabel,
    id: string | undefined,
    error: Error,
    status: string = 'failed',
  ): Promise<void> {
    this.#failed++;
    const record = { ...label, ...(id !== undefined && { id }), status };
    await this.#writer.write({ ...record, error: withoutStacks(toWire(error)) });
  }

  #noteFault(error: unknown): void {
    this.#fault ??= error;
    this.#inputOver.abort();
  }
}

/** @throws ERR_MILLRACE_UNKNOWN_TASK, ERR_MILLRACE_INVALID_OPTION when there are several and none is named */
function chosenTask(runtime: Runtime, name: string | undefined): AnyTask {
  const names = [...runtime.tasks.keys()];
  const list = names.map((known) => `'${known}'`).join(', ');
  if (name === undefined) {
    const [only, ...others] = runtime.tasks.values();
    if (only !== undefined && others.length === 0) return only;
    throw usage(RUN, `the module has several tasks (${list}); name one with --task`);
  }
  const task = runtime.tasks.get(name);
  if (task !== undefined) return task;
  const near = nearMiss(name, names);
  throw new MillraceError(
    'ERR_MILLRACE_UNKNOWN_TASK',
    `the module has no task '${name.slice(0, 80)}'${near === undefined ? '' : `, did you mean '${near}'?`}; it has ${list}`,
    { details: { name: name.slice(0, 200), known: names } },
  );
}

function warnOfRecovered(recovered: number, location: string): void {
  process.stderr.write(
    `${plural(recovered, 'open task')} of an earlier run in ${location}: those that this module defines run too, without a record here\n`,
  );
}

function summaryLine(
  facts: Counts & { readonly elapsedMs: number; readonly isInterrupted: boolean },
  location: string,
): string {
  const retries = facts.retries === 0 ? '' : ` (${plural(facts.retries, 'retry', 'retries')})`;
  const line = `${plural(facts.completed, 'task')} completed, ${facts.failed} failed in ${span(facts.elapsedMs)}${retries}\n`;
  if (!facts.isInterrupted) return line;
  const tasks = plural(facts.left, 'accepted task');
  return location === 'memory'
    ? `${line}interrupted; ${tasks} went with the memory store\n`
    : `${line}interrupted; ${tasks} stay in ${location}\n`;
}

/** Where in the user's code it happened is for a debugger, not for a stream of results. */
function withoutStacks({ stack: _, cause, ...error }: WireError): WireError {
  return { ...error, ...(cause !== undefined && { cause: withoutStacks(cause) }) };
}
