/**
 * What a task carries beside its record: a JSON object in the metadata bytes of frames, written when it is submitted and
 * handed on as it is, to other nodes, into retries and into the thread.
 *
 *   {"traceparent":"00-<trace: 32>-<span: 16>-<flags: 2>","tracestate":"...","baggage":"...","loose":1,"parent":"...","key":"...",
 *    "begin":["cf","<type>","<id>", ...]}
 *
 * The trace context (W3C Trace Context and Baggage, as in their HTTP headers) comes first where there is one, so that a
 * look at two bytes tells whether a task has one and whether it is sampled. What a task stands on (`begin`) comes last, and is
 * the only list, so that a look at one byte tells whether there is something to ask before its handler is called. Metadata come from the store, so what is
 * not of that form is taken for absent.
 */
import { type FrameWriter, utf8 } from './frame.js';
import { parseTaskId } from './ids.js';

/** Where a task comes from, for tracing. */
export interface TraceCarrier {
  /** Of the span it was submitted in. */
  readonly traceparent: string;
  readonly tracestate?: string | undefined;
  /** Entries that the submitter allowed to travel. */
  readonly baggage?: string | undefined;
  /** Submitted in bulk or for much later: related to its submitter, but no part of what that does. */
  readonly isLoose?: boolean;
}

/** A span as its SDK names it; what most tasks carry. */
export interface SpanIds {
  /** 32 hexadecimal digits. */
  readonly traceId: string;
  /** 16 of them. */
  readonly spanId: string;
  /** Bit 0: sampled. */
  readonly traceFlags: number;
}

/**
 * Metadata on their way into a frame. A span becomes bytes there and not before: a buffer of its own for each task would cost
 * more, in the collector's time, than all else that a task carries.
 */
export type MetadataToWrite = Uint8Array | SpanIds;

export interface TaskMetadata {
  /** Idempotency key it was submitted with. */
  readonly key?: string | undefined;
  readonly trace?: TraceCarrier | undefined;
  /** Id of the task whose handler submitted it. */
  readonly parent?: string | undefined;
  readonly conditions?: BeginConditions | undefined;
}

/** What a task's beginning depends on. */
export interface BeginConditions {
  /** It is cancelled when its parent has ended without having completed. */
  readonly cancelsWithParent: boolean;
  /** It fails when one of those it joins ends without having completed. */
  readonly failsWithJoined: boolean;
  /** It begins when all of these have ended: tasks of one type. */
  readonly joins: { readonly type: string; readonly ids: readonly string[] } | undefined;
}

const TRACEPARENT_FORM = /^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/;
const NO_TRACE_ID = '0'.repeat(32);
const SPAN_ID_CHARS = 16;
/** The last part of a traceparent, by flags. */
const FLAG_TEXTS = Array.from(
  { length: 256 },
  (_, flags) => `-${flags.toString(16).padStart(2, '0')}`,
);
const HEAD = '{"traceparent":"';
const TAIL = '"}';
const TRACEPARENT_AT = HEAD.length;
const TRACEPARENT_CHARS = 55;
const TRACE_ID_AT = TRACEPARENT_AT + 3;
const SPAN_ID_AT = TRACE_ID_AT + 33;
const FLAGS_AT = SPAN_ID_AT + SPAN_ID_CHARS;
/** A span that is not sampled; its ids are written over. */
const SPAN_FORM = Buffer.from(
  `${HEAD}00-${NO_TRACE_ID}-${'0'.repeat(SPAN_ID_CHARS)}${FLAG_TEXTS[0]}${TAIL}`,
);
const TRACE_BYTES_MIN = TRACEPARENT_AT + TRACEPARENT_CHARS + TAIL.length;
const T = 0x74;
const CLOSING_BRACKET = 0x5d;
/** Bounds where a context is put into a task, and, since others may write to the store, where it is read. */
export const TRACESTATE_CHARS_MAX = 512;
export const BAGGAGE_CHARS_MAX = 1_024;

/** Metadata bytes of a task, or undefined when there is nothing to say. */
export function encodeMetadata(metadata: TaskMetadata): Uint8Array | undefined {
  const { key, trace, parent, conditions } = metadata;
  if (key === undefined && trace === undefined && parent === undefined) return undefined;
  const fields = {
    traceparent: trace?.traceparent,
    tracestate: trace?.tracestate,
    baggage: trace?.baggage,
    loose: trace?.isLoose === true ? 1 : undefined,
    parent,
    key,
    begin: conditions && listOf(conditions),
  };
  return Buffer.from(JSON.stringify(fields));
}

/** The same, for a frame that is written later: a span that is all there is to say is left as it is. */
export function metadataToWrite({
  key,
  trace,
  parent,
}: {
  readonly key: string | undefined;
  readonly trace: TraceCarrier | SpanIds | undefined;
  readonly parent: string | undefined;
}): MetadataToWrite | undefined {
  if (trace === undefined || 'traceparent' in trace) return encodeMetadata({ key, trace, parent });
  if (key === undefined && parent === undefined) return trace;
  return encodeMetadata({ key, trace: carrierOfSpan(trace), parent });
}

/** What metadata take in a frame. */
export function metadataBytes(metadata: MetadataToWrite | undefined): number {
  if (metadata === undefined) return 0;
  return metadata instanceof Uint8Array ? metadata.length : TRACE_BYTES_MIN;
}

