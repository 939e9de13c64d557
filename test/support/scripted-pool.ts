/**
 * A Pool that runs nothing: the test sees each batch and decides what it reports.
 */
import type { MillraceError } from '../../src/core/errors.js';
import { FrameKind, FrameWriter, openFrame } from '../../src/core/frame.js';
import type { BatchListener, Pool, RunningBatch } from '../../src/core/pool.js';
import { type BatchRecord, readBatchEntry, writeResult } from '../../src/core/records.js';
import { BaseService } from '../../src/core/service.js';
import { Outcome } from '../../src/core/states.js';

/** A batch the engine handed over. */
export interface ScriptedBatch {
  readonly tasks: readonly BatchRecord[];
  readonly cancelled: { readonly slot: number; readonly reason: string }[];
  readonly isAlone: boolean;
  /** By slot, when its handler was called: 0 not yet, below 0 it has ended. */
  readonly startedAtMs: number[];
  /** Whether somebody asked to end the thread. */
  isKilled: boolean;
  /** Reports slots as they ended; `json` is the value, error, delay or reason. */
  report(slots: readonly number[], outcome: Outcome, json?: string): void;
  /** Ends the batch: all reported, or lost. Frees its place. */
  end(loss?: MillraceError): void;
}

export class ScriptedPool extends BaseService implements Pool {
  onFree: (() => void) | undefined;
  onReserve: (() => void) | undefined;
  /** What runs is to end, or has been asked to. */
  onDrain: (() => void) | undefined;
  readonly threadCount = 1;
  readonly batches: ScriptedBatch[] = [];
  freePlaces: number;
  isReserveFree = true;
  keepsReserve = false;
  /** What every result says. */
  runMs = 1;

  constructor(places: number) {
    super();
    this.freePlaces = places;
  }

  keepReserve(): void {
    this.keepsReserve = true;
  }

  run(batch: Uint8Array<ArrayBuffer>, listener: BatchListener): RunningBatch {
    this.freePlaces--;
    return this.#run(batch, listener, false, () => {
      this.freePlaces++;
      return () => this.freePlaces === 1 && this.onFree?.();
    });
  }

  runAlone(batch: Uint8Array<ArrayBuffer>, listener: BatchListener): RunningBatch {
    this.isReserveFree = false;
    return this.#run(batch, listener, true, () => {
      this.isReserveFree = true;
      return () => this.onReserve?.();
    });
  }

  /** @param leave - gives the place back, and returns what tells of it */
  #run(
    batch: Uint8Array<ArrayBuffer>,
    listener: BatchListener,
    isAlone: boolean,
    leave: () => () => unknown,
  ): RunningBatch {
    const reader = openFrame(batch, FrameKind.BATCH);
    const tasks = Array.from({ length: reader.count }, (_, i) => readBatchEntry(reader, i));
    const cancelled: { slot: number; reason: string }[] = [];
    const startedAtMs = tasks.map(() => 0);
    const scripted: ScriptedBatch = {
      tasks,
      cancelled,
      startedAtMs,
      isAlone,
      isKilled: false,
      report: (slots, outcome, json) => {
        const writer = new FrameWriter(FrameKind.RESULTS);
        for (const slot of slots) {
          writeResult(writer, {
            slot,
            outcome,
            attempt: tasks[slot]?.attempt ?? 1,
            runMs: this.runMs,
            json,
          });
        }
        listener.onResults(writer.finish());
      },
      end: (loss) => {
        const tell = leave();
        listener.onEnd(loss);
        tell();
      },
    };
    this.batches.push(scripted);
    return {
      cancel: (slot, reason) => cancelled.push({ slot, reason }),
      startedAtMs: (index) => startedAtMs[index]!,
      kill: () => {
        scripted.isKilled = true;
      },
    };
  }

  async drain(): Promise<void> {
    this.onDrain?.();
  }

  protected async onStart(): Promise<void> {}

  protected async onStop(): Promise<void> {}
}

export { Outcome };
