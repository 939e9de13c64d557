/**
 * One load of tasks: submits them as they arrive, waits for each, and notes how long every phase took.
 *
 *   intended ---submit---> accepted        due ---wait---> handler called ---run---> handler done ---> result known
 *      '-------------------------------- + delay                                                          |
 *                                         '--------------------------end to end---------------------------'
 *
 * `submit` and `end to end` count from the moment meant (the due time from the moment meant plus the delay), so what the load
 * itself is late by is part of them.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { hasCode } from '../../core/errors.js';
import type { Random } from '../../core/random.js';
import type { Runtime } from '../../runtime.js';
import { Percentiles } from '../percentiles.js';
import { Arrivals, sharedNowMs } from './arrivals.js';
import { Delivery, type LateFacts } from './delivery.js';
import { type TaskLoad, worksOf } from './load.js';
import { type LoadInput, work } from './load-tasks.js';
import { Timeline } from './timeline.js';

/** What the run needs of a runtime or a client. */
export type Submitter = Pick<Runtime, 'submit' | 'inspect'>;

export const PHASES = ['submit', 'wait', 'run', 'endToEnd'] as const;
export type Phase = (typeof PHASES)[number];

/** A node that died is replaced, and its tasks run, within this; a busy system has it for what piled up. */
const LATE_MS_MAX = 60_000;
const POLL_MS = 20;
/** What JSON adds to the padding. */
const INPUT_BYTES = 45;

export class TaskRun {
  readonly delivery: Delivery;
  readonly timeline: Timeline;
  readonly arrivals: Arrivals;
  readonly phases: Readonly<Record<Phase, Percentiles>> = {
    submit: new Percentiles(),
    wait: new Percentiles(),
    run: new Percentiles(),
    endToEnd: new Percentiles(),
  };
  readonly #submitter: Submitter;
  readonly #load: TaskLoad;
  readonly #random: Random;
  readonly #inputs: readonly Omit<LoadInput, 'n'>[];
  #flying = 0;

  /** Resolves when the load has begun; whoever starts it must call `arrive`. */
  static async start(submitter: Submitter, load: TaskLoad, random: Random): Promise<TaskRun> {
    return new TaskRun(submitter, load, random, await Arrivals.start(load));
  }

  private constructor(submitter: Submitter, load: TaskLoad, random: Random, arrivals: Arrivals) {
    this.#submitter = submitter;
    this.#load = load;
    this.#random = random;
    const pad = 'x'.repeat(Math.max(0, load.payloadBytes - INPUT_BYTES));
    this.#inputs = worksOf(load.work).map((each) => ({ ...each, pad }));
    this.arrivals = arrivals;
    this.delivery = new Delivery(this.arrivals.total);
    this.timeline = new Timeline(this.arrivals.startMs);
  }

  /** Resolves when nothing arrives any more. */
  arrive(signal: AbortSignal): Promise<void> {
    return this.arrivals.run((n, intendedMs) => void this.#one(n, intendedMs), signal);
  }

  /** Resolves when all that arrived has ended, or has had its time. */
  async finish(): Promise<void> {
    const untilMs = sharedNowMs() + this.#load.delayMs + LATE_MS_MAX;
    while (this.#flying > 0 && sharedNowMs() < untilMs) await sleep(POLL_MS);
    await this.delivery.settle((id) => this.#whereIs(id));
  }

  async #one(n: number, intendedMs: number): Promise<void> {
    this.#flying++;
    this.timeline.noteArrival(intendedMs);
    this.delivery.noteSubmit();
    const { delayMs, tenants } = this.#load;
    const delay = delayMs === 0 ? 0 : this.#random.float() * delayMs;
    const dueMs = intendedMs + delay;
    try {
      const input = { n, ...this.#inputs[n % this.#inputs.length]! };
      const handle = await this.#submitter
        .submit(work, input, {
          ...(delay > 0 && { delay }),
          ...(tenants > 0 && { tenant: `tenant-${n % tenants}` }),
        })
        .catch((error: unknown) => {
          this.delivery.noteRefused(error);
        });
      if (handle === undefined) return;
      this.phases.submit.record(sharedNowMs() - intendedMs);
      this.delivery.noteAccepted(n, handle.id);
      const settled = await handle.settled();
      if (settled.status !== 'completed') {
        this.delivery.noteFailed(n, settled.error);
        return;
      }
      const nowMs = sharedNowMs();
      const { startMs, endMs } = settled.value;
      this.phases.wait.record(startMs - dueMs);
      this.phases.run.record(endMs - startMs);
      this.phases.endToEnd.record(nowMs - dueMs);
      this.timeline.noteEnd(nowMs, nowMs - dueMs);
      this.delivery.noteResult(n, settled.value);
    } catch (error) {
      // Not knowing how it ended: the check at the end asks the store.
      if (!hasCode(error, 'ERR_MILLRACE_TASK_GONE')) this.delivery.noteFailed(n, error);
    } finally {
      this.#flying--;
    }
  }

  async #whereIs(id: string): Promise<keyof LateFacts> {
    try {
      const { status } = await this.#submitter.inspect(id);
      return status === 'pending' || status === 'running' ? 'open' : 'unheard';
    } catch (error) {
      if (hasCode(error, 'ERR_MILLRACE_TASK_GONE')) return 'lost';
      throw error;
    }
  }
}
