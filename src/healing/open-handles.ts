/**
 * What is open, as far as channels tell: handles that callers own, with the stacks of some of their creations, and what the
 * worker threads report of theirs, with the task types that left something open.
 */
import type { LeakSite } from '../core/channels.js';
import type { HandleReport, LeftHandles } from '../core/handler-hooks.js';
import type { Subscriptions } from '../core/subscriptions.js';

/** One creation in so many has its stack taken; looking closely, one in STACK_EVERY_CLOSE. */
const STACK_EVERY = 1_024;
const STACK_EVERY_CLOSE = 16;
const STACKS_MAX = 4_096;
const STACK_FRAMES = 8;

/** A stack, unformatted: that costs three times as much as taking it, and few are ever read. */
interface Taken {
  stack?: string;
}

export class OpenHandles {
  /** By kind. */
  readonly #owned = new Map<string, number>();
  readonly #stacks = new Map<number, { readonly kind: string; readonly taken: Taken }>();
  readonly #threads = new Map<number, HandleReport['open']>();
  /** By kind and type, since the runtime started. */
  readonly #left = new Map<string, LeftHandles>();
  #created = 0;
  isLookingClosely = false;

  /** @param onLeft - hears of every report of handles that were left open */
  follow(events: Subscriptions, onLeft: (left: LeftHandles, sum: number) => void): void {
    events.on('millrace:handle:opened', ({ kind, id }) => this.#open(kind, id));
    events.on('millrace:handle:closed', ({ kind, id }) => {
      this.#owned.set(kind, Math.max(0, (this.#owned.get(kind) ?? 0) - 1));
      this.#stacks.delete(id);
    });
    events.on('millrace:thread:handles', ({ threadId, open, left, hasEnded }) => {
      if (hasEnded) this.#threads.delete(threadId);
      else this.#threads.set(threadId, open);
      for (const one of left) onLeft(one, this.#addLeft(one));
    });
  }

  /** Everything, by kind: owned ones by their own, those of threads with the prefix `worker:`. */
  counts(): ReadonlyMap<string, number> {
    const counts = new Map(this.#owned);
    for (const open of this.#threads.values()) {
      for (const [kind, count] of Object.entries(open)) {
        const name = `worker:${kind}`;
        counts.set(name, (counts.get(name) ?? 0) + count);
      }
    }
    return counts;
  }

  /** The thread that has most of a kind open. */
  threadWithMost(kind: string): number | undefined {
    let most: number | undefined;
    let mostCount = 0;
    for (const [threadId, open] of this.#threads) {
      const count = open[kind] ?? 0;
      if (count <= mostCount) continue;
      most = threadId;
      mostCount = count;
    }
    return most;
  }

  /** What types have left open since a mark, most first. */
  leftSince(mark: ReadonlyMap<string, LeftHandles>): LeftHandles[] {
    return [...this.#left]
      .map(([key, one]) => ({ ...one, count: one.count - (mark.get(key)?.count ?? 0) }))
      .filter(({ count }) => count > 0)
      .sort((a, b) => b.count - a.count);
  }

  /** For {@link leftSince}. */
  markLeft(): ReadonlyMap<string, LeftHandles> {
    return new Map(this.#left);
  }

  /** Where open handles of a kind come from, most first. */
  sites(kind: string, sitesMax: number): LeakSite[] {
    const counts = new Map<string, number>();
    for (const one of this.#stacks.values()) {
      if (one.kind !== kind) continue;
      const stack = one.taken.stack ?? '';
      counts.set(stack, (counts.get(stack) ?? 0) + 1);
    }
    return [...counts]
      .map(([stack, count]) => ({ stack, count }))
      .sort((a, b) => b.count - a.count)
      .slice(0, sitesMax);
  }

  #open(kind: string, id: number): void {
    this.#owned.set(kind, (this.#owned.get(kind) ?? 0) + 1);
    const every = this.isLookingClosely ? STACK_EVERY_CLOSE : STACK_EVERY;
    if (this.#created++ % every !== 0 || this.#stacks.size >= STACKS_MAX) return;
    const taken: Taken = {};
    const before = Error.stackTraceLimit;
    Error.stackTraceLimit = STACK_FRAMES * 2;
    // This runs inside whoever opens the handle.
    Error.captureStackTrace(taken, this.#open);
    Error.stackTraceLimit = before;
    this.#stacks.set(id, { kind, taken });
  }

  #addLeft(one: LeftHandles): number {
    const key = `${one.kind}\n${one.type}`;
    const before = this.#left.get(key);
    const count = (before?.count ?? 0) + one.count;
    this.#left.set(key, { ...one, count, site: one.site || (before?.site ?? '') });
    return count;
  }
}
