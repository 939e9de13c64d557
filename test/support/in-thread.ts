/**
 * A function of a module, called in a thread of its own.
 *
 * The runner of tests follows every promise of its thread by async hooks. What makes millions of them on virtual time spends nearly
 * half of its time on that; in another thread nobody follows them.
 */
import { Worker } from 'node:worker_threads';

/** What `in-thread-entry.ts` is given. */
export interface ThreadCall {
  readonly module: string;
  readonly name: string;
  readonly args: readonly unknown[];
}

/**
 * @param module - the URL of where the function is, compiled; loading it does nothing else
 * @param fn - exported under its own name; arguments and result are cloned
 */
export function inThread<Args extends readonly unknown[], Result>(
  module: string,
  fn: (...args: Args) => Promise<Result>,
  ...args: Args
): Promise<Result> {
  const workerData: ThreadCall = { module, name: fn.name, args };
  const thread = new Worker(new URL('./in-thread-entry.js', import.meta.url), { workerData });
  return new Promise((resolve, reject) => {
    thread.once('message', resolve);
    thread.once('error', reject);
    thread.once('exit', () => reject(new Error(`${fn.name} ended without a result`)));
  });
}
