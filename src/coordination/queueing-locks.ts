/**
 * The locks millrace uses: a queue per name in this process, in front of one key per name in the store.
 */
import type { MillraceError } from '../core/errors.js';
import type { Hold } from './hold.js';
import { LockQueue } from './lock-queue.js';
import type { LockRequest, LockStrategy } from './lock-strategy.js';
import type { LineContext } from './place.js';

/** A lock that is asked for again this soon after it was given up is kept for a moment the next time. */
const HOT_MS = 5;
/** Locks whose last use is remembered. */
const REMEMBERED_MAX = 256;

export class QueueingLocks implements LockStrategy {
  readonly #context: LineContext;
  readonly #value: Uint8Array;
  readonly #queues = new Map<string, LockQueue>();
  /** When those that nobody here wants any more were given up, oldest first; on the monotonic clock. */
  readonly #givenUpAtMs = new Map<string, number>();

  /** @param value - what other processes see of the one that holds or waits */
  constructor(context: LineContext, value: Uint8Array) {
    this.#context = context;
    this.#value = value;
  }

  acquire(request: LockRequest): Promise<Hold | undefined> {
    const { line } = request;
    let queue = this.#queues.get(line);
    if (queue === undefined) {
      queue = new LockQueue(this.#context, line, {
        value: this.#value,
        isHot: this.#isHot(line),
        onIdle: (hasHeld) => this.#onIdle(line, hasHeld),
      });
      this.#queues.set(line, queue);
    }
    return queue.acquire(request);
  }

  #isHot(line: string): boolean {
    const givenUpAtMs = this.#givenUpAtMs.get(line) ?? Number.NEGATIVE_INFINITY;
    return this.#context.clock.monoMs() - givenUpAtMs <= HOT_MS;
  }

  #onIdle(line: string, hasHeld: boolean): void {
    this.#queues.delete(line);
    this.#givenUpAtMs.delete(line);
    if (!hasHeld) return;
    this.#givenUpAtMs.set(line, this.#context.clock.monoMs());
    if (this.#givenUpAtMs.size <= REMEMBERED_MAX) return;
    for (const oldest of this.#givenUpAtMs.keys()) {
      this.#givenUpAtMs.delete(oldest);
      return;
    }
  }

  lose(cause: MillraceError): void {
    for (const queue of this.#queues.values()) queue.lose(cause);
  }

  async close(cause: MillraceError): Promise<void> {
    await Promise.all([...this.#queues.values()].map((queue) => queue.close(cause)));
  }
}