/** Appends metadata to a frame, and returns where they begin. */
export function addMetadata(writer: FrameWriter, metadata: MetadataToWrite): number {
  if (metadata instanceof Uint8Array) return writer.addBytes(metadata);
  const { traceId, spanId, traceFlags } = metadata;
  const at = writer.addBytes(SPAN_FORM);
  writer.overwriteAscii(at + TRACE_ID_AT, traceId);
  writer.overwriteAscii(at + SPAN_ID_AT, spanId);
  if (traceFlags !== 0) writer.overwriteAscii(at + FLAGS_AT, FLAG_TEXTS[traceFlags & 0xff]!);
  return at;
}

/** Whether this is a span at all, and its ids have their length. What is in them is checked where they are read. */
export function isSpan({ traceId, spanId }: SpanIds): boolean {
  return (
    traceId.length === NO_TRACE_ID.length &&
    spanId.length === SPAN_ID_CHARS &&
    traceId !== NO_TRACE_ID
  );
}

/** A span as a header names it. */
export function traceparentOf({ traceId, spanId, traceFlags }: SpanIds): string {
  return `00-${traceId}-${spanId}${FLAG_TEXTS[traceFlags & 0xff]}`;
}

/** A span and nothing beside it. */
export function carrierOfSpan(span: SpanIds): TraceCarrier {
  return { traceparent: traceparentOf(span) };
}

/** Whether metadata of so many bytes at this place have a trace context. A look, for busy paths. */
export function hasTrace(bytes: Uint8Array, from: number, length: number): boolean {
  return length >= TRACE_BYTES_MIN && bytes[from + 2] === T;
}

/** Whether that one is sampled. REQUIRES: hasTrace. */
export function isSampled(bytes: Uint8Array, from: number): boolean {
  // The last hexadecimal digit: '1', '3' ... 'b', 'd', 'f'; letters are even where digits are odd.
  const digit = bytes[from + TRACEPARENT_AT + TRACEPARENT_CHARS - 1]!;
  return ((digit > 0x60 ? digit - 0x57 : digit) & 1) === 1;
}

/**
 * Puts another traceparent where metadata at this place have theirs: both are of one length.
 *
 * @param before - what is there by `readTrace`; where another program put it elsewhere, nothing is changed
 */
export function replaceTraceparent(
  bytes: Uint8Array,
  from: number,
  { before, after }: { readonly before: string; readonly after: string },
): void {
  const at = from + TRACEPARENT_AT;
  if (utf8(bytes, at, at + TRACEPARENT_CHARS) !== before) return;
  for (let i = 0; i < TRACEPARENT_CHARS; i++) bytes[at + i] = after.charCodeAt(i);
}

/** The trace context in metadata bytes; undefined when there is none of the right form. */
export function readTrace(metadata: Uint8Array): TraceCarrier | undefined {
  if (!hasTrace(metadata, 0, metadata.length)) return undefined;
  try {
    const text = utf8(metadata);
    const { traceparent, tracestate, baggage, loose } = traceFieldsOf(text);
    if (typeof traceparent !== 'string' || !TRACEPARENT_FORM.test(traceparent)) return undefined;
    return {
      traceparent,
      tracestate: textUpTo(TRACESTATE_CHARS_MAX, tracestate),
      baggage: textUpTo(BAGGAGE_CHARS_MAX, baggage),
      isLoose: loose === 1,
    };
  } catch {
    return undefined;
  }
}

/** The id of the parent in metadata bytes; undefined when there is none. */
export function readParent(metadata: Uint8Array): string | undefined {
  if (metadata.length === 0) return undefined;
  try {
    const { parent } = fieldsOf(utf8(metadata));
    return typeof parent === 'string' && parseTaskId(parent) !== undefined ? parent : undefined;
  } catch {
    return undefined;
  }
}

/** Whether metadata of so many bytes at this place have conditions. A look, for busy paths. */
export function hasConditions(bytes: Uint8Array, from: number, length: number): boolean {
  return length > 2 && bytes[from + length - 2] === CLOSING_BRACKET;
}

/** What the beginning of a task depends on; undefined when that is nothing. */
export function readConditions(metadata: Uint8Array): BeginConditions | undefined {
  if (!hasConditions(metadata, 0, metadata.length)) return undefined;
  try {
    const { begin } = fieldsOf(utf8(metadata));
    if (!Array.isArray(begin) || !begin.every((part) => typeof part === 'string')) return undefined;
    const [policies = '', type, ...ids] = begin as string[];
    if (!ids.every((id) => parseTaskId(id) !== undefined)) return undefined;
    return {
      cancelsWithParent: policies.includes('c'),
      failsWithJoined: policies.includes('f'),
      joins: type === undefined ? undefined : { type, ids },
    };
  } catch {
    return undefined;
  }
}

function listOf({ cancelsWithParent, failsWithJoined, joins }: BeginConditions): string[] {
  const policies = `${cancelsWithParent ? 'c' : ''}${failsWithJoined ? 'f' : ''}`;
  return joins === undefined ? [policies] : [policies, joins.type, ...joins.ids];
}

/** As `addMetadata` writes a span, or any others. */
function traceFieldsOf(text: string): Record<string, unknown> {
  if (text.length !== TRACE_BYTES_MIN || !text.startsWith(HEAD)) return fieldsOf(text);
  return { traceparent: text.slice(TRACEPARENT_AT, -TAIL.length) };
}

function fieldsOf(text: string): Record<string, unknown> {
  return JSON.parse(text) as Record<string, unknown>;
}

function textUpTo(charsMax: number, text: unknown): string | undefined {
  return typeof text === 'string' && text.length <= charsMax ? text : undefined;
}
