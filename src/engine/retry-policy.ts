/**
 * When a failed execution runs again: exponential, linear or fixed growth, bounded, with full jitter by default
 * (drawing between 0 and the bound spreads a herd best: Brooker, "Exponential Backoff And Jitter", 2015).
 */
import type { Random } from '../core/random.js';
import type { TaskSpec } from '../core/task.js';

/**
 * The delay before the next attempt.
 *
 * @param retry - the task's policy
 * @param attempt - the attempt that failed; 1 for the first
 * @returns milliseconds, or undefined when no attempt is left
 */
export function retryDelayMs(
  retry: TaskSpec['retry'],
  attempt: number,
  random: Random,
): number | undefined {
  if (attempt >= retry.attempts) return undefined;
  const growth =
    retry.backoff === 'exponential' ? 2 ** (attempt - 1) : retry.backoff === 'linear' ? attempt : 1;
  const boundMs = Math.min(retry.maxMs, retry.minMs * growth);
  return retry.jitter === 'full' ? random.float() * boundMs : boundMs;
}
