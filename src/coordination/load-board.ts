/**
 * LoadBoard: how much the other members have to do, for whoever places work with them.
 *
 * Figures come from their heartbeats and from what the supervisor says of them, read every third of the ttl, and only
 * while somebody asks: a node that keeps its work to itself reads nothing. Reading costs a request and N heartbeats each
 * time; a watch would bring the same N heartbeats in the same time as N events, to every node, asked or not.
 *
 * So figures are up to two thirds of a ttl old. What was placed since with a member is added to what it said, or everybody
 * would send everything to the one that was idle; the choice of two does the rest (Mitzenmacher, "How useful is old
 * information?", 2000: choosing the best of all by old figures is worse than by chance, the better of two never is).
 */
import type { Clock } from '../core/clock.js';
import { isMillraceError } from '../core/errors.js';
import type { Revision, Store } from '../core/store.js';
import { ALL_HEARTBEATS, heartbeatOf } from './heartbeats.js';
import { type Load, tasksPerThread } from './load.js';
import { BEATS_PER_TTL } from './members.js';
import { ALL_VERDICTS, verdictOf, weightOf } from './verdicts.js';

interface Figures {
  readonly beatAt: Revision;
  readonly load: Load | undefined;
  /** When that was read, on the monotonic clock. */
  readonly readAtMs: number;
  /** Tasks that this process placed there since. */
  placed: number;
}

export class LoadBoard {
  readonly #clock: Clock;
  readonly #store: Store;
  readonly #everyMs: number;
  readonly #figures = new Map<string, Figures>();
  /** Tasks that were placed with members of which nothing was known yet. */
  readonly #placedUnknown = new Map<string, number>();
  #weights: ReadonlyMap<string, number> = new Map();
  #readAtMs = Number.NEGATIVE_INFINITY;
  #reading: Promise<void> | undefined;

  /** @param ttlMs - of the members */
  constructor(clock: Clock, store: Store, ttlMs: number) {
    this.#clock = clock;
    this.#store = store;
    this.#everyMs = ttlMs / BEATS_PER_TTL;
  }

  /**
   * What a new task would wait behind at a member, in tasks per thread; more for one that is late. Infinity: it should get
   * none. Undefined before anything is known of it. Never waits: old figures are renewed in the background.
   */
  pressureOf(node: string): number | undefined {
    this.#renew();
    const weight = this.#weights.get(node) ?? 1;
    if (weight === 0) return Number.POSITIVE_INFINITY;
    const figures = this.#figures.get(node);
    if (figures?.load === undefined) return undefined;
    const { load, placed } = figures;
    return (tasksPerThread({ ...load, ready: load.ready + placed }) + 1) / weight;
  }

  /**
   * Whether a member has no room for tasks: what it said that it has, and what will have ended there since at the rate that it
   * told, is taken by what this process placed there. False when nothing is known of it.
   */
  isFull(node: string): boolean {
    this.#renew();
    const figures = this.#figures.get(node);
    const { room, endedPerSecond = 0 } = figures?.load ?? {};
    if (figures === undefined || room === undefined) return false;
    const passedMs = this.#clock.monoMs() - figures.readAtMs;
    return figures.placed >= room + (endedPerSecond * passedMs) / 1_000;
  }

  /** So many tasks were placed with a member. */
  notePlaced(node: string, tasks: number): void {
    const figures = this.#figures.get(node);
    if (figures !== undefined) figures.placed += tasks;
    else this.#placedUnknown.set(node, (this.#placedUnknown.get(node) ?? 0) + tasks);
  }

  /** Resolves when nothing is being read. */
  async close(): Promise<void> {
    await this.#reading;
  }

  #renew(): void {
    if (this.#reading !== undefined) return;
    if (this.#clock.monoMs() - this.#readAtMs < this.#everyMs) return;
    this.#readAtMs = this.#clock.monoMs();
    this.#reading = this.#read().finally(() => {
      this.#reading = undefined;
    });
  }

  async #read(): Promise<void> {
    try {
      const [beats, verdicts] = await Promise.all([
        this.#store.range(ALL_HEARTBEATS),
        this.#store.range(ALL_VERDICTS),
      ]);
      const there = new Set<string>();
      for (const entry of beats.entries) {
        const { node, load } = heartbeatOf(entry);
        there.add(node);
        if (this.#figures.get(node)?.beatAt === entry.modRevision) continue;
        const readAtMs = this.#clock.monoMs();
        // What was placed before anything was known of it, it did not know of either.
        const placed = this.#placedUnknown.get(node) ?? 0;
        this.#figures.set(node, { beatAt: entry.modRevision, load, readAtMs, placed });
      }
      this.#placedUnknown.clear();
      for (const node of this.#figures.keys()) if (!there.has(node)) this.#figures.delete(node);
      this.#weights = new Map(
        verdicts.entries.map(verdictOf).map(({ node, stage }) => [node, weightOf(stage)]),
      );
    } catch (error) {
      // Old figures are better than none, and the next question reads again.
      if (!isMillraceError(error)) throw error;
    }
  }
}
