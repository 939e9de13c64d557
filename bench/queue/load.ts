/** How tasks are handed in: in bulk, and one by one. Used by the producer's process, or the worker's. */
import { itemOf, type Producer, sharedNowMs } from './queue.js';

export interface Handed {
  /** Of the first call. On the shared clock, ms. */
  readonly firstAtMs: number;
  /** When the last call was answered. */
  readonly lastAtMs: number;
}

/** Hands in the items 0 to `count` in bulk calls, as many at once as suits the contender. */
export async function inBulk(producer: Producer, count: number, dueAtMs?: number): Promise<Handed> {
  const { items, lanes } = producer.bulk;
  let next = 0;
  const lane = async (): Promise<void> => {
    while (next < count) {
      const from = next;
      next = Math.min(count, from + items);
      const call = Array.from({ length: next - from }, (_, index) => itemOf(from + index));
      await producer.submitAll(call, dueAtMs);
    }
  };
  const firstAtMs = sharedNowMs();
  await Promise.all(Array.from({ length: lanes }, lane));
  return { firstAtMs, lastAtMs: sharedNowMs() };
}

export interface Singles {
  readonly perSecond: number;
  /** The items handed in are those from `from` on, so many. */
  readonly count: number;
}

/** Callers that hand in one item after another for a time. */
export async function oneByOne(
  producer: Producer,
  { callers, from, ms }: { readonly callers: number; readonly from: number; readonly ms: number },
): Promise<Singles> {
  let next = from;
  const startAtMs = sharedNowMs();
  const caller = async (): Promise<void> => {
    while (sharedNowMs() - startAtMs < ms) await producer.submit(itemOf(next++));
  };
  await Promise.all(Array.from({ length: callers }, caller));
  const count = next - from;
  return { perSecond: (count / (sharedNowMs() - startAtMs)) * 1000, count };
}
