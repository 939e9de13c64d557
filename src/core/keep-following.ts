/**
 * Following a range through outages of its store: when the store does not answer, the following begins anew after a
 * pause, with a `list`. So a reader forgets at each `list` what it was told before, or compares.
 */
import { Backoff, isTransient } from './backoff.js';
import type { Clock } from './clock.js';
import { hasCode } from './errors.js';
import { type FollowBatch, type FollowOptions, follow } from './follow.js';
import type { Random } from './random.js';
import type { KeyRange, Store } from './store.js';

/**
 * Tells the range and all its changes until `signal` is aborted, then ends quietly.
 *
 * @throws what {@link follow} throws, but ERR_MILLRACE_STORE_UNAVAILABLE: above all ERR_MILLRACE_CLOSED with the store
 */
export async function* keepFollowing(
  {
    clock,
    random,
    store,
  }: { readonly clock: Clock; readonly random: Random; readonly store: Store },
  range: KeyRange,
  options: FollowOptions & { readonly signal: AbortSignal },
): AsyncGenerator<FollowBatch, undefined> {
  const { signal } = options;
  let backoff = new Backoff(clock, random);
  while (!signal.aborted) {
    try {
      for await (const batch of follow(store, range, options)) {
        backoff = new Backoff(clock, random);
        yield batch;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (!isTransient(error)) throw error;
      await backoff.pause(signal).catch(() => {});
    }
  }
}

/** Takes the end of the store for the end of the following. */
export function unlessClosed(error: unknown): void {
  if (!hasCode(error, 'ERR_MILLRACE_CLOSED')) throw error;
}
