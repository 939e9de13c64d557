/**
 * A WritableStream that submits what is written to it, for `readable.pipeTo(...)`.
 *
 *   pipeTo --write--> a frame of a BulkSubmission; it leaves when it is full, or at the end of a turn of the event loop
 *
 * `write` waits while there is no room, so the stream's own backpressure holds the source up; `close` waits until everything
 * is durable.
 */
import { type UnderlyingSink, WritableStream } from 'node:stream/web';
import type { BulkSubmission } from './bulk-submission.js';
import type { Clock } from './core/clock.js';

/** Items between the source and the frame: so many that a source which has much at hand fills a frame in one turn. */
const ITEMS_AHEAD = 256;

type Controller = Parameters<NonNullable<UnderlyingSink['start']>>[0];

/**
 * @param open - begins the submission, which gives up with the signal
 * @returns a stream whose errors are those of the submission
 */
export function taskSink<Input>(
  clock: Clock,
  open: (signal: AbortSignal) => BulkSubmission<Input>,
): WritableStream<Input> {
  let bulk: BulkSubmission<Input>;
  /** A frame that leaves although it is not full: nothing is added meanwhile. */
  let leaving: Promise<void> | undefined;
  let willLeave = false;
  /** What has gathered by then is not submitted: the error has said how far it came. */
  let isOver = false;
  const leaveSoon = (controller: Controller): void => {
    if (willLeave || !bulk.isGathering) return;
    willLeave = true;
    clock.wakeSoon(() => {
      willLeave = false;
      if (isOver || signalOf(controller).aborted || leaving !== undefined) return;
      leaving = bulk.flush().then(
        () => {
          leaving = undefined;
        },
        async (cause: unknown) => {
          isOver = true;
          controller.error(await bulk.told(cause));
        },
      );
    });
  };
  return new WritableStream<Input>(
    {
      start(controller) {
        // Aborted at once, also while an item waits for room: `abort` below is called after that.
        bulk = open(signalOf(controller));
      },
      async write(item, controller) {
        try {
          if (leaving !== undefined) await leaving;
          const taken = bulk.add(item);
          const isFull = typeof taken === 'boolean' ? taken : await taken;
          if (isFull) await bulk.flush();
          else leaveSoon(controller);
        } catch (cause) {
          isOver = true;
          throw await bulk.told(cause);
        }
      },
      async close() {
        try {
          await leaving;
          await bulk.settle();
        } catch (cause) {
          throw await bulk.told(cause);
        }
      },
      async abort() {
        // What was accepted by then stays, and is heard of before the stream is over.
        await leaving;
        await bulk.told(undefined);
      },
    },
    { highWaterMark: ITEMS_AHEAD },
  );
}

/** Aborted with the stream. Node has it; the types for Node 20 do not. */
function signalOf(controller: Controller): AbortSignal {
  return (controller as Controller & { readonly signal: AbortSignal }).signal;
}
