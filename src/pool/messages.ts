/**
 * What passes between the pool and a worker thread, over one MessagePort per thread.
 *
 *   main                                         worker
 *    | -- attach(AttachData), as a Piscina run --> |   loads the tasks module once
 *    | <-- { place: -1, hasEntered } ------------- |   before that
 *    | <-------------- AttachResult -------------- |   from here on Piscina is not involved
 *    | -- { place, batch, log? } ----------------> |
 *    | <-- { place, results } -------------------- |   until every task of the batch is in one of them
 *    | <-- { place, notes } ---------------------- |   before the results of the tasks that wrote them; task-notes.ts
 *    | <-- { place, isParked } ------------------- |   see places.ts
 *    | -- { place, slot, reason, isTimeout } ----> |   cancel; finds nothing when the task has ended
 *    | -- { inspectMs } -------------------------> |   to the thread's hooks, as what follows is from them
 *    | <-- { place: -1, handles } ---------------- |
 *    | <-- { place, call, ask } ------------------ |   a handler asks the runtime; before the result of its task
 *    | -- { call, answer | error } --------------> |
 *
 * `place` is a small number that names a batch while it runs and is used again afterwards. Both directions keep
 * their order, so a cancel that was sent before the end of its batch was heard never meets the next batch there.
 * Buffers of frames are transferred.
 */
import type { MessagePort } from 'node:worker_threads';
import type { ChildAnswer, ChildAsk } from '../core/children.js';
import type { PayloadLimits } from '../core/codec.js';
import type { WireError } from '../core/error-wire.js';
import type { HandleReport } from '../core/handler-hooks.js';
import type { Notes } from './task-notes.js';

/** The type of all entries when `kind` is `function`. */
export const ITEM = 'item';

/** What a worker thread gets when it starts. */
export interface AttachData {
  readonly port: MessagePort;
  /** URL of the user's module. */
  readonly module: string;
  /** `tasks`: a tasks module. `function`: its default export handles one item (BatchPool). */
  readonly kind: 'tasks' | 'function';
  readonly executor: string;
  readonly limits: PayloadLimits;
  /** URLs of modules that weave hooks around the handlers; see core/handler-hooks.ts. */
  readonly preload: readonly string[];
  /** Where the thread writes its heap figures; see worker-vitals.ts. */
  readonly vitals: SharedArrayBuffer;
  /** Where its log lines are until they are sent; see last-words.ts. */
  readonly lastWords: SharedArrayBuffer;
}

/** What it answers: how to read its clock, or why the module cannot be used. */
export interface AttachResult {
  /** To add to the thread's `performance.now()` for the process's monotonic time: where both count from differs by version of Node. */
  readonly clockOffsetMs?: number;
  readonly error?: WireError;
}

export interface RunMessage {
  readonly place: number;
  readonly batch: ArrayBuffer;
  /** The account of batches at this place; sent when the place gets another one than before. */
  readonly log?: { readonly memory: SharedArrayBuffer; readonly capacity: number };
}

export interface CancelMessage {
  readonly place: number;
  readonly slot: number;
  readonly reason: string;
  readonly isTimeout: boolean;
}

export interface InspectMessage {
  readonly inspectMs: number;
}

/** What a handler's question came to. */
export interface AnswerMessage {
  /** Which one: counted in the thread. */
  readonly call: number;
  readonly answer?: ChildAnswer;
  readonly error?: WireError;
}

/** A handler asks something of the runtime. */
export interface AskMessage {
  readonly place: number;
  readonly call: number;
  readonly ask: ChildAsk;
}

export interface ResultMessage {
  /** -1: it is about the thread. */
  readonly place: number;
  /** Said once, first of all: the thread has loaded what is ours. */
  readonly hasEntered?: true;
  /** What is open in the thread. */
  readonly handles?: HandleReport;
  readonly results?: ArrayBuffer;
  /** What tasks of the batch said. */
  readonly notes?: Notes;
  readonly isParked?: true;
  /** The batch has no tasks, so it ends without results. */
  readonly isEmpty?: true;
  /** The batch did not decode; nothing of it ran. */
  readonly error?: WireError;
}

/** So many pairs of readings: a thread is hardly interrupted between the two of every pair. */
const CLOCK_PAIRS = 5;

/**
 * What has to be added to this thread's `performance.now()` to get the process's monotonic time. An interruption between the
 * two readings makes the difference smaller, never larger, so the largest is the right one.
 */
export function clockOffsetMs(): number {
  let offsetMs = Number.NEGATIVE_INFINITY;
  for (let pair = 0; pair < CLOCK_PAIRS; pair++) {
    const [seconds, nanoseconds] = process.hrtime();
    offsetMs = Math.max(offsetMs, seconds * 1_000 + nanoseconds / 1e6 - performance.now());
  }
  return offsetMs;
}
