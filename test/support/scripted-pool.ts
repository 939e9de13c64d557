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
  /** Reports slots as they ended; `json` is the value, error, delay or reason. */
  report(slots: readonly number[], outcome: Outcome, json?: string): void;
  /** Ends the batch: all reported, or lost. Frees its place. */
  end(loss?: MillraceError): void;
}

export class ScriptedPool extends BaseService implements Pool {
  onFree: (() => void) | undefined;
  readonly threadCount = 1;
  readonly batches: ScriptedBatch[] = [];
  freePlaces: number;
  /** What every result says. */
  runMs = 1;

  constructor(places: number) {
    super();
    this.freePlaces = places;
  }

  run(batch: Uint8Array<ArrayBuffer>, listener: BatchListener): RunningBatch {
    this.freePlaces--;
    const reader = openFrame(batch, FrameKind.BATCH);
    const tasks = Array.from({ length: reader.count }, (_, i) => readBatchEntry(reader, i));
    const cancelled: { slot: number; reason: string }[] = [];
    this.batches.push({
      tasks,
      cancelled,
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
        this.freePlaces++;
        listener.onEnd(loss);
        if (this.freePlaces === 1) this.onFree?.();
      },
    });
    return { cancel: (slot, reason) => cancelled.push({ slot, reason }) };
  }

  async drain(): Promise<void> {}

  protected async onStart(): Promise<void> {}

  protected async onStop(): Promise<void> {}
}

export { Outcome };
