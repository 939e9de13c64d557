/**
 * What handlers say while they run: lines (`ctx.log`) and how far they are (`ctx.progress`).
 *
 *   ctx.log.info() --+                            +--> lines, in order  --> channel millrace:task:log
 *                    +--> notes of the batch --> message
 *   ctx.progress() --+    (newest progress only)  +--> progress by slot --> whoever asked for it
 *
 * Notes travel beside the results, in messages of their own: at once when none was sent for SEND_EVERY_MS, else when
 * that time is over, and in any case before the next results of their batch, so that a task's last line comes before
 * its end. Sending is a postMessage: it neither waits nor needs the thread's event loop, so a handler that computes
 * for minutes is heard too.
 *
 * Nothing here can slow a handler down or fill memory. A task has LINES_MAX lines and LINE_CHARS_MAX characters in
 * each second; what is more is counted, and its next line (or a last one of ours) says how many are missing. A progress value replaces
 * the one before it that was not sent. While nobody subscribes to the channel a line costs a look at shared memory.
 *
 * Bad values: progress that is no JSON value is the handler's mistake and throws. A line is worth more than its
 * fields, and logging must not end a task: its message arrives, with the typed error in place of the fields.
 *
 * A task that has ended has nothing to say any more: such notes are counted and ignored. Thread safety: none.
 */
import { type EncodedPayload, encodePayload, type PayloadLimits } from '../core/codec.js';
import { toWire } from '../core/error-wire.js';
import { MillraceError } from '../core/errors.js';
import { showValue } from '../core/options.js';
import type { TaskProgress } from '../core/pool.js';
import type { LogLevel, TaskLog } from '../core/task.js';
import type { LastWords } from './last-words.js';

/** Notes on their way. */
export interface Notes {
  /** JSON of a TaskLine each, in order. */
  readonly lines: readonly string[];
  readonly progress: readonly TaskProgress[];
}

/** What there was too much of, or too late, since the start. */
export interface NoteCounts {
  /** Lines beyond what a task may say in a second. */
  dropped: number;
  /** Lines and progress of tasks that had ended. */
  late: number;
}

/** Where a note taker gets its time from. */
export interface NoteTime {
  /** Monotonic milliseconds. */
  nowMs(): number;
  /** Epoch milliseconds. */
  wallMs(): number;
  /** Calls back after so many milliseconds, without keeping the process alive. */
  later(delayMs: number, wake: () => void): void;
}

/** Who a note is from. */
export interface NoteAuthor {
  readonly slot: number;
  /** '' outside an engine. */
  readonly taskId: string;
  readonly type: string;
  readonly attempt: number;
  readonly tenant: string | undefined;
}

/** Per batch: takes the notes of its tasks. */
export interface NoteDesk {
  readonly taker: NoteTaker;
  /** The book of the batch; undefined when the task at this position has ended. */
  bookOf(index: number): NoteBook | undefined;
}

const SEND_EVERY_MS = 50;
const WINDOW_MS = 1_000;
/** Of one task in one window. */
const LINES_MAX = 500;
const LINE_CHARS_MAX = 131_072;
const MESSAGE_CHARS_MAX = 4_096;
const FIELDS_LIMITS: PayloadLimits = { bytesMax: 16_384, depthMax: 16 };
const PROGRESS_LIMITS: PayloadLimits = { bytesMax: 16_384, depthMax: 64 };

/** Decides when notes are sent; one for all batches of a thread. */
export class NoteTaker {
  readonly time: NoteTime;
  readonly counts: NoteCounts;
  readonly #wantsLines: () => boolean;
  readonly #lastWords: LastWords | undefined;
  readonly #unsent = new Set<NoteBook>();
  #sentAtMs = Number.NEGATIVE_INFINITY;
  #isPlanned = false;

