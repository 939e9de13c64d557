/**
 * The closed load: keeps a number of tasks in flight, checks each result, and measures what happens in a window while
 * all is steady. Start and end of the load are not part of it.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { BATCH, type Open, type Target } from './targets.js';
import type { Input } from './tasks.js';

/** A contender under load. */
interface Running {
  /** Tasks ended so far. */
  readonly ended: number;
  /** Rejects when a task failed or gave another task's result; else when the load is over. */
  readonly over: Promise<void>;
  /** Lets what is in flight end. */
  stop(): void;
}

/** Starts the load. */
function startLoad(target: Target, inputs: readonly Input[], inFlight: number): Running {
  const load = new Load(target, inputs);
  const over = load.run(inFlight);
  // Whoever stops the load hears of it.
  over.catch(() => {});
  return {
    get ended() {
      return load.ended;
    },
    over,
    stop: () => load.stop(),
  };
}

class Load {
  ended = 0;
  readonly #target: Target;
  readonly #inputs: readonly Input[];
  #isOver = false;
  #next = 0;

  constructor(target: Target, inputs: readonly Input[]) {
    this.#target = target;
    this.#inputs = inputs;
  }

  stop(): void {
    this.#isOver = true;
  }

  async run(inFlight: number): Promise<void> {
    const target = this.#target;
    try {
      if (target.kind === 'stream') return await this.#stream(target);
      const count = target.kind === 'single' ? inFlight : Math.max(1, inFlight / BATCH);
      const callers = Array.from({ length: count }, () =>
        target.kind === 'single' ? this.#single(target) : this.#batched(target),
      );
      await Promise.all(callers);
    } finally {
      this.stop();
    }
  }

  async #single(target: Target): Promise<void> {
    const inputs = this.#inputs;
    while (!this.#isOver) {
      const id = this.#next++ % inputs.length;
      check(await target.run(inputs[id]!), id);
      this.ended++;
    }
  }

  async #batched(target: Target & { kind: 'batched' }): Promise<void> {
    const inputs = this.#inputs;
    while (!this.#isOver) {
      const from = this.#next % inputs.length;
      this.#next += BATCH;
      const results = await target.runAll(inputs.slice(from, from + BATCH));
      for (const [index, result] of results.entries()) check(result, from + index);
      this.ended += results.length;
    }
  }

  async #stream(target: Target & { kind: 'stream' }): Promise<void> {
    const inputs = this.#inputs;
    const many = Array.from(
      { length: STREAM_INPUTS },
      (_, index) => inputs[index % inputs.length]!,
    );
    while (!this.#isOver) {
      let index = 0;
      for await (const result of target.runMany(many)) {
        check(result, index++ % inputs.length);
        this.ended++;
        if (this.#isOver) break;
      }
    }
  }
}

/** One call gets so many. */
const STREAM_INPUTS = 262_144;

function check(result: unknown, id: number): void {
  if (result !== id) throw new Error(`task ${id} gave ${String(result)}`);
}

/** What one window saw. */
export interface Window {
  readonly tasks: number;
  readonly elapsedMs: number;
  /** CPU time of the contender's own threads; NaN where the system does not tell. */
  readonly threadsCpuUs: number;
}

/**
 * Opens a contender, puts it under load, and measures in one window after the warm-up. Then it is closed.
 *
 * @param measure - does the measuring part of it; so that it can be profiled or watched by itself
 */
export async function underLoad<Result = Window>(
  open: Open,
  load: {
    readonly threads: number;
    readonly inFlight: number;
    readonly inputs: readonly Input[];
    readonly warmUpMs: number;
    readonly measureMs: number;
  },
  measure: (window: () => Promise<Window>) => Promise<Result>,
): Promise<Result> {
  const before = new Set(threadIds());
  const target = await open(load.threads, load.inFlight);
  // Their threads are there when they have run something.
  await Promise.all(load.inputs.slice(0, BATCH).map((input) => target.run(input)));
  const own = threadIds().filter((id) => !before.has(id));
  const running = startLoad(target, load.inputs, load.inFlight);
  const pause = (ms: number): Promise<void> => Promise.race([sleep(ms), running.over]);
  await pause(load.warmUpMs);
  const result = await measure(async () => {
    const endedBefore = running.ended;
    const cpuBefore = cpuUs(own);
    const startedAtMs = performance.now();
    await pause(load.measureMs);
    return {
      tasks: running.ended - endedBefore,
      elapsedMs: performance.now() - startedAtMs,
      threadsCpuUs: cpuUs(own) - cpuBefore,
    };
  });
  running.stop();
  await running.over;
  await target.close();
  return result;
}

/** Threads of this process. */
function threadIds(): readonly string[] {
  try {
    return readdirSync('/proc/self/task');
  } catch {
    return [];
  }
}

/** Nanoseconds on a CPU are the first number of a thread's schedstat. */
function cpuUs(threads: readonly string[]): number {
  if (threads.length === 0) return Number.NaN;
  let sum = 0;
  for (const id of threads) {
    const text = readFileSync(`/proc/self/task/${id}/schedstat`, 'latin1');
    sum += Number(text.split(' ')[0]) / 1000;
  }
  return sum;
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
