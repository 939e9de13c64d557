/**
 * Entries in one LMDB database.
 *
 * ```
 * 0x01 "state"     [0] f64 newest revision  [8] u32 times opened  [12] u32 CRC-32 of the 12 bytes before
 * 0x02 <key>       lease id, 16 characters of hex: this key hangs on a lease
 * '!' ... '~' ...  an entry's key; its record (record.ts)
 * ```
 *
 * One database, and not one for each kind, because every database that a commit touches costs it pages.
 *
 * **Durable, then visible, then acknowledged.** With `overlappingSync: false` LMDB's writer thread writes the pages
 * of a transaction, calls fdatasync, writes the meta page through a descriptor that syncs by itself, and only then
 * lets readers see it and resolves. (lmdb's default shows a commit to readers before the sync, and after a sync that
 * fails it cannot be closed any more. What it gains, a commit that starts while another one syncs, we do not use: we wait
 * for one commit before we send the next, so there is nothing to overlap.) Puts are queued on the main thread and
 * applied on LMDB's; a `batch` is one LMDB transaction. Measurements: docs/decisions/0002-embedded-store-on-lmdb.md.
 *
 * Faults: for want of space it is the pages that fail, before the meta page; the transaction is aborted and nothing
 * was written. (Where a file system needs space to overwrite, the meta page can fail too. LMDB panics then, and that
 * is no longer "nothing".) Anything else is reported as it is, and the machine stops writing. It must: after a failed
 * sync the kernel may count lost pages as clean, so that a later sync proves nothing about them; and lmdb 3.5.6 hangs
 * in the first transaction after a panic.
 *
 * Space: the file grows with the data and is never sparse; it does not shrink, but deleted pages are used again from
 * the second commit after, for LMDB keeps the state before the newest. Only the address space is mapped ahead.
 */
import { crc32 } from 'node:zlib';
import { type Database, open, type RootDatabase } from 'lmdb';
import type { Entry, Key, KeyRange, LeaseId, Revision } from '../../core/store.js';
import type { Backend, EntriesOptions, Write } from '../machine/backend.js';
import { full, isFull, readFault } from './faults.js';
import { adoptValues, corrupt, openRecord, sealRecord } from './record.js';

const STATE_KEY = '\x01state';
const STATE_BYTES = 16;
const LEASED_PREFIX = '\x02';
/** What a write costs at least: some pages of the tree. */
const COMMIT_BYTES_MIN = 65_536;
/** Everything below the first character a key may start with is ours. */
const FIRST_KEY = '!';
/** etcd, too, is at revision 1 before anything was written. */
const FIRST_REVISION = 1 as Revision;

/** Keys are ASCII, one byte a character, in byte order. */
const KEY_ENCODER = {
  writeKey(key: string, target: Buffer, start: number): number {
    const end = start + key.length;
    // lmdb takes a RangeError as the sign to give us a larger buffer; Buffer.write would cut the key instead.
    if (end > target.length) throw new RangeError('the key does not fit');
    target.write(key, start, 'latin1');
    return end;
  },
  readKey(source: Buffer, start: number, end: number): string {
    return source.toString('latin1', start, end);
  },
};

export class LmdbBackend implements Backend {
  readonly durability = 'durable';
  readonly revision: Revision;
  /** Counts how often the directory has been opened, this time included. */
  readonly incarnation: number;
  readonly #directory: string;
  readonly #database: RootDatabase<Buffer, string>;
  /** Keys with a lease record in the database. */
  readonly #leasedKeys = new Set<Key>();

  private constructor(directory: string, database: RootDatabase<Buffer, string>) {
    this.#directory = directory;
    this.#database = database;
    const state = database.get(STATE_KEY);
    this.revision = state === undefined ? FIRST_REVISION : readState(state).revision;
    this.incarnation = (state === undefined ? 0 : readState(state).incarnation) + 1;
  }

  /**
   * @param file - path of the data file, created when missing
   * @throws what LMDB throws for a file that it cannot use
   * @throws ERR_MILLRACE_STORE_CORRUPT when the state record does not decode
   * @throws ERR_MILLRACE_STORE_FULL when the opening cannot be noted
   */
  static async open(directory: string, file: string): Promise<LmdbBackend> {
    const database = open<Buffer, string>({
      path: file,
      encoding: 'binary',
      keyEncoder: KEY_ENCODER,
      overlappingSync: false,
      // A commit starts when we say so, not at the end of some turn of the event loop.
      eventTurnBatching: false,
      txnStartThreshold: 1,
      // None but the root: see the layout above.
      maxDbs: 1,
    } as Parameters<typeof open>[0]) as RootDatabase<Buffer, string>;
    try {
      const backend = new LmdbBackend(directory, database);
      // Notes the opening durably, so that lease ids are never given twice; and proves that we can write.
      await backend.commit(new Map(), backend.revision);
      return backend;
    } catch (error) {
      await database.close();
      throw error;
    }
  }

