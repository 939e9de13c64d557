/**
 * RevisionCache: what this process knows of tenants' entries, each with the revision it is known for.
 *
 *   KeyIndex   hash of tenant:type:id -> address
 *   RecordSlab the records: entries, and one record for each tenant that has any
 *
 *   tenants, a ring        entries of a tenant, newest first
 *   .-> acme ------------> [theme @17] <-> [plan @12] <-> [seats @9, absent]
 *   '-- globex ----------> [plan @31]                          ^ oldest
 *
 * The revision rule: a record is replaced only by what has a higher revision. An entry's revision is that of the write
 * that put it; that of an absence is the newest at which it was seen. So what is told late, twice or out of order changes
 * nothing, and no reader is ever taken back.
 *
 * Only what is in the cache is updated; what is not there is read from the store when it is asked for. A read in
 * progress has a *pending* record in the cache, so that what is told meanwhile is not lost on it; the answer comes under
 * the revision rule like everything else. Pending records are never evicted, nor are *pinned* ones: those that somebody
 * wants to be told of.
 *
 * A tenant's record has the revision of its counter up to which everything that is cached of it is current. It says so
 * only as long as no write of the tenant is missed, which `cache-keeper.ts` sees to.
 *
 * Eviction goes from tenant to tenant (a clock): it takes a tenant's entries, oldest first, but for those that were read
 * since it last came by. A tenant without entries goes with the last one.
 *
 * Cost: find is O(length of the key), without allocation. Memory: 40 to 47 bytes and the key for an entry, 11 to 21 for
 * its slots in the index, 52 and the key for a tenant; plus the slab's reserve.
 */
import type { Random } from '../core/random.js';
import type { Entry, Key, Revision } from '../core/store.js';
import { KeyIndex } from './key-index.js';
import { KeyText } from './key-text.js';
import { type EntryName, METADATA_PREFIX } from './keys.js';
import {
  type Address,
  Field,
  Flag,
  HEADER_BYTES,
  RecordSlab,
  type Segment,
} from './record-slab.js';

/** What a tenant's record says. */
export interface TenantState {
  /** Of the counter, 0 before the tenant's first write; {@link NOT_KNOWN} until that is known. */
  readonly revision: Revision;
  /** A hash of the counter's last write, which tells histories apart. */
  readonly writer: number;
}

/** Of a tenant whose counter has not been read. */
export const NOT_KNOWN = -1 as Revision;

export interface CacheCounts {
  /** Entries and absences that are known. */
  readonly entries: number;
  readonly tenants: number;
  /** Memory held, whether in use or not. */
  readonly bytes: number;
  readonly evicted: number;
}

/** Names that are looked up together: more wait for one another no better. */
export const WARMED_MAX = 32;

