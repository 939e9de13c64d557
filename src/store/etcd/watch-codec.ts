/**
 * The messages of etcd's Watch stream (etcdserverpb/rpc.proto, mvccpb/kv.proto), as much of them as is used.
 *
 *   WatchRequest    1 create { 1 key  2 range_end  3 start_revision  4 progress_notify  7 watch_id  8 fragment }
 *                   2 cancel { 1 watch_id }   3 progress { }
 *   WatchResponse   1 header { 1 cluster_id  3 revision }  2 watch_id  3 created  4 canceled  5 compact_revision
 *                   6 cancel_reason  7 fragment  11 events { 1 type (0 put, 1 delete)  2 kv }
 *
 * Events become entries in one pass, and their keys lose the prefix of their watch. For that the watch id must come
 * before the events, as it does from every server, whose encoders write fields in order.
 */
import type { Entry, KeyRange, Revision, WatchEvent } from '../../core/store.js';
import { readEntry } from './kv-codec.js';
import { type Message, ProtobufError, Reader, Writer } from './protobuf.js';

export const WATCH_METHOD = '/etcdserverpb.Watch/Watch';

/** The id of answers that concern no watch, or the whole stream. */
export const NO_WATCH = -1;

export interface WatchCreate {
  /** Chosen by this side, from 1 on, once per stream. */
  readonly watchId: number;
  /** As stored: with the prefix of the namespace. */
  readonly range: KeyRange;
  /** 0: the server's next one. */
  readonly startRevision: number;
  /** Whether answers above 1.5 MiB may come in parts. */
  readonly isFragmented: boolean;
}

export interface WatchResponse {
  /** Hex; undefined when the server gave none. */
  clusterId: string | undefined;
  /** The member's newest revision when it answered: not how far this watch has been told. */
  revision: Revision;
  watchId: number;
  isCreated: boolean;
  isCanceled: boolean;
  /** 0, or the oldest revision that is kept: what the watch needs next is gone. */
  compactRevision: Revision;
  cancelReason: string;
  /** More of the same answer follows. */
  isFragment: boolean;
  events: WatchEvent[];
}

const writer = new Writer(512);

export function encodeWatchCreate(create: WatchCreate): Message {
  const request = writer.open();
  writer.bool(8, create.isFragmented);
  writer.uint(7, create.watchId);
  writer.bool(4, true);
  writer.uint(3, create.startRevision);
  writer.latin1(2, create.range.to);
  // No key at all would be the range's end only; a zero byte is before every key there is.
  writer.latin1(1, create.range.from === '' ? '\0' : create.range.from);
  writer.close(1, request);
  return writer.finish();
}

export function encodeWatchCancel(watchId: number): Message {
  const request = writer.open();
  writer.uint(1, watchId);
  writer.close(2, request);
  return writer.finish();
}

/** Asks how far the whole stream is. */
export function encodeProgressRequest(): Message {
  writer.close(3, writer.open());
  return writer.finish();
}

/**
 * @param prefixLengthOf - how many characters the keys of a watch lose
 * @throws ProtobufError for bytes that are no such message
 */
export function decodeWatchResponse(
  body: Uint8Array,
  prefixLengthOf: (watchId: number) => number,
): WatchResponse {
  const reader = new Reader(body);
  const end = reader.length;
  const response: WatchResponse = {
    clusterId: undefined,
    revision: 0 as Revision,
    watchId: 0,
    isCreated: false,
    isCanceled: false,
    compactRevision: 0 as Revision,
    cancelReason: '',
    isFragment: false,
    events: [],
  };
  let prefixLength = 0;
  for (let tag = reader.tag(end); tag !== 0; tag = reader.tag(end)) {
    if (tag === 0x5a) {
      if (response.watchId === 0) throw new ProtobufError('an event before the id of its watch');
      response.events.push(readEvent(reader, prefixLength));
    } else if (tag === 0x0a) readHeader(reader, response);
    else if (tag === 0x10) {
      response.watchId = reader.int();
      prefixLength = prefixLengthOf(response.watchId);
    } else if (tag === 0x18) response.isCreated = reader.bool();
    else if (tag === 0x20) response.isCanceled = reader.bool();
    else if (tag === 0x28) response.compactRevision = reader.uint() as Revision;
    else if (tag === 0x32) response.cancelReason = reader.utf8();
    else if (tag === 0x38) response.isFragment = reader.bool();
    else reader.skip(tag);
  }
  return response;
}

function readHeader(reader: Reader, response: WatchResponse): void {
  const end = reader.open();
  for (let tag = reader.tag(end); tag !== 0; tag = reader.tag(end)) {
    // 64 bits that only need to be compared: read like a lease id.
    if (tag === 0x08) response.clusterId = reader.leaseId();
    else if (tag === 0x18) response.revision = reader.uint() as Revision;
    else reader.skip(tag);
  }
}

function readEvent(reader: Reader, prefixLength: number): WatchEvent {
  const end = reader.open();
  let isDelete = false;
  let entry: Entry | undefined;
  for (let tag = reader.tag(end); tag !== 0; tag = reader.tag(end)) {
    if (tag === 0x08) isDelete = reader.uint() === 1;
    else if (tag === 0x12) entry = readEntry(reader, prefixLength);
    else reader.skip(tag);
  }
  if (entry === undefined) throw new ProtobufError('an event without its key');
  if (!isDelete) return { type: 'put', entry };
  return { type: 'delete', key: entry.key, modRevision: entry.modRevision };
}
