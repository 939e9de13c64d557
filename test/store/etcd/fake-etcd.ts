/**
 * A model of etcd's Watch service behind the Transport port: a history, watches that are synced or catching up, and
 * streams whose messages are delivered, or cut off, one by one as the test says.
 *
 * It keeps the habits that break naive clients: the answer to a create, and every batch of a catch-up, carry the
 * *newest* revision in their header; catch-ups come in batches of revisions, and answers in fragments that end
 * anywhere; a refused create is answered by the pair created + canceled with id -1.
 */
import { EventEmitter } from 'node:events';
import type { LeaseId } from '../../../src/core/store.js';
import { type Message, PREFIX_BYTES, Reader, Writer } from '../../../src/store/etcd/protobuf.js';
import {
  CallFailure,
  type DuplexStream,
  GrpcStatus,
  type StreamOptions,
  type Transport,
} from '../../../src/store/etcd/transport.js';

export interface FakeChange {
  readonly revision: number;
  readonly key: string;
  /** Absent for a delete. */
  readonly value?: string;
}

interface ServerWatch {
  readonly id: number;
  readonly isFragmented: boolean;
  readonly from: string;
  readonly to: string;
  next: number;
  isSynced: boolean;
}

export interface FakeAnswer {
  readonly watchId: number;
  readonly revision?: number;
  readonly created?: boolean;
  readonly canceled?: boolean;
  readonly compactRevision?: number;
  readonly reason?: string;
  readonly fragment?: boolean;
  readonly changes?: readonly FakeChange[];
}

export class FakeEtcd implements Transport {
  readonly streams: FakeStream[] = [];
  readonly history: FakeChange[] = [];
  revision = 1;
  compactRevision = 0;
  clusterId = 'cdf818194e3a8c32' as LeaseId;
  /** Keys that start so may not be watched. */
  forbidden = '\x7f';
  /** Revisions in one batch of a catch-up; etcd's are 1000. */
  batchRevisions = 1_000;
  /** Events in one message that a client takes, when it has not asked for fragments. */
  messageEventsMax = Number.POSITIVE_INFINITY;
  /** Events in one fragment; a proxy may make them unasked. */
  fragmentEvents = Number.POSITIVE_INFINITY;

  call(): Promise<Uint8Array> {
    return Promise.reject(new Error('no calls here'));
  }

  open(_method: string, options: StreamOptions): FakeStream {
    const stream = new FakeStream(this, options);
    this.streams.push(stream);
    return stream;
  }

  close(): Promise<void> {
    for (const stream of this.streams) stream.close();
    return Promise.resolve();
  }

  /** One transaction: puts (`a=1`) and deletes (`-a`) with one revision. */
  write(...words: readonly string[]): number {
    this.revision++;
    for (const word of words) {
      const [key = '', value] = word.startsWith('-') ? [word.slice(1)] : word.split('=');
      const change = { revision: this.revision, key };
      this.history.push(value === undefined ? change : { ...change, value });
    }
    for (const stream of this.streams) stream.notify();
    return this.revision;
  }

  compact(revision: number): void {
    this.compactRevision = revision;
  }

  between(from: string, to: string, first: number, last: number): FakeChange[] {
    return this.history.filter(
      ({ key, revision }) => from <= key && key < to && first <= revision && revision <= last,
    );
  }

  /** Lets everything happen that can: catch-ups, and all that is on its way. */
  flush(): void {
    for (let moved = true; moved; ) {
      moved = false;
      for (const stream of this.streams) {
        if (stream.sync() || stream.deliver()) moved = true;
      }
    }
  }

  /** Streams that have not ended. */
  get live(): readonly FakeStream[] {
    return this.streams.filter(({ isEnded }) => !isEnded);
  }
}

interface FakeStreamEvents {
  /** A request has arrived. */
  request: [];
}

export class FakeStream extends EventEmitter<FakeStreamEvents> implements DuplexStream {
  isEnded = false;
  /** What the client has asked for, in short: `create 1 from 5`, `cancel 1`, `progress`. */
  readonly requests: string[] = [];
  readonly #server: FakeEtcd;
  readonly #options: StreamOptions;
  readonly #watches = new Map<number, ServerWatch>();
  readonly #outgoing: (Uint8Array | 'too large')[] = [];

  constructor(server: FakeEtcd, options: StreamOptions) {
    super();
    this.#server = server;
    this.#options = options;
  }

  /** Messages on their way to the client. */
  get pending(): number {
    return this.#outgoing.length;
  }

