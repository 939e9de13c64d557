/**
 * The four kinds of records in frames: what a task, a batch entry, a result and a state look like in bytes.
 * The outer shape around them is `frame.ts`; offsets and lengths refer to the frame's bytes area.
 */
import { badFrame, type FrameReader, type FrameWriter } from './frame.js';
import { isOutcome, isTaskState, type Outcome, type TaskState } from './states.js';
import { addMetadata, type MetadataToWrite, metadataBytes } from './task-metadata.js';

/**
 * A task as it was submitted; immutable.
 *
 *   [0]  f64 dueAtMs       [8]  f64 submittedAtMs  [16] f64 expiresAtMs (0 = never)
 *   [24] u32 zero          [28] u16 type (string)  [30] u16 tenant (string)
 *   [32] i16 priority      [34] u16 flags          [36] u16 attempt     [38] u16 losses
 *   [40] u32 payload at    [44] u32 payload length [48] u32 metadata at [52] u32 metadata length
 *   [56] u32 version       [60] u16 concurrency key (string, counted from 1; 0 = none)  [62] u16 zero
 */
export interface TaskRecord {
  /** Earliest start, epoch ms. */
  readonly dueAtMs: number;
  /** The submitter's wall clock, epoch ms. */
  readonly submittedAtMs: number;
  /** Not started by then: expired. 0 = never. Epoch ms. */
  readonly expiresAtMs: number;
  readonly type: string;
  /** '' = none. */
  readonly tenant: string;
  /** Higher runs first; -32768 to 32767, usually 0. */
  readonly priority: number;
  /** Attempts already spent when the record was written. */
  readonly attempt: number;
  /** Threads and processes that already died under it. */
  readonly losses: number;
  /** Times redriven out of the dead letters. */
  readonly version: number;
  /** Tasks of one queue that have the same run so many at a time; absent: it has none. */
  readonly concurrencyKey?: string | undefined;
  readonly payload: Uint8Array;
  /** Plain JSON object, or empty; see task-metadata.ts. */
  readonly metadata: Uint8Array;
}

/** The payload comes as text, because JSON is text until it meets the frame. */
export interface TaskToWrite extends Omit<TaskRecord, 'payload' | 'metadata'> {
  readonly payload: string | Uint8Array;
  readonly payloadBytes: number;
  readonly metadata: MetadataToWrite | undefined;
}

export function writeTask(writer: FrameWriter, task: TaskToWrite): void {
  const type = writer.addString(task.type);
  const tenant = writer.addString(task.tenant);
  const { concurrencyKey } = task;
  const key = concurrencyKey === undefined ? 0 : writer.addString(concurrencyKey) + 1;
  const payloadAt =
    typeof task.payload === 'string'
      ? writer.addText(task.payload, task.payloadBytes)
      : writer.addBytes(task.payload);
  const metadataAt = task.metadata === undefined ? 0 : addMetadata(writer, task.metadata);
  const at = writer.addRecord();
  const view = writer.view;
  view.setFloat64(at, task.dueAtMs, true);
  view.setFloat64(at + 8, task.submittedAtMs, true);
  view.setFloat64(at + 16, task.expiresAtMs, true);
  view.setUint16(at + 28, type, true);
  view.setUint16(at + 30, tenant, true);
  view.setInt16(at + 32, task.priority, true);
  view.setUint16(at + 36, task.attempt, true);
  view.setUint16(at + 38, task.losses, true);
  view.setUint32(at + 40, payloadAt, true);
  view.setUint32(at + 44, task.payloadBytes, true);
  view.setUint32(at + 48, metadataAt, true);
  view.setUint32(at + 52, metadataBytes(task.metadata), true);
  view.setUint32(at + 56, task.version, true);
  view.setUint16(at + 60, key, true);
}

export function readTask(frame: FrameReader, index: number): TaskRecord {
  const at = frame.recordAt(index);
  const view = frame.view;
  const key = view.getUint16(at + 60, true);
  return {
    ...(key !== 0 && { concurrencyKey: frame.string(key - 1) }),
    dueAtMs: timeAt(view, at, 'dueAtMs'),
    submittedAtMs: timeAt(view, at + 8, 'submittedAtMs'),
    expiresAtMs: timeAt(view, at + 16, 'expiresAtMs'),
    type: frame.string(view.getUint16(at + 28, true)),
    tenant: frame.string(view.getUint16(at + 30, true)),
    priority: view.getInt16(at + 32, true),
    attempt: view.getUint16(at + 36, true),
    losses: view.getUint16(at + 38, true),
    version: view.getUint32(at + 56, true),
    payload: frame.bytes(view.getUint32(at + 40, true), view.getUint32(at + 44, true)),
    metadata: frame.bytes(view.getUint32(at + 48, true), view.getUint32(at + 52, true)),
  };
}

