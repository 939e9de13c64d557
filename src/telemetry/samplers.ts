/**
 * Samplers: which of many like lines are written.
 *
 *   EveryNth     the first of each n
 *   Burst        so many in each period, and beyond them what another sampler lets pass
 *   KeyedSampler one of these for each key (a level, a message, a task type), so that the frequent does not hide the rare
 *
 * Sampling stays honest: what passes tells how many lines it stands for, and what was held back is counted by key, for
 * the summary. Pino has no sampler; the forms are those of zerolog (sampler.go) and of zap's sampling core.
 *
 * Cost: holding a line back is a look into a map and two additions. Thread safety: none.
 */

/** Decides about one line after another. */
export interface Sampler {
  /** @param nowMs - monotonic */
  passes(nowMs: number): boolean;
}

/** A rule as users write it: 1 in so many (1: all, 0: none), or the first ones of each period and then 1 in so many. */
export interface SamplerSpec {
  /** Passed in each period before `every` counts; 0: there are no periods. */
  readonly first: number;
  readonly perMs: number;
  /** 1 in so many; 0: none. */
  readonly every: number;
}

/** Keeps everything. */
export const KEEP_ALL: SamplerSpec = { first: 0, perMs: 0, every: 1 };

/** Passes the first of each `n`; all with 1, none with 0. */
class EveryNth implements Sampler {
  readonly #n: number;
  #seen = 0;

  constructor(n: number) {
    this.#n = n;
  }

  passes(): boolean {
    if (this.#n === 0) return false;
    const passes = this.#seen === 0;
    this.#seen = this.#seen + 1 === this.#n ? 0 : this.#seen + 1;
    return passes;
  }
}

/** Passes the first ones of each period; what comes beyond goes to `next`. A period begins with a line. */
class Burst implements Sampler {
  readonly #first: number;
  readonly #perMs: number;
  readonly #next: Sampler;
  #endsAtMs = Number.NEGATIVE_INFINITY;
  #left = 0;

  constructor(first: number, perMs: number, next: Sampler) {
    this.#first = first;
    this.#perMs = perMs;
    this.#next = next;
  }

  passes(nowMs: number): boolean {
    if (nowMs >= this.#endsAtMs) {
      this.#endsAtMs = nowMs + this.#perMs;
      this.#left = this.#first;
    }
    if (this.#left > 0) {
      this.#left--;
      return true;
    }
    return this.#next.passes(nowMs);
  }
}

export function samplerOf({ first, perMs, every }: SamplerSpec): Sampler {
  const beyond = new EveryNth(every);
  return first > 0 ? new Burst(first, perMs, beyond) : beyond;
}

interface Keyed {
  readonly sampler: Sampler;
  /** Held back since the last one that passed. */
  held: number;
  /** Held back since the last summary. */
  unsummed: number;
}

/** Keys come from outside (messages of handlers), so there is a bound: what is beyond shares one sampler. */
const KEYS_MAX = 1_000;

/** What the keys beyond {@link KEYS_MAX} are called. */
export const OTHER_KEYS = '_other';

/** A sampler for each key. */
export class KeyedSampler {
  readonly #spec: SamplerSpec;
  readonly #byKey = new Map<string, Keyed>();
  #total = 0;

  constructor(spec: SamplerSpec) {
    this.#spec = spec;
  }

  /** Held back since the start. */
  get held(): number {
    return this.#total;
  }

  /** @returns how many lines this one stands for, those held back before it included; 0: it is held back */
  take(key: string, nowMs: number): number {
    const keyed = this.#byKey.get(key) ?? this.#add(key);
    if (keyed.sampler.passes(nowMs)) {
      const stoodFor = keyed.held + 1;
      keyed.held = 0;
      return stoodFor;
    }
    keyed.held++;
    keyed.unsummed++;
    this.#total++;
    return 0;
  }

  /** What was held back since the last call, by key; those with none are left out. */
  takeSums(): Map<string, number> {
    const sums = new Map<string, number>();
    for (const [key, keyed] of this.#byKey) {
      if (keyed.unsummed > 0) sums.set(key, keyed.unsummed);
      keyed.unsummed = 0;
    }
    return sums;
  }

  #add(key: string): Keyed {
    const kept = this.#byKey.size < KEYS_MAX ? key : OTHER_KEYS;
    let keyed = this.#byKey.get(kept);
    if (keyed === undefined) {
      keyed = { sampler: samplerOf(this.#spec), held: 0, unsummed: 0 };
      this.#byKey.set(kept, keyed);
    }
    return keyed;
  }
}