  /**
   * @param wantsLines - whether anybody would read a line; asked for each
   * @param lastWords - where lines are until they are sent, for a thread that may be killed
   */
  constructor(
    time: NoteTime,
    wantsLines: () => boolean,
    counts: NoteCounts,
    lastWords?: LastWords,
  ) {
    this.time = time;
    this.#wantsLines = wantsLines;
    this.counts = counts;
    this.#lastWords = lastWords;
  }

  get wantsLines(): boolean {
    return this.#wantsLines();
  }

  /** The book has something to send. */
  noted(book: NoteBook): void {
    this.#unsent.add(book);
    if (this.#isPlanned) {
      // A handler that computes lets no timer run: whoever notes looks at the time.
      if (this.time.nowMs() - this.#sentAtMs >= SEND_EVERY_MS) this.send();
      return;
    }
    const leftMs = this.#sentAtMs + SEND_EVERY_MS - this.time.nowMs();
    if (leftMs <= 0) {
      this.send();
      return;
    }
    this.#isPlanned = true;
    this.time.later(leftMs, () => {
      this.#isPlanned = false;
      this.send();
    });
  }

  /** Sends everything. */
  send(): void {
    if (this.#unsent.size === 0) return;
    this.#sentAtMs = this.time.nowMs();
    for (const book of this.#unsent) book.send();
  }

  sent(book: NoteBook): void {
    this.#unsent.delete(book);
    this.#lastWords?.clear();
    for (const { lines } of this.#unsent) for (const line of lines) this.#lastWords?.add(line);
  }

  /** The line stays for a while. */
  keep(line: string): void {
    if (this.#lastWords?.add(line) === false) this.send();
  }
}

/** The notes of one batch that have not been sent. */
export class NoteBook {
  readonly #taker: NoteTaker;
  readonly #onNotes: (notes: Notes) => void;
  /** JSON of a TaskLine each. */
  lines: string[] = [];
  readonly #progress = new Map<number, TaskProgress>();

  constructor(taker: NoteTaker, onNotes: (notes: Notes) => void) {
    this.#taker = taker;
    this.#onNotes = onNotes;
  }

  addLine(json: string): void {
    this.lines.push(json);
    this.#taker.noted(this);
    if (this.lines.length > 0) this.#taker.keep(json);
  }

  setProgress(progress: TaskProgress): void {
    this.#progress.set(progress.slot, progress);
    this.#taker.noted(this);
  }

  send(): void {
    if (this.lines.length > 0 || this.#progress.size > 0) {
      const notes: Notes = { lines: this.lines, progress: [...this.#progress.values()] };
      this.lines = [];
      this.#progress.clear();
      this.#onNotes(notes);
    }
    this.#taker.sent(this);
  }
}

/** One task's `ctx.log`, and its progress. */
export class TaskNotes implements TaskLog {
  readonly #desk: NoteDesk;
  readonly #index: number;
  readonly #author: NoteAuthor;
  #windowEndsMs = 0;
  #linesLeft = 0;
  #charsLeft = 0;
  /** Not told yet. */
  #dropped = 0;

  constructor(desk: NoteDesk, index: number, author: NoteAuthor) {
    this.#desk = desk;
    this.#index = index;
    this.#author = author;
  }

  trace(fieldsOrMessage: unknown, message?: string): void {
    this.#note('trace', fieldsOrMessage, message);
  }

  debug(fieldsOrMessage: unknown, message?: string): void {
    this.#note('debug', fieldsOrMessage, message);
  }

  info(fieldsOrMessage: unknown, message?: string): void {
    this.#note('info', fieldsOrMessage, message);
  }

  warn(fieldsOrMessage: unknown, message?: string): void {
    this.#note('warn', fieldsOrMessage, message);
  }

  error(fieldsOrMessage: unknown, message?: string): void {
    this.#note('error', fieldsOrMessage, message);
  }

  fatal(fieldsOrMessage: unknown, message?: string): void {
    this.#note('fatal', fieldsOrMessage, message);
  }

  /** @throws ERR_MILLRACE_PAYLOAD_NOT_SERIALIZABLE, _TOO_LARGE, _TOO_DEEP */
  progress(value: unknown): void {
    const book = this.#desk.bookOf(this.#index);
    if (book === undefined) {
      this.#desk.taker.counts.late++;
      return;
    }
    const { slot, taskId } = this.#author;
    book.setProgress({ slot, taskId, json: progressJson(value) });
  }

  /** The task is about to end: the last chance to say that lines are missing. */
  close(): void {
    if (this.#dropped === 0) return;
    const message = 'the task said more than is kept of a task in a second';
    this.#desk.bookOf(this.#index)?.addLine(this.#lineOf('warn', message, ''));
  }

  #note(level: LogLevel, fieldsOrMessage: unknown, message: string | undefined): void {
    const { taker } = this.#desk;
    const book = this.#desk.bookOf(this.#index);
    if (book === undefined) {
      taker.counts.late++;
      return;
    }
    if (!taker.wantsLines) return;
    const nowMs = taker.time.nowMs();
    if (nowMs >= this.#windowEndsMs) {
      this.#windowEndsMs = nowMs + WINDOW_MS;
      this.#linesLeft = LINES_MAX;
      this.#charsLeft = LINE_CHARS_MAX;
    }
    if (this.#linesLeft === 0 || this.#charsLeft <= 0) {
      this.#dropped++;
      taker.counts.dropped++;
      return;
    }
    const isMessage = typeof fieldsOrMessage !== 'object' || fieldsOrMessage === null;
    const text = isMessage ? textOf(fieldsOrMessage) : (message ?? messageIn(fieldsOrMessage));
    const line = this.#lineOf(level, text, isMessage ? '' : fieldsJson(fieldsOrMessage));
    this.#linesLeft--;
    this.#charsLeft -= line.length;
    book.addLine(line);
  }

  #lineOf(level: LogLevel, message: unknown, fields: string): string {
    const { taskId, type, attempt, tenant } = this.#author;
    const head = JSON.stringify({
      ...(taskId !== '' && { taskId }),
      type,
      attempt,
      ...(tenant !== undefined && { tenant }),
      level,
      atMs: this.#desk.taker.time.wallMs(),
      message: textOf(message).slice(0, MESSAGE_CHARS_MAX),
      dropped: this.#dropped,
    });
    this.#dropped = 0;
    return fields === '' ? head : `${head.slice(0, -1)},"fields":${fields}}`;
  }
}

function textOf(message: unknown): string {
  return typeof message === 'string' ? message : showValue(message);
}

/** What an object has to say when no message came with it. */
function messageIn(fields: object): string {
  try {
    const { message } = fields as { message?: unknown };
    return fields instanceof Error ? String(message) : '';
  } catch {
    return '';
  }
}

/** Errors have no JSON form of their own: they travel as results do. Never throws. */
function fieldsJson(fields: object): string {
  try {
    return encodeFields(fields).text;
  } catch (error) {
    return JSON.stringify({ error: toWire(error) });
  }
}

function encodeFields(fields: object): EncodedPayload {
  let plain: unknown = fields;
  if (fields instanceof Error) {
    plain = { err: toWire(fields) };
  } else if (!Array.isArray(fields)) {
    for (const [key, value] of Object.entries(fields)) {
      if (value instanceof Error) plain = { ...(plain as object), [key]: toWire(value) };
    }
  }
  return encodePayload(plain, 'the fields of a log line', FIELDS_LIMITS);
}

function progressJson(value: unknown): string {
  if (value === undefined) {
    throw new MillraceError(
      'ERR_MILLRACE_PAYLOAD_NOT_SERIALIZABLE',
      'progress is undefined, which has no JSON form; give a number, text or an object',
    );
  }
  return encodePayload(value, 'progress', PROGRESS_LIMITS).text;
}
