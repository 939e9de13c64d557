/**
 * Reads and transactions on one namespace of an etcd.
 *
 * Reads are linearizable, and repeated until their deadline. A transaction that writes is sent **once**, and how it
 * went is one of: done, refused, thrown (certainly not applied), unknown.
 *
 * Large ranges come in pages at the revision of the first one, sized by what the last page weighed, so that no answer
 * comes near the message limit. A compaction that overtakes the pages starts them again.
 *
 * "Database space exceeded" needs care: a member's API refuses with it before anything is proposed, but the applier
 * may *apply* a transaction and then answer the same text, when the quota was crossed between the two (quotaApplierV3
 * in server/etcdserver/apply.go). So unless the alarm was known to be on before, in which case every member refuses to
 * apply, the answer is checked against the data: a key that the transaction would have put and that still has an
 * older revision, or a store that has not moved at all, shows that nothing was written. What cannot be shown is unknown.
 */
import type { Clock } from '../../core/clock.js';
import { MillraceError } from '../../core/errors.js';
import {
  type Entry,
  type Key,
  type KeyRange,
  keyAfter,
  type Operation,
  type RangeOptions,
  type ReadOptions,
  type Revision,
  type Snapshot,
  type Txn,
  type TxnOutcome,
} from '../../core/store.js';
import { errorOf, isNoSpace, isNotApplied } from './failures.js';
import {
  COMPACT_METHOD,
  DELETE_METHOD,
  KvCodec,
  type LoneWrite,
  loneWriteOf,
  PUT_METHOD,
  RANGE_METHOD,
  type RangeQuery,
  TXN_METHOD,
  type TxnAnswer,
} from './kv-codec.js';
import { type Message, ProtobufError } from './protobuf.js';
import { callRepeating } from './repeat.js';
import { CallFailure, GrpcStatus, type Transport } from './transport.js';

/** Longer than the 7 s that a server may work on a request, so that it is usually the server who says. */
export const DEADLINE_MS = 8_000;

const PAGE_ENTRIES_FIRST = 500;
const PAGE_ENTRIES_MAX = 10_000;
/** Sixteen of the largest values would be too much already; eight fit. */
const PAGE_ENTRIES_MIN = 8;
const PAGE_BYTES = 2 * 1_024 * 1_024;
const PAGING_STARTS_MAX = 3;

/** What all namespaces of one store know together. */
export interface SharedFacts {
  /** The newest revision that any answer has named. */
  revision: Revision;
  /** Whether the last transaction that put something was refused for space. */
  isFull: boolean;
}

export class KeyValue {
  readonly #transport: Transport;
  readonly #clock: Clock;
  readonly #codec: KvCodec;
  readonly #facts: SharedFacts;

  /** @param prefix - in front of every key on the server */
  constructor(transport: Transport, clock: Clock, prefix: string, facts: SharedFacts) {
    this.#transport = transport;
    this.#clock = clock;
    this.#codec = new KvCodec(prefix);
    this.#facts = facts;
  }

  async get(key: Key, options: ReadOptions = {}): Promise<Entry | undefined> {
    const { entries } = await this.#read(this.#codec.encodeGet(key, options.revision));
    return entries[0];
  }

  async range(range: KeyRange, options: RangeOptions = {}): Promise<Snapshot> {
    for (let starts = 1; ; starts++) {
      try {
        return await this.#pages(range, options);
      } catch (thrown) {
        const isOvertaken =
          thrown instanceof MillraceError &&
          thrown.code === 'ERR_MILLRACE_COMPACTED' &&
          options.revision === undefined;
        if (!isOvertaken || starts === PAGING_STARTS_MAX) throw thrown;
      }
    }
  }

  /** @throws what the Store contract says for what certainly was not applied */
  async txn(txn: Txn, deadlineMs: number = DEADLINE_MS): Promise<TxnOutcome> {
    if (!writes(txn)) return this.#readingTxn(txn, this.#codec.encodeTxn(txn), deadlineMs);
    const lone = loneWriteOf(txn);
    const request = lone ? this.#codec.encodeLone(lone) : this.#codec.encodeTxn(txn);
    const { isFull, revision } = this.#facts;
    try {
      const body = await this.#transport.call(methodOf(lone), request, { role: 'kv', deadlineMs });
      const answer = lone ? this.#codec.decodeLone(body, lone) : this.#codec.decodeTxn(body, txn);
      this.#heard(answer.revision);
      if (isFull && answer.succeeded && putKeys(txn.success).length > 0) this.#facts.isFull = false;
      return outcomeOf(answer);
    } catch (thrown) {
      const failure = failureOf(thrown);
      if (isNoSpace(failure)) return this.#noSpace(txn, failure, { wasFull: isFull, revision });
      const error = errorOf(failure, 'txn');
      if (isNotApplied(failure)) throw error;
      return { kind: 'unknown', cause: error };
    }
  }

  /** Compacting twice is compacting once, so this is repeated like a read. */
  async compact(revision: Revision): Promise<void> {
    try {
      await callRepeating(
        this.#transport,
        this.#clock,
        COMPACT_METHOD,
        this.#codec.encodeCompact(revision),
        { role: 'kv', deadlineMs: DEADLINE_MS },
      );
    } catch (thrown) {
      const error = errorOf(failureOf(thrown), 'compact');
      if (error.code !== 'ERR_MILLRACE_COMPACTED') throw error;
    }
  }