  /** Keys that hang on leases of processes that are gone. */
  orphans(): Map<LeaseId, Key[]> {
    const orphans = new Map<LeaseId, Key[]>();
    const range = { start: LEASED_PREFIX, end: FIRST_KEY };
    for (const { key, value } of this.#database.getRange(range)) {
      const leaseId = value.toString('latin1') as LeaseId;
      const keys = orphans.get(leaseId);
      if (keys === undefined) orphans.set(leaseId, [key.slice(1)]);
      else keys.push(key.slice(1));
      this.#leasedKeys.add(key.slice(1));
    }
    return orphans;
  }

  adopt(values: readonly Uint8Array[]): readonly Uint8Array[] {
    return adoptValues(values);
  }

  get(key: Key): Entry | undefined {
    try {
      const bytes = this.#database.get(key);
      return bytes === undefined ? undefined : openRecord(key, bytes);
    } catch (error) {
      throw readFault(this.#directory, error);
    }
  }

  *entries(range: KeyRange, { reverse }: EntriesOptions): Generator<Entry> {
    try {
      for (const { key, value } of this.#database.getRange(bounds(range, reverse))) {
        yield openRecord(key, value);
      }
    } catch (error) {
      throw readFault(this.#directory, error);
    }
  }

  *keys(range: KeyRange): Generator<Key> {
    try {
      yield* this.#database.getKeys(bounds(range, false));
    } catch (error) {
      throw readFault(this.#directory, error);
    }
  }

  async commit(writes: ReadonlyMap<Key, Write>, revision: Revision): Promise<void> {
    const leased: (readonly [Key, LeaseId | undefined])[] = [];
    const database = this.#database;
    let bytes = 0;
    try {
      await database.batch(() => {
        for (const [key, entry] of writes) {
          if (entry === undefined) ignore(database.remove(key));
          else ignore(database.put(key, sealRecord(entry)));
          bytes += COMMIT_BYTES_MIN + (entry?.value.length ?? 0);
          const leaseId = entry?.leaseId;
          if (leaseId !== undefined || this.#leasedKeys.has(key)) leased.push([key, leaseId]);
        }
        for (const [key, leaseId] of leased) writeLease(database, key, leaseId);
        ignore(database.put(STATE_KEY, encodeState(revision, this.incarnation)));
      });
    } catch (error) {
      const cause = await causeOf(error);
      const isFault =
        !isFull(cause, this.#directory, COMMIT_BYTES_MIN + bytes) || this.#isPanicking();
      throw isFault ? cause : full(this.#directory, cause);
    }
    for (const [key, leaseId] of leased) {
      if (leaseId === undefined) this.#leasedKeys.delete(key);
      else this.#leasedKeys.add(key);
    }
  }

  close(): Promise<void> {
    return this.#database.close();
  }

  /** Whether a meta page could not be written: LMDB then refuses everything, and what the disk has is open. */
  #isPanicking(): boolean {
    try {
      this.#database.resetReadTxn();
      this.#database.get(STATE_KEY);
      return false;
    } catch {
      return true;
    }
  }
}

function writeLease(database: Database<Buffer, string>, key: Key, leaseId?: LeaseId): void {
  if (leaseId === undefined) ignore(database.remove(LEASED_PREFIX + key));
  else ignore(database.put(LEASED_PREFIX + key, Buffer.from(leaseId, 'latin1')));
}

function encodeState(revision: Revision, incarnation: number): Buffer {
  const state = Buffer.alloc(STATE_BYTES);
  state.writeDoubleLE(revision, 0);
  state.writeUInt32LE(incarnation, 8);
  state.writeUInt32LE(crc32(state.subarray(0, 12)), 12);
  return state;
}

function readState(state: Buffer): { readonly revision: Revision; readonly incarnation: number } {
  if (state.length !== STATE_BYTES || state.readUInt32LE(12) !== crc32(state.subarray(0, 12))) {
    throw corrupt('state', 'the record of the newest revision has the wrong size or checksum');
  }
  return { revision: state.readDoubleLE(0) as Revision, incarnation: state.readUInt32LE(8) };
}

/** Ours is half-open either way; lmdb's reverse ranges start at their upper end. */
function bounds({ from, to }: KeyRange, reverse: boolean): object {
  const start = from < FIRST_KEY ? FIRST_KEY : from;
  if (!reverse) return { start, end: to };
  return { start: to, exclusiveStart: true, end: start, inclusiveEnd: true, reverse: true };
}

/** The answers within a batch say nothing: the batch's own promise does. */
function ignore(_answer: Promise<boolean>): void {}

/** lmdb rejects with a general error whose `commitError` is a promise of the reason. */
async function causeOf(error: unknown): Promise<unknown> {
  const reason = (error as { commitError?: Promise<never> }).commitError;
  return reason === undefined ? error : await reason.catch((cause: unknown) => cause);
}
