/**
 * The four kinds of frames in one shape, so that a test about one is a test about all: how to write and read a
 * record, arbitrary records, and one sample whose bytes are frozen in records.test.ts.
 */
import fc from 'fast-check';
import { FrameKind, type FrameReader, FrameWriter, openFrame } from '../../src/core/frame.js';
import { DUE_AT_MS_MAX } from '../../src/core/ids.js';
import {
  type BatchRecord,
  type ResultRecord,
  readBatchEntry,
  readResult,
  readState,
  readTask,
  type StateRecord,
  type TaskRecord,
  writeBatchEntry,
  writeResult,
  writeState,
  writeTask,
} from '../../src/core/records.js';
import { Outcome, TaskState } from '../../src/core/states.js';

export interface KindOfFrame<Item> {
  readonly name: string;
  readonly kind: FrameKind;
  readonly arbitrary: fc.Arbitrary<Item>;
  readonly sample: Item;
  write(writer: FrameWriter, record: Item): void;
  read(frame: FrameReader, index: number): Item;
}

const text = fc.string({ unit: 'grapheme', maxLength: 40 });
const bytes = fc.uint8Array({ maxLength: 80 });
const u16 = fc.nat(0xffff);
const u32 = fc.nat(0xffff_ffff);
const time = fc.oneof(
  fc.nat(DUE_AT_MS_MAX),
  fc.double({ min: 0, max: Number.MAX_SAFE_INTEGER, noNaN: true }),
);

const utf8 = (json: string): Uint8Array => new TextEncoder().encode(json);

const tasks: KindOfFrame<TaskRecord> = {
  name: 'tasks',
  kind: FrameKind.TASKS,
  arbitrary: fc.record({
    dueAtMs: time,
    submittedAtMs: time,
    expiresAtMs: time,
    type: text,
    tenant: text,
    priority: fc.integer({ min: -32_768, max: 32_767 }),
    attempt: u16,
    losses: u16,
    version: u32,
    payload: bytes,
    metadata: bytes,
  }),
  sample: {
    dueAtMs: 1_767_225_600_000,
    submittedAtMs: 1_767_225_595_000,
    expiresAtMs: 1_767_225_660_000,
    type: 'mail.send',
    tenant: 'acme',
    priority: -2,
    attempt: 1,
    losses: 2,
    version: 3,
    payload: utf8('{"to":"é"}'),
    metadata: utf8('{"key":"k1"}'),
  },
  write(writer, record) {
    writeTask(writer, { ...record, payloadBytes: record.payload.length });
  },
  read: readTask,
};

const batch: KindOfFrame<BatchRecord> = {
  name: 'batch',
  kind: FrameKind.BATCH,
  arbitrary: fc.record({
    slot: u32,
    type: text,
    tenant: text,
    token: time,
    attempt: u16,
    version: u32,
    segment: text,
    index: u16,
    payload: bytes,
    metadata: bytes,
  }),
  sample: {
    slot: 7,
    type: 'mail.send',
    tenant: '',
    token: 4_711,
    attempt: 2,
    version: 0,
    segment: 'default.00.0mjuohs00.0123abcd00000001',
    index: 5,
    payload: utf8('[1,2]'),
    metadata: new Uint8Array(0),
  },
  write: writeBatchEntry,
  read: readBatchEntry,
};

const results: KindOfFrame<ResultRecord> = {
  name: 'results',
  kind: FrameKind.RESULTS,
  arbitrary: fc.record({
    slot: u32,
    outcome: fc.constantFrom(...Object.values(Outcome)),
    attempt: u16,
    runMs: time,
    // Results are text, so their bytes are valid UTF-8.
    bytes: fc.string({ unit: 'grapheme', maxLength: 40 }).map(utf8),
  }),
  sample: { slot: 7, outcome: Outcome.COMPLETED, attempt: 2, runMs: 12.5, bytes: utf8('"ok"') },
  write(writer, { bytes: json, ...record }) {
    writeResult(writer, {
      ...record,
      json:
        json.length === 0 ? undefined : new TextDecoder('utf-8', { ignoreBOM: true }).decode(json),
    });
  },
  read: readResult,
};

const states: KindOfFrame<StateRecord> = {
  name: 'states',
  kind: FrameKind.STATES,
  arbitrary: fc.record({
    index: u16,
    state: fc.constantFrom(...Object.values(TaskState)),
    attempt: u16,
    losses: u16,
    dueAtMs: time,
    atMs: time,
    executor: text,
    version: u32,
    bytes,
  }),
  sample: {
    index: 5,
    state: TaskState.RUNNING,
    attempt: 2,
    losses: 1,
    dueAtMs: 1_767_225_600_000,
    atMs: 1_767_225_601_000,
    executor: '0123abcd',
    version: 0,
    bytes: new Uint8Array(0),
  },
  write: writeState,
  read: readState,
};

/** All kinds. Their records differ in type, which tests over all kinds do not look into. */
export const KINDS: readonly KindOfFrame<unknown>[] = [tasks, batch, results, states];

/** A frame of records. */
export function frameOf(
  of: KindOfFrame<unknown>,
  records: readonly unknown[],
  writer: FrameWriter = new FrameWriter(of.kind),
): Uint8Array<ArrayBuffer> {
  for (const record of records) of.write(writer, record);
  return writer.finish();
}

/** Opens a frame and reads all of it, with buffers as plain bytes. */
export function readAll(of: KindOfFrame<unknown>, frame: Uint8Array): unknown[] {
  const reader = openFrame(frame, of.kind);
  return Array.from({ length: reader.count }, (_, i) => plain(of.read(reader, i)));
}

/** A copy of a record whose bytes are plain Uint8Arrays of their own. */
export function plain(record: unknown): unknown {
  return Object.fromEntries(
    Object.entries(record as object).map(([key, value]) => [
      key,
      value instanceof Uint8Array ? Uint8Array.from(value) : value,
    ]),
  );
}
