/**
 * Many tasks in one call, out of an iterable.
 *
 * A source may be slow (an async iterable): a frame leaves when it is full, or when the source has nothing at hand. It
 * may also be endless, and is read as fast as the store writes (bulk-submission.ts). Long plain lists give way to the
 * event loop.
 */
import { type BulkPlan, type BulkPorts, BulkSubmission, type Placed } from './bulk-submission.js';
import type { Clock } from './core/clock.js';
import { type SegmentRef, type TaskId, taskId } from './core/ids.js';
import { type Settlement, statusOf, TaskState } from './core/states.js';
import { errorOfEnd, valueOfEnd } from './engine/ends.js';
import type { Engine } from './engine/engine.js';
import type { Accepted } from './engine/submission.js';

/** After so many frames out of a plain list the event loop has a turn. */
const FRAMES_PER_TURN = 8;
/** Ends that are waited for ahead of whoever reads them. */
const RESULTS_AHEAD = 512;

/** One task of a call, and how it ended. */
export type Ended<Output> = { readonly id: TaskId } & Settlement<Output>;

/** Tasks that were submitted together. They hold nothing per task. */
export class SubmittedMany<Output> {
  /** Tasks that this call created. */
  readonly accepted: number;
  /** Items that stand for earlier tasks with the same idempotency key. */
  readonly deduplicated: number;
  readonly #engine: Engine;
  readonly #places: readonly Placed[];

  constructor(
    engine: Engine,
    places: readonly Placed[],
    counts: { readonly accepted: number; readonly deduplicated: number },
  ) {
    this.#engine = engine;
    this.#places = places;
    this.accepted = counts.accepted;
    this.deduplicated = counts.deduplicated;
  }

  /** The tasks' ids, in the order of the items. */
  *ids(): IterableIterator<TaskId> {
    for (const { segment, index } of this.#each()) yield taskId(segment, index);
  }

  /**
   * How each task ended, in the order of `ids()`. Ask at once: what ended before is looked up in the store, as long as
   * its retention lasts.
   *
   * @throws ERR_MILLRACE_TASK_GONE when the store does not know a task (any more)
   * @throws ERR_MILLRACE_CLOSED when the runtime closes first
   */
  async *results(): AsyncIterableIterator<Ended<Output>> {
    const ahead: Promise<Ended<Output>>[] = [];
    const places = this.#each();
    for (;;) {
      while (ahead.length < RESULTS_AHEAD) {
        const next = places.next();
        if (next.done) break;
        const end = this.#ended(next.value.segment, next.value.index);
        // It is awaited in its turn.
        end.catch(() => {});
        ahead.push(end);
      }
      const first = ahead.shift();
      if (first === undefined) return;
      yield await first;
    }
  }

  *#each(): Generator<{ readonly segment: SegmentRef; readonly index: number }, void> {
    for (const { segment, from, count } of this.#places) {
      if (segment === undefined) continue;
      for (let index = from; index < from + count; index++) yield { segment, index };
    }
  }

  async #ended(segment: SegmentRef, index: number): Promise<Ended<Output>> {
    const end = await this.#engine.ended({ segment, index, task: 0 as Accepted['task'] });
    const id = taskId(segment, index);
    if (end.state === TaskState.COMPLETED) {
      return { id, status: 'completed', value: valueOfEnd(end) as Output };
    }
    const status = statusOf(end.state) as 'failed' | 'cancelled' | 'expired';
    return { id, status, error: errorOfEnd(end) };
  }
}

/**
 * Submits all items; resolves when they are durable.
 *
 * @throws what `submitMany` says; everything accepted until then stays
 */
export async function submitMany<Input, Output>(
  ports: BulkPorts,
  plan: BulkPlan<Input>,
  items: Iterable<Input> | AsyncIterable<Input>,
): Promise<SubmittedMany<Output>> {
  const places: Placed[] = [];
  const bulk = new BulkSubmission<Input>(ports, plan, places);
  try {
    if (Symbol.asyncIterator in items) {
      await readSlow(bulk, items[Symbol.asyncIterator](), ports.clock);
    } else await readFast(bulk, items, ports.clock);
    await bulk.settle();
  } catch (cause) {
    throw await bulk.told(cause);
  }
  return new SubmittedMany(ports.engine, places, bulk);
}

async function readFast<Input>(
  bulk: BulkSubmission<Input>,
  items: Iterable<Input>,
  clock: Clock,
): Promise<void> {
  let frames = 0;
  for (const item of items) {
    const taken = bulk.add(item);
    // Nothing is awaited for most items: that would cost more than the rest.
    if (taken === false || (taken !== true && !(await taken))) continue;
    await bulk.flush();
    if (++frames % FRAMES_PER_TURN === 0) await turn(clock);
  }
}

async function readSlow<Input>(
  bulk: BulkSubmission<Input>,
  items: AsyncIterator<Input>,
  clock: Clock,
): Promise<void> {
  try {
    for (;;) {
      const next = items.next();
      let isHere = false;
      const here = next.then(() => {
        isHere = true;
      });
      // What has gathered does not wait for a source that has nothing at hand.
      await Promise.race([here, turn(clock)]);
      if (!isHere) await bulk.flush();
      const result = await next;
      if (result.done) return;
      if (await bulk.add(result.value)) await bulk.flush();
    }
  } catch (error) {
    await items.return?.();
    throw error;
  }
}

function turn(clock: Clock): Promise<void> {
  return new Promise((resolve) => clock.wakeSoon(resolve));
}
