/**
 * The locks millrace uses: a queue per name in this process, in front of one key per name in the store.
 */
import type { MillraceError } from '../core/errors.js';
import type { Hold } from './hold.js';
import { LockQueue } from './lock-queue.js';
import type { LockRequest, LockStrategy } from './lock-strategy.js';
import type { LineContext } from './place.js';

export class QueueingLocks implements LockStrategy {
  readonly #context: LineContext;
  readonly #value: Uint8Array;
  readonly #queues = new Map<string, LockQueue>();

  /** @param value - what other processes see of the one that holds or waits */
  constructor(context: LineContext, value: Uint8Array) {
    this.#context = context;
    this.#value = value;
  }

  acquire(request: LockRequest): Promise<Hold | undefined> {
    const { line } = request;
    let queue = this.#queues.get(line);
    if (queue === undefined) {
      queue = new LockQueue(this.#context, line, this.#value, () => this.#queues.delete(line));
      this.#queues.set(line, queue);
    }
    return queue.acquire(request);
  }

  lose(cause: MillraceError): void {
    for (const queue of this.#queues.values()) queue.lose(cause);
  }

  async close(cause: MillraceError): Promise<void> {
    await Promise.all([...this.#queues.values()].map((queue) => queue.close(cause)));
  }
}
