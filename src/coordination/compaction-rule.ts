/**
 * When to compact, and how far. A server keeps every version of every key until it is told to forget; one revision
 * can be a byte or a megabyte, so both are counted.
 *
 *          head at the last compaction                    target                    head
 *   ---------------------|----------------------------------|------------------------|
 *                         <-- 10 000 revisions, or quota/16 written: time to compact -->
 *                                                            <------- kept --------->
 *                                                            10 000 revisions or quota/16, what is less
 *
 * Nothing is forgotten that somebody still reads: the target stops at the lowest revision a live process needs.
 * A process that is further behind than 100 000 revisions or a quarter of the quota does not hold the others up: it
 * finds its revision gone, and lists again.
 */
import type { Revision } from '../core/store.js';

/** What the rule counts in revisions. */
export interface CompactionLimits {
  /** Time to compact after so many. */
  readonly due: number;
  /** How many are kept. */
  readonly kept: number;
  /** A reader that is further behind lists again. */
  readonly behindMax: number;
}

const LIMITS: CompactionLimits = { due: 10_000, kept: 10_000, behindMax: 100_000 };
/** The same as shares of the quota. */
const SHARE_MAX = 1 / 16;
const SHARE_KEPT = 1 / 16;
const SHARE_BEHIND_MAX = 1 / 4;
/** Growth between two measurements after which the next one comes sooner. */
const SHARE_FAST = 1 / 64;
/** Measurements remembered; enough for a quarter of the quota at one per 64th. */
const SAMPLES_MAX = 1_024;

interface Sample {
  readonly revision: Revision;
  /** Written since measuring began. */
  readonly writtenBytes: number;
}

export class CompactionRule {
  readonly #limits: CompactionLimits;
  #samples: Sample[] = [];
  #usedBytes: number | undefined;
  #quotaBytes = Number.POSITIVE_INFINITY;

  constructor(limits: CompactionLimits = LIMITS) {
    this.#limits = limits;
  }

  /** Whether the server grew so much between the last two measurements that the next one should come sooner. */
  get isFast(): boolean {
    const before = this.#samples.at(-2)?.writtenBytes ?? 0;
    return this.#written() - before >= this.#quotaBytes * SHARE_FAST;
  }

  /** Takes a measurement. What is written shows as growth; what compaction frees is no negative writing. */
  measure(head: Revision, usage: { readonly bytes: number; readonly bytesMax: number }): void {
    const grownBytes = Math.max(0, usage.bytes - (this.#usedBytes ?? usage.bytes));
    this.#usedBytes = usage.bytes;
    this.#quotaBytes = usage.bytesMax;
    this.#samples.push({ revision: head, writtenBytes: this.#written() + grownBytes });
    if (this.#samples.length > SAMPLES_MAX) this.#samples.shift();
  }

  /**
   * The revision to compact to now; undefined when it is not time.
   *
   * @param last - where the last compaction went, and where the head was then; 0 when there was none
   * @param needed - the lowest revision that each live process needs
   */
  target(
    last: { readonly target: number; readonly head: number },
    needed: readonly Revision[],
  ): Revision | undefined {
    const head = this.#samples.at(-1)?.revision;
    if (head === undefined) return undefined;
    const isDue =
      head - last.head >= this.#limits.due ||
      this.#writtenSince(last.head) >= this.#quotaBytes * SHARE_MAX;
    if (!isDue) return undefined;
    const behindMax = this.#back(head, this.#limits.behindMax, SHARE_BEHIND_MAX);
    let target = this.#back(head, this.#limits.kept, SHARE_KEPT);
    for (const revision of needed) {
      // What is needed stays readable: compacting to r forgets what was before r.
      if (revision >= behindMax) target = Math.min(target, revision - 1);
    }
    return target > last.target && target >= 1 ? (target as Revision) : undefined;
  }

  /** The newest revision with so much behind it, counted in revisions or as a share of the quota, what comes first. */
  #back(head: Revision, revisions: number, share: number): number {
    const writtenMax = this.#written() - this.#quotaBytes * share;
    const sample = this.#samples.findLast(({ writtenBytes }) => writtenBytes <= writtenMax);
    return Math.max(head - revisions, sample?.revision ?? 0);
  }

  #written(): number {
    return this.#samples.at(-1)?.writtenBytes ?? 0;
  }

  #writtenSince(revision: number): number {
    const before = this.#samples.findLast((sample) => sample.revision <= revision);
    return this.#written() - (before ?? this.#samples[0])!.writtenBytes;
  }
}