  get watchIds(): readonly number[] {
    return [...this.#watches.keys()];
  }

  send(message: Message): void {
    if (this.isEnded) return;
    const reader = new Reader(message.subarray(PREFIX_BYTES));
    const tag = reader.tag(reader.length);
    const end = reader.open();
    if (tag === 0x0a) this.#create(reader, end);
    else if (tag === 0x12) {
      reader.tag(end);
      const id = reader.int();
      this.requests.push(`cancel ${id}`);
      if (this.#watches.delete(id)) this.answer({ watchId: id, canceled: true });
    } else {
      this.requests.push('progress');
      const watches = [...this.#watches.values()];
      if (watches.every(({ isSynced }) => isSynced)) this.answer({ watchId: -1 });
    }
    this.emit('request');
  }

  /** Ends the stream from the client's side. */
  close(): void {
    this.#end(undefined);
  }

  /** The network is gone, and with it what was on its way. */
  cut(): void {
    this.#end(new CallFailure(GrpcStatus.UNAVAILABLE, 'cut', { wasSent: true }));
  }

  /** Hands the next message to the client. @returns whether there was one */
  deliver(): boolean {
    const body = this.#outgoing.shift();
    if (body === undefined || this.isEnded) return false;
    if (body === 'too large') {
      this.#end(new CallFailure(GrpcStatus.RESOURCE_EXHAUSTED, 'too large', { wasSent: true }));
      return true;
    }
    this.#options.onMessage(body);
    return true;
  }

  /** One pass of the loop that serves watches which are behind. @returns whether there was anything to do */
  sync(): boolean {
    let moved = false;
    const { revision, compactRevision, batchRevisions } = this.#server;
    for (const watch of this.#watches.values()) {
      if (this.isEnded || watch.isSynced) continue;
      moved = true;
      if (watch.next < compactRevision) {
        this.#watches.delete(watch.id);
        this.answer({ watchId: watch.id, canceled: true, compactRevision });
        continue;
      }
      const changes = this.#server.between(watch.from, watch.to, watch.next, revision);
      const revisions = [...new Set(changes.map((change) => change.revision))];
      const last = revisions[batchRevisions - 1];
      watch.isSynced = last === undefined || last === revisions.at(-1);
      watch.next = (watch.isSynced ? revision : last!) + 1;
      this.#tell(
        watch,
        changes.filter((change) => change.revision < watch.next),
      );
    }
    return moved;
  }

  /** The newest revision goes to the watches that are up to date. */
  notify(): void {
    const { revision } = this.#server;
    for (const watch of this.#watches.values()) {
      if (!watch.isSynced || watch.next > revision) continue;
      this.#tell(watch, this.#server.between(watch.from, watch.to, watch.next, revision));
      watch.next = revision + 1;
    }
  }

  /** What the server sends every ten minutes to a watch that is up to date. */
  notifyProgress(watchId: number): void {
    if (this.#watches.get(watchId)?.isSynced) this.answer({ watchId });
  }

  /** Puts any answer on its way. */
  answer(answer: FakeAnswer): void {
    this.#outgoing.push(encodeAnswer(this.#server, answer));
  }

  /** Puts anything on its way. */
  answerBytes(body: Uint8Array): void {
    this.#outgoing.push(body);
  }

  #create(reader: Reader, end: number): void {
    let [id, from, to, start, isFragmented] = [0, '', '', 0, false];
    for (let tag = reader.tag(end); tag !== 0; tag = reader.tag(end)) {
      if (tag === 0x0a) from = reader.latin1();
      else if (tag === 0x12) to = reader.latin1();
      else if (tag === 0x18) start = reader.uint();
      else if (tag === 0x38) id = reader.int();
      else if (tag === 0x40) isFragmented = reader.bool();
      else reader.skip(tag);
    }
    this.requests.push(`create ${id} from ${start}`);
    if (from.startsWith(this.#server.forbidden)) {
      const reason = 'etcdserver: permission denied';
      this.answer({ watchId: -1, created: true, canceled: true, reason });
      return;
    }
    const { revision } = this.#server;
    const next = start === 0 ? revision + 1 : start;
    this.#watches.set(id, { id, isFragmented, from, to, next, isSynced: next > revision });
    this.answer({ watchId: id, created: true });
  }

  #tell(watch: ServerWatch, changes: readonly FakeChange[]): void {
    const { fragmentEvents, messageEventsMax } = this.#server;
    if (!watch.isFragmented && changes.length > messageEventsMax) {
      this.#outgoing.push('too large');
      return;
    }
    for (let at = 0; at < changes.length; at += fragmentEvents) {
      const part = changes.slice(at, at + fragmentEvents);
      const fragment = at + fragmentEvents < changes.length;
      this.answer({ watchId: watch.id, changes: part, fragment });
    }
  }

  #end(failure: CallFailure | undefined): void {
    if (this.isEnded) return;
    this.isEnded = true;
    this.#outgoing.length = 0;
    this.#watches.clear();
    this.#options.onEnd(failure);
  }
}

function encodeAnswer(server: FakeEtcd, answer: FakeAnswer): Uint8Array {
  const writer = new Writer();
  for (const change of (answer.changes ?? []).toReversed()) {
    const event = writer.open();
    const kv = writer.open();
    if (change.value !== undefined) {
      writer.latin1(5, change.value);
      writer.uint(4, 1);
    }
    writer.uint(3, change.revision);
    if (change.value !== undefined) writer.uint(2, change.revision);
    writer.latin1(1, change.key);
    writer.close(2, kv);
    writer.uint(1, change.value === undefined ? 1 : 0);
    writer.close(11, event);
  }
  writer.bool(7, answer.fragment ?? false);
  writer.utf8(6, answer.reason ?? '');
  writer.uint(5, answer.compactRevision ?? 0);
  writer.bool(4, answer.canceled ?? false);
  writer.bool(3, answer.created ?? false);
  if (answer.watchId === -1) writer.leaseId(2, 'ffffffffffffffff' as LeaseId);
  else writer.uint(2, answer.watchId);
  const header = writer.open();
  writer.uint(3, answer.revision ?? server.revision);
  writer.leaseId(1, server.clusterId);
  writer.close(1, header);
  return writer.finish().subarray(PREFIX_BYTES);
}