const KEY_AT = METADATA_PREFIX.length;
/** Of the memory: the rest is the index's. */
const SLAB_SHARE = 0.8;
const SLOT_BYTES = 8;
const LOAD_MAX = 0.75;
/** Names of characters that stand for themselves in keys, as encodeURIComponent has it. */
const PLAIN = /^[A-Za-z0-9\-_.!~*'()]*$/;
const COLON = 0x3a;

export class RevisionCache {
  readonly #bytesMax: number;
  /** Of the key that is being looked for or added. */
  readonly #text: KeyText;
  readonly #index = new KeyIndex();
  readonly #entriesMax: number;
  /** Of the names that are warmed: hashes, then addresses; and the lengths of their texts. */
  readonly #hashes = new Uint32Array(2 * WARMED_MAX);
  #slab: RecordSlab;
  /** Where eviction stands in the ring of tenants; 0 when there is none. */
  #hand: Address = 0;
  /** How many entries of it the hand has still to look at. */
  #looksLeft = 0;
  #tenants = 0;
  #evicted = 0;

  /** @param bytesMax - for everything; at least 64 KiB */
  constructor(random: Random, bytesMax: number) {
    this.#bytesMax = bytesMax;
    this.#text = new KeyText(random);
    this.#slab = this.#newSlab();
    const slots = 2 ** Math.floor(Math.log2((bytesMax * (1 - SLAB_SHARE)) / SLOT_BYTES));
    this.#entriesMax = Math.floor(slots * LOAD_MAX);
  }

  get counts(): CacheCounts {
    return {
      entries: this.#index.size - this.#tenants,
      tenants: this.#tenants,
      bytes: this.#slab.bytes + this.#index.bytes,
      evicted: this.#evicted,
    };
  }

  // --- Reading ----------------------------------------------------------------------------------------------------

  /** The record of an entry, by its names as users give them; 0 when there is none. Allocates nothing for plain names. */
  find(tenant: string, type: string, id: string): Address {
    if (this.#text.takeNames(tenant, type, id)) {
      const address = this.#findText();
      // A key that has something encoded in it is that of other names.
      if (address !== 0 && (this.#slab.flags(address) & Flag.ENCODED) === 0) return address;
    }
    return PLAIN.test(tenant) && PLAIN.test(type) && PLAIN.test(id)
      ? 0
      : this.#findEncoded(tenant, type, id);
  }

  /**
   * Brings what {@link find} is going to look at near: of many reads in a row each waits twice for memory that is far away,
   * and of many that are asked for together all wait at once, because nothing of one depends on another.
   *
   * @param from, to - which of the names; at most {@link WARMED_MAX}
   */
  warm(names: readonly EntryName[], from: number, to: number): void {
    const hashes = this.#hashes;
    const { table, mask } = this.#index;
    const count = to - from;
    for (let i = 0; i < count; i++) {
      const { tenant, type, id } = names[from + i]!;
      hashes[i] = this.#text.takeNames(tenant, type, id) ? this.#text.hash : 0;
      hashes[WARMED_MAX + i] = this.#text.length;
    }
    // Short loops: the processor looks some hundred instructions ahead, and starts every load that it sees.
    let seen = 0;
    for (let i = 0; i < count; i++) seen ^= table[2 * (hashes[i]! & mask)]!;
    for (let i = 0; i < count; i++) {
      const hash = hashes[i]!;
      let slot = hash & mask;
      while (table[2 * slot] !== hash && table[2 * slot + 1] !== 0) slot = (slot + 1) & mask;
      hashes[i] = table[2 * slot + 1]!;
    }
    for (let i = 0; i < count; i++) {
      const address = hashes[i]!;
      const { u8 } = this.#slab.segmentOf(address);
      const at = this.#slab.offsetOf(address) + HEADER_BYTES;
      // Where the record begins, and where the key ends, behind which the value is.
      seen ^= u8[at - 4]! ^ u8[at + hashes[WARMED_MAX + i]!]!;
    }
    // Without a use for what was seen the compiler would leave the looks out.
    hashes[0] = seen;
  }

  /** The segment and the place in it of an entry's record, for the cursor. */
  segmentOf(address: Address): Segment {
    return this.#slab.segmentOf(address);
  }

  offsetOf(address: Address): number {
    return this.#slab.offsetOf(address);
  }

  /** The record of a key of the store; 0 when there is none. */
  findKey(key: Key): Address {
    return this.#text.takeKey(key, KEY_AT) ? this.#findText() : 0;
  }

  flags(address: Address): number {
    return this.#slab.flags(address);
  }

  revision(address: Address): Revision {
    return this.#slab.revision(address) as Revision;
  }

  /** The memory that a record's value lies in, until the cache changes: `[valueAt, valueAt + valueBytes)`. */
  memory(address: Address): Uint8Array {
    return this.#slab.memory(address);
  }

  valueAt(address: Address): number {
    return this.#slab.valueAt(address);
  }

  valueBytes(address: Address): number {
    return this.#slab.field(address, Field.VALUE_BYTES);
  }

  /** The key in the store. */
  keyOf(address: Address): Key {
    const at = this.#slab.keyAt(address);
    const text = this.#slab.memory(address).subarray(at, at + this.#slab.keyBytes(address));
    return (
      METADATA_PREFIX + Buffer.from(text.buffer, text.byteOffset, text.length).toString('latin1')
    );
  }

  /** Keeps a record from the next round of eviction. */
  touch(address: Address): void {
    const flags = this.#slab.flags(address);
    if ((flags & Flag.USED) === 0) this.#slab.setFlags(address, flags | Flag.USED);
  }

  // --- Entries ----------------------------------------------------------------------------------------------------

  /**
   * An entry is going to be read from the store: it gets a record, and keeps the one it has.
   *
   * @returns false when there is no room for one; then the answer cannot be kept
   */
  begin(key: Key, counter: Key): boolean {
    return this.#hold(key, counter, Flag.PENDING);
  }

  /** The read is over, whatever came of it. */
  end(key: Key): void {
    const address = this.findKey(key);
    if (address === 0) return;
    this.#release(address, Flag.PENDING);
  }

  /** Somebody wants to be told of an entry: its record stays until {@link unpin}. @returns false when there is no room */
  pin(key: Key, counter: Key): boolean {
    return this.#hold(key, counter, Flag.PINNED);
  }

  unpin(key: Key): void {
    const address = this.findKey(key);
    if (address !== 0) this.#release(address, Flag.PINNED);
  }

  /** Takes an entry in, if it has a record and is newer. @returns whether it did */
  apply(entry: Entry): boolean {
    const { key, value, modRevision, leaseId } = entry;
    const flags = leaseId === undefined ? 0 : Flag.LEASED;
    return this.#replace(key, modRevision, flags, value);
  }

  /** Takes in that an entry was absent at a revision, if it has a record and that is newer. */
  applyAbsence(key: Key, revision: Revision): boolean {
    return this.#replace(key, revision, Flag.ABSENT, NO_BYTES);
  }

  /** An entry has changed, at a revision, to what is not known here. */
  invalidate(key: Key, revision: Revision): void {
    const address = this.findKey(key);
    if (address === 0 || this.#slab.revision(address) >= revision) return;
    const flags = this.#slab.flags(address);
    if ((flags & HELD) === 0) return this.#remove(address);
    this.#slab.setFlags(address, flags | Flag.UNKNOWN);
    this.#slab.setRevision(address, revision - 1);
  }

  // --- Tenants ----------------------------------------------------------------------------------------------------

  /** What is known of a tenant, by its counter's key; undefined when nothing of it is cached. */
  tenant(counter: Key): TenantState | undefined {
    const address = this.findKey(counter);
    if (address === 0) return undefined;
    return {
      revision: this.#slab.revision(address) as Revision,
      writer: this.#slab.field(address, Field.WRITER),
    };
  }

  /** The revision up to which a tenant's cached entries are current; {@link NOT_KNOWN} when none are. */
  tenantRevision(counter: Key): Revision {
    const address = this.findKey(counter);
    return address === 0 ? NOT_KNOWN : (this.#slab.revision(address) as Revision);
  }

  /** Everything that is cached of a tenant is current up to a revision, if that is newer than what is known. */
  advance(counter: Key, { revision, writer }: TenantState): void {
    const address = this.findKey(counter);
    if (address === 0 || this.#slab.revision(address) >= revision) return;
    this.#slab.setRevision(address, revision);
    this.#slab.setField(address, Field.WRITER, writer);
  }

  /** The counters of all tenants that are cached. */
  counters(): Key[] {
    const keys: Key[] = [];
    let address = this.#hand;
    for (let i = 0; i < this.#tenants; i++) {
      keys.push(this.keyOf(address));
      address = this.#slab.field(address, Field.NEXT);
    }
    return keys;
  }

  /** How many entries of a tenant have a record. */
  countOf(counter: Key): number {
    const address = this.findKey(counter);
    return address === 0 ? 0 : this.#slab.field(address, Field.COUNT);
  }

  /** The records of a tenant's entries, newest first. */
  *entriesOf(counter: Key): Generator<Address> {
    const tenant = this.findKey(counter);
    if (tenant === 0) return;
    let address = this.#slab.field(tenant, Field.OTHER);
    while (address !== 0) {
      const next = this.#slab.field(address, Field.NEXT);
      yield address;
      address = next;
    }
  }

  /** Forgets a tenant, but for what is being read and what somebody wants to be told of. */
  evict(counter: Key): void {
    for (const address of this.entriesOf(counter)) {
      if ((this.#slab.flags(address) & HELD) === 0) this.#remove(address);
    }
  }

  /** Forgets everything. Reads that are in progress are not kept. */
  clear(): void {
    this.#index.clear();
    this.#slab = this.#newSlab();
    this.#hand = 0;
    this.#looksLeft = 0;
    this.#tenants = 0;
  }

  // --- Records ----------------------------------------------------------------------------------------------------

  #newSlab(): RecordSlab {
    return new RecordSlab(this.#bytesMax * SLAB_SHARE, (from, to) => this.#moved(from, to));
  }

  #hold(key: Key, counter: Key, flag: number): boolean {
    const found = this.findKey(key);
    if (found !== 0) {
      this.#slab.setFlags(found, this.#slab.flags(found) | flag);
      return true;
    }
    if (this.findKey(counter) === 0 && !this.#addTenant(counter)) return false;
    return this.#add(key, counter, { valueBytes: 0, flags: flag | Flag.UNKNOWN }) !== 0;
  }

  #release(address: Address, flag: number): void {
    const flags = this.#slab.flags(address) & ~flag;
    this.#slab.setFlags(address, flags);
    // What nobody holds any more, and of which nothing is known, is of no use.
    if ((flags & HELD) === 0 && (flags & Flag.UNKNOWN) !== 0) this.#remove(address);
  }

  #replace(key: Key, revision: number, kind: number, value: Uint8Array): boolean {
    const old = this.findKey(key);
    if (old === 0 || this.#slab.revision(old) >= revision) return false;
    const flags = (this.#slab.flags(old) & (HELD | Flag.USED | Flag.ENCODED)) | kind;
    if (this.valueBytes(old) === value.length) {
      this.#slab.memory(old).set(value, this.#slab.valueAt(old));
      this.#slab.setFlags(old, flags);
      this.#slab.setRevision(old, revision);
      return true;
    }
    const counter = this.#counterOf(old);
    // Not to be evicted while room is made for what replaces it.
    this.#slab.setFlags(old, this.#slab.flags(old) | Flag.PENDING);
    const added = this.#append(key, { valueBytes: value.length, flags });
    const was = this.findKey(key);
    if (added === 0) {
      // No room: what is known is out of date, and goes.
      this.#slab.setFlags(was, (flags & (HELD | Flag.ENCODED)) | Flag.UNKNOWN);
      this.#slab.setRevision(was, revision - 1);
      if ((flags & HELD) === 0) this.#remove(was);
      return false;
    }
    this.#slab.setRevision(added, revision);
    this.#slab.memory(added).set(value, this.#slab.valueAt(added));
    this.#unlink(was, counter);
    this.#index.move(this.#slab.field(was, Field.HASH), was, added);
    this.#slab.drop(was);
    this.#link(added, counter);
    return true;
  }

  #add(key: Key, counter: Key, record: NewRecord): Address {
    // Counted before it is there, so that the tenant stays while room is made.
    this.#count(counter, 1);
    const address = this.#append(key, record);
    this.#count(counter, -1);
    if (address === 0) {
      this.#removeIfEmpty(counter);
      return 0;
    }
    this.#index.insert(this.#slab.field(address, Field.HASH), address);
    this.#link(address, counter);
    return address;
  }

  #count(counter: Key, by: number): void {
    const tenant = this.findKey(counter);
    this.#slab.setField(tenant, Field.COUNT, this.#slab.field(tenant, Field.COUNT) + by);
  }

  #removeIfEmpty(counter: Key): void {
    const tenant = this.findKey(counter);
    if (tenant !== 0 && this.#slab.field(tenant, Field.COUNT) === 0) this.#removeTenant(tenant);
  }

  #addTenant(counter: Key): boolean {
    const address = this.#append(counter, { valueBytes: 0, flags: Flag.TENANT });
    if (address === 0) return false;
    this.#slab.setRevision(address, NOT_KNOWN);
    this.#index.insert(this.#slab.field(address, Field.HASH), address);
    this.#tenants++;
    if (this.#hand === 0) {
      this.#hand = address;
      this.#slab.setField(address, Field.NEXT, address);
      this.#slab.setField(address, Field.PREVIOUS, address);
    } else {
      // Behind the hand: it comes by last.
      const before = this.#slab.field(this.#hand, Field.PREVIOUS);
      this.#slab.setField(address, Field.PREVIOUS, before);
      this.#slab.setField(address, Field.NEXT, this.#hand);
      this.#slab.setField(before, Field.NEXT, address);
      this.#slab.setField(this.#hand, Field.PREVIOUS, address);
    }
    return true;
  }

  /** Makes room and a record; 0 when there can be none. May move and evict others. */
  #append(key: Key, { valueBytes, flags }: NewRecord): Address {
    const isTenant = (flags & Flag.TENANT) !== 0;
    const bytes = RecordSlab.recordBytes(key.length - KEY_AT, valueBytes, isTenant);
    if (bytes > this.#slab.recordBytesMax) return 0;
    while (
      this.#slab.liveBytes + bytes > this.#slab.liveBytesMax ||
      this.#index.size >= this.#entriesMax
    ) {
      if (!this.#evictOne()) return 0;
    }
    // Only now: making room looks other keys up.
    if (!this.#text.takeKey(key, KEY_AT)) return 0;
    const encoded = key.includes('%', KEY_AT) ? Flag.ENCODED : 0;
    return this.#slab.append(key.slice(KEY_AT), this.#text.hash, valueBytes, flags | encoded);
  }

  #remove(address: Address): void {
    const counter = this.#counterOf(address);
    this.#unlink(address, counter);
    this.#index.remove(this.#slab.field(address, Field.HASH), address);
    this.#slab.drop(address);
    this.#removeIfEmpty(counter);
  }

  #removeTenant(address: Address): void {
    const next = this.#slab.field(address, Field.NEXT);
    const previous = this.#slab.field(address, Field.PREVIOUS);
    this.#slab.setField(previous, Field.NEXT, next);
    this.#slab.setField(next, Field.PREVIOUS, previous);
    if (this.#hand === address) {
      this.#hand = next === address ? 0 : next;
      this.#looksLeft = 0;
    }
    this.#index.remove(this.#slab.field(address, Field.HASH), address);
    this.#slab.drop(address);
    this.#tenants--;
  }

  #link(address: Address, counter: Key): void {
    const tenant = this.findKey(counter);
    const newest = this.#slab.field(tenant, Field.OTHER);
    this.#slab.setField(address, Field.NEXT, newest);
    this.#slab.setField(address, Field.PREVIOUS, 0);
    if (newest === 0) this.#slab.setField(tenant, Field.OLDEST, address);
    else this.#slab.setField(newest, Field.PREVIOUS, address);
    this.#slab.setField(tenant, Field.OTHER, address);
    this.#count(counter, 1);
  }

  #unlink(address: Address, counter: Key): void {
    const tenant = this.findKey(counter);
    const next = this.#slab.field(address, Field.NEXT);
    const previous = this.#slab.field(address, Field.PREVIOUS);
    if (previous === 0) this.#slab.setField(tenant, Field.OTHER, next);
    else this.#slab.setField(previous, Field.NEXT, next);
    if (next === 0) this.#slab.setField(tenant, Field.OLDEST, previous);
    else this.#slab.setField(next, Field.PREVIOUS, previous);
    this.#count(counter, -1);
  }

  /** Takes the next entry whose turn it is. @returns false when nothing may go */
  #evictOne(): boolean {
    for (let turns = 0; turns < 2 * this.#tenants + 2 && this.#hand !== 0; ) {
      if (this.#looksLeft === 0) {
        this.#hand = this.#slab.field(this.#hand, Field.NEXT);
        this.#looksLeft = this.#slab.field(this.#hand, Field.COUNT);
        turns++;
        continue;
      }
      this.#looksLeft--;
      const oldest = this.#slab.field(this.#hand, Field.OLDEST);
      if (oldest === 0) continue;
      const flags = this.#slab.flags(oldest);
      if ((flags & (HELD | Flag.USED)) === 0) {
        this.#evicted++;
        this.#remove(oldest);
        return true;
      }
      this.#slab.setFlags(oldest, flags & ~Flag.USED);
      const counter = this.#counterOf(oldest);
      this.#unlink(oldest, counter);
      this.#link(oldest, counter);
    }
    return false;
  }

  /** A record has been copied: everything that points to it follows. */
  #moved(from: Address, to: Address): void {
    this.#index.move(this.#slab.field(to, Field.HASH), from, to);
    const next = this.#slab.field(to, Field.NEXT);
    const previous = this.#slab.field(to, Field.PREVIOUS);
    if ((this.#slab.flags(to) & Flag.TENANT) !== 0) {
      if (this.#hand === from) this.#hand = to;
      if (next === from) {
        this.#slab.setField(to, Field.NEXT, to);
        this.#slab.setField(to, Field.PREVIOUS, to);
      } else {
        this.#slab.setField(next, Field.PREVIOUS, to);
        this.#slab.setField(previous, Field.NEXT, to);
      }
      return;
    }
    if (next !== 0) this.#slab.setField(next, Field.PREVIOUS, to);
    if (previous !== 0) this.#slab.setField(previous, Field.NEXT, to);
    if (next !== 0 && previous !== 0) return;
    const tenant = this.findKey(this.#counterOf(to));
    if (previous === 0) this.#slab.setField(tenant, Field.OTHER, to);
    if (next === 0) this.#slab.setField(tenant, Field.OLDEST, to);
  }

  // --- Names ------------------------------------------------------------------------------------------------------

  /** The counter of an entry's tenant. */
  #counterOf(address: Address): Key {
    const memory = this.#slab.memory(address);
    const at = this.#slab.keyAt(address);
    let name = METADATA_PREFIX;
    for (let i = at; memory[i] !== COLON; i++) name += String.fromCharCode(memory[i]!);
    return `${name}:revision`;
  }

  #findEncoded(tenant: string, type: string, id: string): Address {
    try {
      const parts = [tenant, type, id].map(encodeURIComponent);
      return this.findKey(`${METADATA_PREFIX}${parts.join(':')}`);
    } catch {
      // No well-formed text, so no entry's name; who reads it past the cache is told.
      return 0;
    }
  }

  /** The record of the text that was taken; 0 when there is none. */
  #findText(): Address {
    const text = this.#text;
    const { hash, length } = text;
    const { table, mask } = this.#index;
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const address = table[2 * slot + 1]!;
      if (address === 0) return 0;
      if (table[2 * slot] !== hash || this.#slab.keyBytes(address) !== length) continue;
      const { u8, u32 } = this.#slab.segmentOf(address);
      if (text.isAt(u8, u32, this.#slab.keyAt(address) >>> 2)) return address;
    }
  }
}

interface NewRecord {
  readonly valueBytes: number;
  readonly flags: number;
}

const NO_BYTES = new Uint8Array(0);
/** Neither evicted nor forgotten. */
const HELD = Flag.PENDING | Flag.PINNED;
