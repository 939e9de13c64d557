/** Builds batch frames and reads what comes back, for the tests of the pools. */
import { fromWire } from '../../src/core/error-wire.js';
import type { MillraceError } from '../../src/core/errors.js';
import { FrameKind, FrameWriter, openFrame } from '../../src/core/frame.js';
import type { BatchListener, Pool, RunningBatch } from '../../src/core/pool.js';
import { readResult, writeBatchEntry } from '../../src/core/records.js';
import { Outcome } from '../../src/core/states.js';

export interface Entry {
  readonly type: string;
  readonly input?: unknown;
  /** Sent as it is, in place of `input`. */
  readonly payload?: Uint8Array;
}

export const SEGMENT = 'default.00.0mg2x9k1f.7c4k2m9p00000001';

/** A batch whose slots are the positions of the entries. */
export function batchOf(entries: readonly Entry[]): Uint8Array<ArrayBuffer> {
  const writer = new FrameWriter(FrameKind.BATCH);
  for (const [slot, { type, input, payload }] of entries.entries()) {
    const json = input === undefined ? '' : JSON.stringify(input);
    writeBatchEntry(writer, {
      slot,
      type,
      tenant: 'acme',
      token: 1_000 + slot,
      attempt: 2,
      version: 1,
      segment: SEGMENT,
      index: slot,
      payload: payload ?? Buffer.from(json),
      metadata: new Uint8Array(0),
    });
  }
  return writer.finish();
}

export interface Ended {
  readonly outcome: keyof typeof Outcome;
  readonly runMs: number;
  /** The value, the delay or the reason; for failures the error. */
  readonly value: unknown;
}

export interface Watched {
  readonly running: RunningBatch;
  /** By slot. */
  readonly ended: Map<number, Ended>;
  /** Slots by frame. */
  readonly frames: number[][];
  readonly loss: MillraceError | undefined;
  readonly ends: number;
  /** Resolves with the loss. */
  readonly end: Promise<MillraceError | undefined>;
  /** Resolves when a slot has been reported. */
  reported(slot: number): Promise<Ended>;
  /** The error of a slot that failed. */
  error(slot: number): MillraceError;
  /** `outcome` by slot, 'LOST' for those never reported. */
  outcomes(): string[];
}

/** Runs a batch and notes everything that is said about it. */
export function runBatch(pool: Pool, entries: readonly Entry[]): Watched {
  return runFrame(pool, batchOf(entries), entries.length);
}

export function runFrame(pool: Pool, frame: Uint8Array<ArrayBuffer>, count: number): Watched {
  const ended = new Map<number, Ended>();
  const frames: number[][] = [];
  const waiting = new Map<number, (result: Ended) => void>();
  let ends = 0;
  let loss: MillraceError | undefined;
  let resolveEnd: (loss: MillraceError | undefined) => void = () => {};
  const end = new Promise<MillraceError | undefined>((resolve) => {
    resolveEnd = resolve;
  });
  const listener: BatchListener = {
    onResults(results) {
      if (ends > 0) throw new Error('results after the end');
      const reader = openFrame(results, FrameKind.RESULTS);
      const slots: number[] = [];
      for (let i = 0; i < reader.count; i++) {
        const { slot, ...rest } = readResult(reader, i);
        if (ended.has(slot)) throw new Error(`slot ${slot} reported twice`);
        if (rest.attempt !== 2) throw new Error(`slot ${slot} has attempt ${rest.attempt}`);
        const result = { ...readable(rest.outcome, rest.bytes), runMs: rest.runMs };
        ended.set(slot, result);
        slots.push(slot);
        waiting.get(slot)?.(result);
      }
      frames.push(slots);
    },
    onEnd(error) {
      ends++;
      loss = error;
      resolveEnd(error);
    },
  };
  const running = pool.run(frame, listener);
  return {
    running,
    ended,
    frames,
    end,
    get loss() {
      return loss;
    },
    get ends() {
      return ends;
    },
    reported: (slot) =>
      new Promise((resolve) => {
        const result = ended.get(slot);
        if (result) resolve(result);
        else waiting.set(slot, resolve);
      }),
    error(slot) {
      const value = ended.get(slot)?.value;
      if (value instanceof Error) return value as MillraceError;
      throw new Error(`slot ${slot} has no error`);
    },
    outcomes: () => Array.from({ length: count }, (_, slot) => ended.get(slot)?.outcome ?? 'LOST'),
  };
}

function readable(
  outcome: Outcome,
  bytes: Uint8Array,
): { outcome: keyof typeof Outcome; value: unknown } {
  const names = Object.keys(Outcome) as (keyof typeof Outcome)[];
  const data: unknown = bytes.length === 0 ? undefined : JSON.parse(Buffer.from(bytes).toString());
  const isError = outcome === Outcome.FAILED || outcome === Outcome.FAILED_FOR_GOOD;
  return {
    outcome: names.find((name) => Outcome[name] === outcome)!,
    value: isError ? fromWire(data) : data,
  };
}