  async #pages(range: KeyRange, options: RangeOptions): Promise<Snapshot> {
    const { limit = Number.POSITIVE_INFINITY, reverse = false, keysOnly } = options;
    const entries: Entry[] = [];
    let pageEntries = PAGE_ENTRIES_FIRST;
    let first: Snapshot | undefined;
    let rest = range;
    for (;;) {
      const left = limit - entries.length;
      const query: RangeQuery = {
        range: rest,
        revision: options.revision ?? first?.revision,
        limit: Math.min(pageEntries, left),
        reverse,
        keysOnly,
      };
      const body = await this.#readPage(query);
      if (body === undefined) {
        pageEntries = Math.max(PAGE_ENTRIES_MIN, pageEntries >> 2);
        continue;
      }
      const page = this.#decodeRange(body);
      first ??= page;
      entries.push(...page.entries);
      const last = page.entries.at(-1);
      if (!page.more || last === undefined || page.entries.length >= left) {
        return { entries, more: page.more, revision: first.revision };
      }
      rest = reverse
        ? { from: range.from, to: last.key }
        : { from: keyAfter(last.key), to: range.to };
      const fitting = Math.floor((PAGE_BYTES * page.entries.length) / body.length);
      pageEntries = Math.max(PAGE_ENTRIES_MIN, Math.min(PAGE_ENTRIES_MAX, fitting));
    }
  }

  /** The bytes of one page; undefined when they are too many for a message and a smaller page may do. */
  async #readPage(query: RangeQuery): Promise<Uint8Array | undefined> {
    try {
      return await this.#send(this.#codec.encodeRange(query));
    } catch (thrown) {
      const isTooLarge =
        thrown instanceof CallFailure &&
        thrown.status === GrpcStatus.RESOURCE_EXHAUSTED &&
        !thrown.isFromServer &&
        query.limit! > PAGE_ENTRIES_MIN;
      if (isTooLarge) return undefined;
      throw errorOf(failureOf(thrown), 'range');
    }
  }

  async #read(request: Message): Promise<Snapshot> {
    try {
      return this.#decodeRange(await this.#send(request));
    } catch (thrown) {
      throw thrown instanceof MillraceError ? thrown : errorOf(failureOf(thrown), 'range');
    }
  }

  #send(request: Message): Promise<Uint8Array> {
    const options = { role: 'kv', deadlineMs: DEADLINE_MS } as const;
    return callRepeating(this.#transport, this.#clock, RANGE_METHOD, request, options);
  }

  #decodeRange(body: Uint8Array): Snapshot {
    try {
      const snapshot = this.#codec.decodeRange(body);
      this.#heard(snapshot.revision);
      return snapshot;
    } catch (thrown) {
      throw errorOf(failureOf(thrown), 'range');
    }
  }

  async #readingTxn(txn: Txn, request: Message, deadlineMs: number): Promise<TxnOutcome> {
    const options = { role: 'kv', deadlineMs } as const;
    try {
      const body = await callRepeating(this.#transport, this.#clock, TXN_METHOD, request, options);
      const answer = this.#codec.decodeTxn(body, txn);
      this.#heard(answer.revision);
      return outcomeOf(answer);
    } catch (thrown) {
      throw errorOf(failureOf(thrown), 'txn');
    }
  }

  /** @throws ERR_MILLRACE_STORE_FULL when nothing was written for certain */
  async #noSpace(
    txn: Txn,
    failure: CallFailure,
    before: { readonly wasFull: boolean; readonly revision: Revision },
  ): Promise<TxnOutcome> {
    this.#facts.isFull = true;
    const error = errorOf(failure, 'txn');
    if (before.wasFull) throw error;
    try {
      // One transaction, so that all keys are seen at one revision.
      const gets: Operation[] = putKeys(txn.success).map((key) => ({ type: 'get', key }));
      const look: Txn = { compares: [], success: gets };
      const now = await this.#readingTxn(look, this.#codec.encodeTxn(look), DEADLINE_MS);
      if (now.kind === 'done') {
        const mayHaveFailed = txn.failure !== undefined && writes({ ...txn, success: [] });
        const isOld =
          !mayHaveFailed &&
          now.results.some(
            (result) =>
              result.type === 'get' &&
              result.entry !== undefined &&
              result.entry.modRevision <= before.revision,
          );
        if (isOld || now.revision === before.revision) throw error;
      }
    } catch (thrown) {
      if (thrown === error) throw error;
    }
    return { kind: 'unknown', cause: error };
  }

  #heard(revision: Revision): void {
    if (revision > this.#facts.revision) this.#facts.revision = revision;
  }
}

function outcomeOf({ succeeded, revision, results }: TxnAnswer): TxnOutcome {
  return { kind: succeeded ? 'done' : 'refused', revision, results };
}

function methodOf(lone: LoneWrite | undefined): string {
  if (lone === undefined) return TXN_METHOD;
  return lone.type === 'put' ? PUT_METHOD : DELETE_METHOD;
}

function writes({ success, failure = [] }: Txn): boolean {
  const isWrite = (operation: Operation): boolean =>
    operation.type === 'txn'
      ? writes(operation.txn)
      : operation.type !== 'get' && operation.type !== 'range';
  return success.some(isWrite) || failure.some(isWrite);
}

/** The keys that a list puts for certain when it runs: not those of nested transactions. */
function putKeys(operations: readonly Operation[]): Key[] {
  return operations.flatMap((operation) => (operation.type === 'put' ? [operation.key] : []));
}

/** Whatever went wrong, as a failure. An answer that does not decode leaves open what was applied. */
function failureOf(thrown: unknown): CallFailure {
  if (thrown instanceof CallFailure) return thrown;
  if (thrown instanceof ProtobufError) {
    const message = `the answer does not decode: ${thrown.message}`;
    return new CallFailure(GrpcStatus.INTERNAL, message, { wasSent: true, cause: thrown });
  }
  throw thrown;
}
