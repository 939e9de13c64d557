/**
 * A steady load on locks: callers arrive at a fixed rate, whatever became of the earlier ones (an open loop, so that
 * a slow lock shows as waiting and not as a lower rate).
 */

import { Coordination } from '../../coordination/coordination.js';
import type { Lock } from '../../coordination/locks.js';
import { hasCode } from '../../core/errors.js';
import type { Random } from '../../core/random.js';
import { prefixRange, type Store } from '../../core/store.js';
import { systemClock } from '../../timing/system-clock.js';
import { Percentiles } from '../percentiles.js';

export interface LockLoad {
  readonly rate: number;
  readonly seconds: number;
  readonly shards: number;
  readonly sessions: number;
  readonly holdMs: number;
}

export interface LockFacts {
  readonly asked: number;
  readonly granted: number;
  /** Spans from asking to holding. */
  readonly acquireMeanMs: number;
  readonly acquireP50Ms: number;
  readonly acquireP99Ms: number;
  readonly acquireMaxMs: number;
  readonly timeouts: number;
  /** Timeouts on locks that nobody held during the whole wait. */
  readonly deadlocks: number;
  /** Two holders at once, as far as this process saw. */
  readonly overlaps: number;
  readonly failures: number;
  readonly leakedKeys: number;
}

const TTL_MS = 15_000;
const TIMEOUT_MS = 3_000;
/** Who gave up may still be on the way out. */
const LEAVING_MS_MAX = 5_000;
const NAME = 'loadtest';

export class LockRun {
  readonly #load: LockLoad;
  readonly #store: Store;
  readonly #random: Random;
  readonly #sessions: Coordination[];
  readonly #spans = new Percentiles();
  readonly #use = new Map<number, { holders: number; heldAtMs: number }>();
  #sumMs = 0;
  #asked = 0;
  #granted = 0;
  #open = 0;
  #timeouts = 0;
  #deadlocks = 0;
  #overlaps = 0;
  #failures = 0;

  /** @param stores - one view of the same store for each session */
  constructor(
    load: LockLoad,
    stores: readonly Store[],
    random: Random,
    locking: 'queueing' | 'single-key',
  ) {
    this.#load = load;
    this.#store = stores[0]!;
    this.#random = random;
    this.#sessions = stores.map(
      (store, i) =>
        new Coordination(
          { clock: systemClock, random: random.fork(`session ${i}`), store },
          {
            ttlMs: TTL_MS,
            label: `session ${i}`,
            node: `loadtest${i}`,
            record: {},
            isMember: false,
            locking,
          },
        ),
    );
  }

  get asked(): number {
    return this.#asked;
  }

  /** Runs to its end, or until the signal, and everybody has released. */
  async run(signal: AbortSignal): Promise<LockFacts> {
    await Promise.all(this.#sessions.map((session) => session.start()));
    const startMs = performance.now();
    const total = this.#load.rate * this.#load.seconds;
    while (this.#asked < total && !signal.aborted) {
      const due = Math.floor(((performance.now() - startMs) / 1_000) * this.#load.rate);
      while (this.#asked < Math.min(due, total)) void this.#one();
      await pause(1);
    }
    while (this.#open > 0) await pause(10);
    const endMs = performance.now() + LEAVING_MS_MAX;
    let leakedKeys = await this.#keysLeft();
    while (leakedKeys > 0 && performance.now() < endMs) {
      await pause(100);
      leakedKeys = await this.#keysLeft();
    }
    await Promise.all(this.#sessions.map((session) => session.stop()));
    return this.#facts(leakedKeys);
  }

  async #one(): Promise<void> {
    this.#asked++;
    this.#open++;
    const shard = this.#random.u32() % this.#load.shards;
    const session = this.#sessions[this.#random.u32() % this.#sessions.length]!;
    const use = this.#use.get(shard) ?? { holders: 0, heldAtMs: performance.now() };
    this.#use.set(shard, use);
    const askedAtMs = performance.now();
    try {
      await session.locks.withLock(NAME, { shard, timeout: TIMEOUT_MS }, (lock) =>
        this.#hold(lock, use, askedAtMs),
      );
    } catch (error) {
      if (hasCode(error, 'ERR_MILLRACE_LOCK_TIMEOUT')) {
        this.#timeouts++;
        const isIdle = use.holders === 0 && performance.now() - use.heldAtMs >= TIMEOUT_MS;
        if (isIdle) this.#deadlocks++;
      } else this.#failures++;
    } finally {
      this.#open--;
    }
  }

  async #hold(
    lock: Lock,
    use: { holders: number; heldAtMs: number },
    askedAtMs: number,
  ): Promise<void> {
    const waitMs = performance.now() - askedAtMs;
    this.#granted++;
    this.#sumMs += waitMs;
    this.#spans.record(waitMs);
    if (use.holders > 0 && !lock.signal.aborted) this.#overlaps++;
    use.holders++;
    await pause(this.#load.holdMs);
    use.holders--;
    use.heldAtMs = performance.now();
  }

  async #keysLeft(): Promise<number> {
    const { store, prefix } = this.#store.lockSpace ?? { store: this.#store, prefix: 'l/' };
    const { entries } = await store.range(prefixRange(`${prefix}${NAME}`));
    return entries.length;
  }

  #facts(leakedKeys: number): LockFacts {
    const { p50, p99, max } = this.#spans.facts();
    return {
      asked: this.#asked,
      granted: this.#granted,
      acquireMeanMs: this.#granted === 0 ? 0 : this.#sumMs / this.#granted,
      acquireP50Ms: p50,
      acquireP99Ms: p99,
      acquireMaxMs: max,
      timeouts: this.#timeouts,
      deadlocks: this.#deadlocks,
      overlaps: this.#overlaps,
      failures: this.#failures,
      leakedKeys,
    };
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
