/**
 * One row of the ablation, measured in a process of its own: one runtime that submits and runs, and three loads on it.
 *
 *   closed loop   `inFlight` submitters, each awaiting its result                       -> tasksPerSecond, CPU, GC
 *   open loop     at a fixed rate, latency from the moment meant                        -> latencyP50Ms, P95, P99
 *   slow store    the same rate, half of it of low priority, each write takes longer    -> slowLatencyP95Ms, slowShed
 *
 * One submit in `lockEvery` is made under a lock of its business key, as services do that keep an order.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { hasCode } from '../../core/errors.js';
import { createRuntime } from '../../millrace.js';
import type { Runtime } from '../../runtime.js';
import type { RuntimeOptions, Switch } from '../../runtime-options.js';
import type { StoreFactory } from '../../store/index.js';
import { WatchCanary } from '../../store/watch-canary.js';
import { systemClock } from '../../timing/system-clock.js';
import { GcObserver } from '../gc-observer.js';
import { Percentiles } from '../percentiles.js';
import type { AblationSettings } from './ablation-plan.js';
import { type AblationInput, work } from './ablation-tasks.js';
import { Arrivals, sharedNowMs } from './arrivals.js';
import { ClosedLoop } from './closed-loop.js';
import { Slowness } from './slow-store.js';

export interface RowResult {
  readonly metrics: Readonly<Record<string, number>>;
  readonly notes: Readonly<Record<string, number | string>>;
}

const LOCK = 'ablation';
const LOCK_TIMEOUT_MS = 3_000;
const CANARY_MS = 500;
/** What the last tasks of a load have for ending. */
const LATE_MS_MAX = 15_000;
/** Warm is who has ended as many tasks as are in flight, or has had this long for it. */
const WARM_UP_MS_MAX = 8_000;
const POLL_MS = 20;
const INPUT_BYTES = 20;
const LOW_PRIORITY = -1;

/**
 * @param logger - where handlers' lines go; pino on standard output unless it is another one
 * @throws as createRuntime
 */
export async function measureRow(
  factory: StoreFactory,
  off: readonly Switch[],
  settings: AblationSettings,
  logger: NonNullable<RuntimeOptions['logger']> = true,
): Promise<RowResult> {
  const slowness = new Slowness();
  const store = slowness.of(factory);
  const { runtime, isLogged } = await open(store, { off, settings, logger });
  const row = new Row(runtime, settings);
  try {
    const closed = await row.closedLoop();
    const latency = await row.openLoop(settings.latencyMs);
    const slow = await row.slowLoop(store, slowness);
    const { p50, p95, p99 } = latency.facts();
    return {
      metrics: {
        tasksPerSecond: closed.tasksPerSecond,
        latencyP50Ms: p50,
        latencyP95Ms: p95,
        latencyP99Ms: p99,
      },
      notes: {
        ...closed.notes,
        ...slow,
        ...row.lockNotes(),
        logs: isLogged ? 'pino' : 'none: pino is not installed',
      },
    };
  } finally {
    slowness.byMs = 0;
    await runtime.close();
  }
}

async function open(
  store: StoreFactory,
  {
    off,
    settings,
    logger,
  }: {
    readonly off: readonly Switch[];
    readonly settings: AblationSettings;
    readonly logger: NonNullable<RuntimeOptions['logger']>;
  },
): Promise<{ readonly runtime: Runtime; readonly isLogged: boolean }> {
  const options: RuntimeOptions = {
    tasks: new URL('./ablation-tasks.js', import.meta.url),
    store,
    threads: { max: settings.threads },
    healing: { rules: { watchDelay: { above: '2s', for: settings.breakerWindowMs } } },
    experimental: { off },
    shutdown: { soft: '2s', hard: '4s' },
  };
  const logs = { sample: { lines: 100 } };
  try {
    return { runtime: await createRuntime({ ...options, logger, logs }), isLogged: true };
  } catch (error) {
    if (!hasCode(error, 'ERR_MILLRACE_INVALID_OPTION')) throw error;
    return { runtime: await createRuntime(options), isLogged: false };
  }
}

class Row {
  readonly #runtime: Runtime;
  readonly #settings: AblationSettings;
  readonly #pad: string;
  readonly #lockMs = new Percentiles();
  #lockTimeouts = 0;
  #submits = 0;

  constructor(runtime: Runtime, settings: AblationSettings) {
    this.#runtime = runtime;
    this.#settings = settings;
    this.#pad = 'x'.repeat(settings.payloadBytes - INPUT_BYTES);
  }