/**
 * A task on its way to a worker thread.
 *
 *   [0]  u32 slot          [4]  u16 type (string)  [6]  u16 tenant (string)
 *   [8]  f64 token         [16] u16 attempt        [18] u16 index in its segment
 *   [20] u32 version       [24] u16 segment (string)  [26] u16 zero  [28] u32 zero
 *   [32] u32 payload at    [36] u32 payload length [40] u32 metadata at [44] u32 metadata length
 */
export interface BatchRecord {
  /** The sender's name for the task inside this batch; the result echoes it. */
  readonly slot: number;
  readonly type: string;
  readonly tenant: string;
  /** Store revision of the commit that claimed this execution. */
  readonly token: number;
  /** 1 for the first. */
  readonly attempt: number;
  readonly version: number;
  /** SegmentRef of the task; with `index` it makes the task id. '' outside an engine. */
  readonly segment: string;
  readonly index: number;
  readonly payload: Uint8Array;
  readonly metadata: Uint8Array;
}

export function writeBatchEntry(writer: FrameWriter, entry: BatchRecord): void {
  const type = writer.addString(entry.type);
  const tenant = writer.addString(entry.tenant);
  const segment = writer.addString(entry.segment);
  const payloadAt = writer.addBytes(entry.payload);
  const metadataAt = entry.metadata.length === 0 ? 0 : writer.addBytes(entry.metadata);
  const at = writer.addRecord();
  const view = writer.view;
  view.setUint32(at, entry.slot, true);
  view.setUint16(at + 4, type, true);
  view.setUint16(at + 6, tenant, true);
  view.setFloat64(at + 8, entry.token, true);
  view.setUint16(at + 16, entry.attempt, true);
  view.setUint16(at + 18, entry.index, true);
  view.setUint32(at + 20, entry.version, true);
  view.setUint16(at + 24, segment, true);
  view.setUint32(at + 32, payloadAt, true);
  view.setUint32(at + 36, entry.payload.length, true);
  view.setUint32(at + 40, metadataAt, true);
  view.setUint32(at + 44, entry.metadata.length, true);
}

export function readBatchEntry(frame: FrameReader, index: number): BatchRecord {
  const at = frame.recordAt(index);
  const view = frame.view;
  return {
    slot: view.getUint32(at, true),
    type: frame.string(view.getUint16(at + 4, true)),
    tenant: frame.string(view.getUint16(at + 6, true)),
    token: timeAt(view, at + 8, 'token'),
    attempt: view.getUint16(at + 16, true),
    index: view.getUint16(at + 18, true),
    version: view.getUint32(at + 20, true),
    segment: frame.string(view.getUint16(at + 24, true)),
    payload: frame.bytes(view.getUint32(at + 32, true), view.getUint32(at + 36, true)),
    metadata: frame.bytes(view.getUint32(at + 40, true), view.getUint32(at + 44, true)),
  };
}

/** Of the metadata of a batch entry; 0 when it has none. For busy paths, which read nothing else of it. */
export function batchMetadataBytes(frame: FrameReader, index: number): number {
  return frame.view.getUint32(frame.recordAt(index) + 44, true);
}

/** Where in the frame they begin. REQUIRES: there are some. */
export function batchMetadataPlace(frame: FrameReader, index: number): number {
  const at = frame.recordAt(index);
  return frame.placeOf(frame.view.getUint32(at + 40, true), frame.view.getUint32(at + 44, true));
}

/** The metadata of a batch entry, alone. */
export function batchMetadata(frame: FrameReader, index: number): Uint8Array {
  const at = frame.recordAt(index);
  return frame.bytes(frame.view.getUint32(at + 40, true), frame.view.getUint32(at + 44, true));
}

/** The slot of a batch entry or a result, alone. */
export function slotAt(frame: FrameReader, index: number): number {
  return frame.view.getUint32(frame.recordAt(index), true);
}

/**
 * How one execution ended.
 *
 *   [0] u32 slot  [4] u16 outcome  [6] u16 attempt  [8] f64 runMs  [16] u32 bytes at  [20] u32 bytes length
 */
