/**
 * A batch on its way: what the sending side has to know once the frame's buffer belongs to another thread.
 *
 * When a thread dies, the batch's log tells what its tasks come to: ended (reported now), may have run (lost), or
 * never begun (reported as not started, so they spend neither an attempt nor a loss).
 */
import { publish, type TaskLine } from '../core/channels.js';
import { MillraceError } from '../core/errors.js';
import {
  FRAME_HEADER_BYTES,
  FRAME_RECORDS_MAX,
  FrameKind,
  FrameWriter,
  recordBytes,
} from '../core/frame.js';
import type { BatchListener } from '../core/pool.js';
import { writeResult } from '../core/records.js';
import { Outcome } from '../core/states.js';
import type { Place } from './places.js';
import type { ResultLog } from './result-log.js';
import type { Notes } from './task-notes.js';

export class SentBatch {
  readonly count: number;
  readonly #listener: BatchListener;
  readonly #place: Place;
  readonly #slots: Uint32Array;
  readonly #attempts: Uint16Array;
  #hasEnded = false;

  /** Reads what it needs of the frame; the buffer may be given away afterwards. */
  constructor(frame: Uint8Array, listener: BatchListener, takePlace: (tasks: number) => Place) {
    const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
    const { count, recordsOffset } = outline(view);
    this.count = count;
    this.#listener = listener;
    this.#place = takePlace(count);
    this.#slots = new Uint32Array(count);
    this.#attempts = new Uint16Array(count);
    const size = recordBytes(FrameKind.BATCH);
    for (let index = 0; index < count; index++) {
      const at = recordsOffset + index * size;
      this.#slots[index] = view.getUint32(at, true);
      this.#attempts[index] = view.getUint16(at + 16, true);
    }
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** Tasks not reported yet. */
  get tasksLeft(): number {
    return this.#place.tasksLeft;
  }

  results(frame: Uint8Array): void {
    if (this.#hasEnded) return;
    this.#place.report(
      outline(new DataView(frame.buffer, frame.byteOffset, frame.byteLength)).count,
    );
    this.#listener.onResults(frame);
  }

  /** What its tasks said: lines to the channel, progress to the listener. */
  notes({ lines, progress }: Notes): void {
    if (this.#hasEnded) return;
    for (const line of lines) tellLine(line);
    for (const one of progress) this.#listener.onProgress?.(one);
  }

  /** One of its tasks waits for the end of another task, until the returned function is called. */
  waitForOthers(): () => void {
    return this.#place.waitForOthers();
  }

  park(): void {
    this.#place.park();
  }

  /** Every task was reported, or the frame did not decode. */
  end(error?: MillraceError): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#place.leave();
    this.#listener.onEnd(error);
  }

  /** Tasks that had begun and not ended, by this account. */
  begunIn(log: ResultLog): number {
    if (this.#hasEnded) return 0;
    let begun = 0;
    for (let index = 0; index < this.count; index++) if (log.startedAtMs(index) > 0) begun++;
    return begun;
  }

  /** The thread died and left this account. */
  lose(loss: MillraceError, log: ResultLog): void {
    if (this.#hasEnded) return;
    if (log.count > 0) this.results(log.take());
    const writer = new FrameWriter(FrameKind.RESULTS, { bytes: 0 });
    for (let index = 0; index < this.count; index++) {
      if (log.hasBegun(index)) continue;
      writeResult(writer, {
        slot: this.#slots[index]!,
        outcome: Outcome.NOT_STARTED,
        attempt: this.#attempts[index]!,
        runMs: 0,
        json: undefined,
      });
    }
    if (writer.count > 0) this.results(writer.finish());
    this.end(this.#place.tasksLeft > 0 ? loss : undefined);
  }
}

/** A line of a handler, for whoever reads them. */
export function tellLine(json: string): void {
  publish('millrace:task:log', () => JSON.parse(json) as TaskLine);
}

/** The error for tasks whose thread ended under them. */
export function taskLost(
  reason: LossReason,
  options: { readonly exitCode?: number; readonly begun?: number; readonly cause?: unknown } = {},
): MillraceError {
  const { exitCode, begun, cause } = options;
  return new MillraceError(
    'ERR_MILLRACE_TASK_LOST',
    `the thread that ran the task ended: ${reason}`,
    {
      details: {
        reason,
        ...(exitCode !== undefined && { exitCode }),
        ...(begun !== undefined && { begun }),
      },
      ...(cause !== undefined && { cause }),
    },
  );
}

/**
 * Why a thread ended: `exit` process.exit() in a handler; `uncaught` an exception or rejection that no handler's
 * promise caught; `out-of-memory` its resource limits; `timeout` a task overran; `shutdown` the pool's own; `killed`
 * anything else.
 */
export type LossReason = 'exit' | 'uncaught' | 'out-of-memory' | 'timeout' | 'shutdown' | 'killed';

/** How many records a frame says it has, and where; nothing when they would not fit. */
function outline(view: DataView): { readonly count: number; readonly recordsOffset: number } {
  if (view.byteLength < FRAME_HEADER_BYTES) return { count: 0, recordsOffset: 0 };
  const count = view.getUint32(8, true);
  const recordsOffset = view.getUint32(16, true);
  const kind = view.getUint8(5) === FrameKind.RESULTS ? FrameKind.RESULTS : FrameKind.BATCH;
  return count <= FRAME_RECORDS_MAX && recordsOffset + count * recordBytes(kind) <= view.byteLength
    ? { count, recordsOffset }
    : { count: 0, recordsOffset: 0 };
}