  /** Keeps so many tasks going; what ends within the time counts. */
  async closedLoop(): Promise<{
    readonly tasksPerSecond: number;
    readonly notes: Readonly<Record<string, number>>;
  }> {
    const { inFlight, warmUpMs, throughputMs } = this.#settings;
    const loop = new ClosedLoop(inFlight, () => this.#one(0));
    await loop.goOn(warmUpMs);
    // A start that is slow by itself (a handshake for each watch, say) is no part of the rate.
    const patientUntilMs = sharedNowMs() + WARM_UP_MS_MAX;
    while (loop.ended < inFlight && sharedNowMs() < patientUntilMs) await loop.goOn(POLL_MS);
    const gc = new GcObserver();
    const before = loop.ended;
    const cpuBefore = process.cpuUsage();
    const startMs = sharedNowMs();
    await loop.goOn(throughputMs);
    const elapsedMs = sharedNowMs() - startMs;
    const { user, system } = process.cpuUsage(cpuBefore);
    const tasks = loop.ended - before;
    const { count, totalMs } = gc.totals();
    gc.stop();
    await loop.stop();
    return {
      tasksPerSecond: (tasks / elapsedMs) * 1_000,
      notes: {
        cpuUsPerTask: (user + system) / Math.max(1, tasks),
        gcsPerSecond: (count / elapsedMs) * 1_000,
        gcMsPerSecond: (totalMs / elapsedMs) * 1_000,
      },
    };
  }

  /** Tasks at a fixed rate. @returns how long each took from the moment meant */
  async openLoop(ms: number): Promise<Percentiles> {
    const latency = new Percentiles();
    await this.#arrive(ms, async (intendedMs) => {
      await this.#one(0);
      latency.record(sharedNowMs() - intendedMs);
    });
    return latency;
  }

  /** The same rate while each write takes longer; every other task can wait, and says so by its priority. */
  async slowLoop(
    store: StoreFactory,
    slowness: Slowness,
  ): Promise<Readonly<Record<string, number>>> {
    const { slowMs, slowByMs } = this.#settings;
    const latency = new Percentiles();
    let shed = 0;
    const canary = await startCanary(store);
    slowness.byMs = slowByMs;
    await this.#arrive(slowMs, async (intendedMs, n) => {
      const priority = n % 2 === 0 ? 0 : LOW_PRIORITY;
      try {
        await this.#submitAndWait(priority);
        if (priority === 0) latency.record(sharedNowMs() - intendedMs);
      } catch (error) {
        if (!hasCode(error, 'ERR_MILLRACE_QUEUE_FULL')) throw error;
        shed++;
      }
    });
    slowness.byMs = 0;
    await canary?.stop();
    return { slowLatencyP95Ms: latency.facts().p95, slowShed: shed };
  }

  lockNotes(): Readonly<Record<string, number>> {
    return { lockP95Ms: this.#lockMs.facts().p95, lockTimeouts: this.#lockTimeouts };
  }

  async #arrive(ms: number, each: (intendedMs: number, n: number) => Promise<void>): Promise<void> {
    const rate = this.#settings.ratePerSecond;
    const arrivals = await Arrivals.start({ rate, seconds: ms / 1_000 });
    const running: Promise<void>[] = [];
    await arrivals.run((n, intendedMs) => {
      running.push(each(intendedMs, n));
    });
    const patience = new AbortController();
    const late = sleep(LATE_MS_MAX, undefined, { signal: patience.signal }).catch(() => {});
    await Promise.race([Promise.all(running), late]);
    patience.abort();
  }

  /** One task, perhaps under a lock. */
  async #one(priority: number): Promise<void> {
    const { lockEvery, lockShards } = this.#settings;
    const n = this.#submits++;
    if (n % lockEvery !== 0) return this.#submitAndWait(priority);
    const askedMs = sharedNowMs();
    const options = { shard: (n / lockEvery) % lockShards, timeout: LOCK_TIMEOUT_MS };
    try {
      const handle = await this.#runtime.locks.withLock(LOCK, options, () => {
        this.#lockMs.record(sharedNowMs() - askedMs);
        return this.#submit(priority);
      });
      await handle.result();
    } catch (error) {
      if (!hasCode(error, 'ERR_MILLRACE_LOCK_TIMEOUT')) throw error;
      this.#lockTimeouts++;
    }
  }

  async #submitAndWait(priority: number): Promise<void> {
    const handle = await this.#submit(priority);
    await handle.result();
  }

  #submit(priority: number): ReturnType<Runtime['submit']> {
    const input: AblationInput = { n: this.#submits, pad: this.#pad };
    return this.#runtime.submit(work, input, { priority });
  }
}

/** Watches of etcd are looked at twice a second, for the breaker's short window. */
async function startCanary(factory: StoreFactory): Promise<WatchCanary | undefined> {
  if (factory.kind !== 'etcd') return undefined;
  const store = await factory.open({ clock: systemClock });
  const canary = new WatchCanary(systemClock, store, {
    key: `loadtest/canary/${process.pid}`,
    everyMs: CANARY_MS,
  });
  await canary.start();
  return canary;
}