export interface ResultRecord {
  readonly slot: number;
  readonly outcome: Outcome;
  readonly attempt: number;
  /** From the call of the handler to its end. */
  readonly runMs: number;
  /** JSON: the value, the wire error, the delay or the reason, by outcome; empty for `undefined`. */
  readonly bytes: Uint8Array;
}

export function writeResult(
  writer: FrameWriter,
  result: Omit<ResultRecord, 'bytes'> & { readonly json: string | undefined },
): void {
  const length = result.json === undefined ? 0 : Buffer.byteLength(result.json);
  const bytesAt = length === 0 ? 0 : writer.addText(result.json!, length);
  const at = writer.addRecord();
  const view = writer.view;
  view.setUint32(at, result.slot, true);
  view.setUint16(at + 4, result.outcome, true);
  view.setUint16(at + 6, result.attempt, true);
  view.setFloat64(at + 8, result.runMs, true);
  view.setUint32(at + 16, bytesAt, true);
  view.setUint32(at + 20, length, true);
}

export function readResult(frame: FrameReader, index: number): ResultRecord {
  const at = frame.recordAt(index);
  const view = frame.view;
  const outcome = view.getUint16(at + 4, true);
  if (!isOutcome(outcome)) throw badFrame(`outcome ${outcome} does not exist`);
  return {
    slot: view.getUint32(at, true),
    outcome,
    attempt: view.getUint16(at + 6, true),
    runMs: timeAt(view, at + 8, 'runMs'),
    bytes: frame.bytes(view.getUint32(at + 16, true), view.getUint32(at + 20, true)),
  };
}

/**
 * What is known of a task beyond its submission: in overlays (claims, retries) and among finished tasks.
 *
 *   [0]  u16 index     [2] u8 state      [3] u8 flags      [4] u16 attempt  [6] u16 losses
 *   [8]  f64 dueAtMs   [16] f64 atMs     [24] u16 executor (string)         [26] u16 zero
 *   [28] u32 version   [32] u32 bytes at [36] u32 bytes length
 */
export interface StateRecord {
  /** Of the task in its segment. */
  readonly index: number;
  readonly state: TaskState;
  /** Attempts started, this one included. */
  readonly attempt: number;
  readonly losses: number;
  /** PENDING: the earliest next start. */
  readonly dueAtMs: number;
  /** When it entered this state, by the writer's wall clock. */
  readonly atMs: number;
  /** RUNNING: the incarnation that runs it; else ''. */
  readonly executor: string;
  readonly version: number;
  /** Ended: JSON of the value or the wire error. */
  readonly bytes: Uint8Array;
}

export function writeState(writer: FrameWriter, state: StateRecord): void {
  const executor = writer.addString(state.executor);
  const bytesAt = state.bytes.length === 0 ? 0 : writer.addBytes(state.bytes);
  const at = writer.addRecord();
  const view = writer.view;
  view.setUint16(at, state.index, true);
  view.setUint8(at + 2, state.state);
  view.setUint16(at + 4, state.attempt, true);
  view.setUint16(at + 6, state.losses, true);
  view.setFloat64(at + 8, state.dueAtMs, true);
  view.setFloat64(at + 16, state.atMs, true);
  view.setUint16(at + 24, executor, true);
  view.setUint32(at + 28, state.version, true);
  view.setUint32(at + 32, bytesAt, true);
  view.setUint32(at + 36, state.bytes.length, true);
}

export function readState(frame: FrameReader, index: number): StateRecord {
  const at = frame.recordAt(index);
  const view = frame.view;
  const state = view.getUint8(at + 2);
  if (!isTaskState(state)) throw badFrame(`state ${state} does not exist`);
  return {
    index: view.getUint16(at, true),
    state,
    attempt: view.getUint16(at + 4, true),
    losses: view.getUint16(at + 6, true),
    dueAtMs: timeAt(view, at + 8, 'dueAtMs'),
    atMs: timeAt(view, at + 16, 'atMs'),
    executor: frame.string(view.getUint16(at + 24, true)),
    version: view.getUint32(at + 28, true),
    bytes: frame.bytes(view.getUint32(at + 32, true), view.getUint32(at + 36, true)),
  };
}

/** A finite number of at least 0: NaN and infinities from outside would poison every comparison after them. */
function timeAt(view: DataView, at: number, field: string): number {
  const value = view.getFloat64(at, true);
  if (!(value >= 0 && value <= Number.MAX_SAFE_INTEGER)) throw badFrame(`${field} is ${value}`);
  return value;
}
