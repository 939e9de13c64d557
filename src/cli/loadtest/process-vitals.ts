/**
 * How one process of a load test is, second by second: its garbage collections, how late its event loop is, what it uses.
 */
import { channel } from 'node:diagnostics_channel';
import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks';
import type { ChannelPayloads } from '../../core/channels.js';
import { Subscriptions } from '../../core/subscriptions.js';
import { GcObserver } from '../gc-observer.js';
import { type PercentileFacts, Percentiles } from '../percentiles.js';
import { sharedNowMs } from './arrivals.js';

/** One second of a process. */
export interface VitalSecond {
  /** Since the load began; may be below 0. */
  readonly second: number;
  readonly gcCount: number;
  readonly gcMs: number;
  /** The longest collection of the whole run up to here. */
  readonly gcMaxMs: number;
  readonly loopDelayP99Ms: number;
  readonly loopDelayMaxMs: number;
  readonly rssBytes: number;
  readonly heapBytes: number;
  /** Open handles and requests of the process, as Node counts them. */
  readonly handles: number;
  /** Of one core. */
  readonly cpuShare: number;
}

/** A process so far. */
export interface VitalFacts {
  /** Those that were not told before. */
  readonly seconds: readonly VitalSecond[];
  readonly gc: { readonly count: number; readonly totalMs: number; readonly maxMs: number };
  readonly loopDelayP99Ms: number;
  readonly loopDelayMaxMs: number;
  readonly cpuMs: number;
  /** Runs of handlers that were reported to this process. */
  readonly executions: number;
  /** From sending a commit to its acknowledgement. */
  readonly commitMs: PercentileFacts;
  /** From sending a write to seeing it come back through a watch. */
  readonly watchMs: PercentileFacts;
}

/** What the monitor's timer is set to, and therefore in all that it says. */
const RESOLUTION_MS = 5;
const SECOND_MS = 1_000;
const NS_PER_MS = 1e6;

export class ProcessVitals {
  readonly #gc = new GcObserver();
  readonly #loop: IntervalHistogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  readonly #loopSecond: IntervalHistogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  readonly #onReported = (event: unknown): void => {
    this.#executions += (event as ChannelPayloads['millrace:batch:reported']).types.length;
  };
  readonly #events = new Subscriptions('');
  readonly #commitMs = new Percentiles();
  readonly #watchMs = new Percentiles();
  #seconds: VitalSecond[] = [];
  #executions = 0;
  readonly #onSecond: ((facts: VitalFacts) => void) | undefined;
  readonly #startMs: number;
  readonly #cpuAtStart = process.cpuUsage();
  readonly #timer: NodeJS.Timeout;
  #before: { atMs: number; cpu: NodeJS.CpuUsage; gcCount: number; gcMs: number };

  /**
   * Begins to look.
   *
   * @param startMs - when the load begins, on {@link sharedNowMs}
   * @param onSecond - told each second, so that a process that is killed has said what it knew
   */
  constructor(startMs: number, onSecond?: (facts: VitalFacts) => void) {
    this.#startMs = startMs;
    this.#onSecond = onSecond;
    this.#loop.enable();
    this.#loopSecond.enable();
    this.#events.on('millrace:commit:done', ({ elapsedMs }) => this.#commitMs.record(elapsedMs));
    this.#events.on('millrace:watch:delay', ({ delayMs }) => this.#watchMs.record(delayMs));
    // Of whichever runtime this process has.
    channel('millrace:batch:reported').subscribe(this.#onReported);
    this.#before = { atMs: sharedNowMs(), cpu: process.cpuUsage(), gcCount: 0, gcMs: 0 };
    this.#timer = setInterval(() => this.#look(), SECOND_MS);
    this.#timer.unref();
  }

  /** What has been seen so far. */
  facts(): VitalFacts {
    const seconds = this.#seconds;
    this.#seconds = [];
    const { user, system } = process.cpuUsage(this.#cpuAtStart);
    return {
      seconds,
      gc: this.#gc.totals(),
      loopDelayP99Ms: lateMs(this.#loop.percentile(99)),
      loopDelayMaxMs: lateMs(this.#loop.max),
      cpuMs: (user + system) / 1_000,
      executions: this.#executions,
      commitMs: this.#commitMs.facts(),
      watchMs: this.#watchMs.facts(),
    };
  }

  /** Stops looking. */
  stop(): VitalFacts {
    clearInterval(this.#timer);
    this.#events.close();
    channel('millrace:batch:reported').unsubscribe(this.#onReported);
    this.#gc.stop();
    const facts = this.facts();
    this.#loop.disable();
    this.#loopSecond.disable();
    return facts;
  }

  #look(): void {
    const atMs = sharedNowMs();
    const { atMs: beforeMs, cpu, gcCount, gcMs } = this.#before;
    const gc = this.#gc.totals();
    const used = process.cpuUsage(cpu);
    const { rss, heapUsed } = process.memoryUsage();
    this.#seconds.push({
      second: Math.floor((atMs - this.#startMs) / SECOND_MS),
      gcCount: gc.count - gcCount,
      gcMs: gc.totalMs - gcMs,
      gcMaxMs: gc.maxMs,
      loopDelayP99Ms: lateMs(this.#loopSecond.percentile(99)),
      loopDelayMaxMs: lateMs(this.#loopSecond.max),
      rssBytes: rss,
      heapBytes: heapUsed,
      handles: process.getActiveResourcesInfo().length,
      cpuShare: (used.user + used.system) / 1_000 / (atMs - beforeMs),
    });
    this.#loopSecond.reset();
    this.#before = { atMs, cpu: process.cpuUsage(), gcCount: gc.count, gcMs: gc.totalMs };
    this.#onSecond?.(this.facts());
  }
}

function lateMs(ns: number): number {
  return Math.max(0, ns / NS_PER_MS - RESOLUTION_MS);
}
