/**
 * Writes of tenant metadata: each one transaction, whose outcome is always found out if it can be.
 *
 *   if    mod(ns:{tenant}:revision) == as known   and   mod(entry) == as the caller expects, where he does
 *   then  put ns:{tenant}:revision, put and delete entries
 *   else  get ns:{tenant}:revision, get the entries with expectations
 *
 * Why the counter is compared, and not only the entries: it gives every write of a tenant a place in one line. So each
 * write knows its predecessor (which is how caches see that they missed one), the transaction can be sent twice and
 * applies once, and what became of a write without an answer can be read afterwards. The price is that two nodes that
 * write to one tenant at the same time collide: one of them is refused, and goes on from the counter that the refusal
 * brought. Tenants are many and written rarely; writes of one node to one tenant queue in the node.
 *
 *   sent -- done ------------------------------------------------------------------> done
 *     ^ '-- refused -- an entry is not as expected --------------------------------> ERR_MILLRACE_STALE_REVISION
 *     |        '------ the counter has moved on: with our write in it -------------> done
 *     |        |                                 without it: next content ---.
 *     '--------|-------------------------------------------------------------'
 *     |        '------ it has moved on further than it remembers ------------------> unknown
 *     '-- no answer: read the counter; it stands where it stood: the same again, until the time is up -> unknown
 *
 * Invariant: content changes only after the counter has moved past what the old content was compared with, so no copy
 * of it that is still under way can be applied.
 */
import { isTransient } from '../core/backoff.js';
import { type Clock, sleep } from '../core/clock.js';
import { invariant, isMillraceError, MillraceError } from '../core/errors.js';
import type { Random } from '../core/random.js';
import type {
  Compare,
  Entry,
  Key,
  LeaseId,
  Operation,
  OperationResult,
  Revision,
  Store,
  TxnOutcome,
} from '../core/store.js';
import { counterKey } from './keys.js';
import {
  NO_WRITES,
  nextCounterValue,
  readCounter,
  type TenantCounter,
  WRITES_KEPT,
  type WriteId,
} from './tenant-counter.js';

/** One change of a write. */
export interface Change {
  readonly key: Key;
  /** Stored form; undefined deletes. */
  readonly value: Uint8Array | undefined;
  /** Only if the entry's revision is this; 0: only if it is not there. */
  readonly ifRevision: Revision | undefined;
  /** The lease the entry ends with. */
  readonly leaseId?: LeaseId | undefined;
}

/** A write that was applied. */
export interface Written {
  /** Of the store, after it. When the answer was lost and had to be found out, perhaps that of a later write. */
  readonly revision: Revision;
  /** Of the tenant's write before it. */
  readonly previous: Revision;
  /** Whether `revision` is exactly this write's. */
  readonly isExact: boolean;
}

/** How long one write is tried before its outcome counts as unknown, or, if it was never sent, as failed. */
const WRITE_MS_MAX = 15_000;
/** Counters of tenants that were written to lately. */
const COUNTERS_KEPT = 1_024;
const PAUSE_MS_MIN = 10;
const PAUSE_MS_MAX = 500;
/** `operationsMax` without the counter's own. */
export const CHANGES_MAX = 127;

export class TenantWriter {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #store: Store;
  /** By their keys, the longest unused first. */
  readonly #counters = new Map<Key, TenantCounter>();
  /** The end of each tenant's queue. */
  readonly #queues = new Map<string, Promise<unknown>>();

  constructor(clock: Clock, random: Random, store: Store) {
    this.#clock = clock;
    this.#random = random;
    this.#store = store;
  }

  /** Takes note that somebody else has written to a tenant: it saves the next write here a refusal. */
  saw(counter: Entry): void {
    const known = this.#counters.get(counter.key);
    if (known !== undefined && known.revision < counter.modRevision) {
      this.#counters.set(counter.key, readCounter(counter));
    }
  }

  /**
   * Applies changes of one tenant at once. Writes of this process to one tenant happen in the order of the calls.
   *
   * @param changes - 1 to {@link CHANGES_MAX}, of different keys, checked
   * @throws ERR_MILLRACE_STALE_REVISION when an entry is not as expected; nothing was written
   * @throws ERR_MILLRACE_STORE_UNAVAILABLE, with `details.outcome`: `'unknown'` when it may have been applied and may
   *   still be, `'not applied'` otherwise
   * @throws ERR_MILLRACE_STORE_FULL, ERR_MILLRACE_LEASE_LOST; nothing was written
   */
  write(tenant: string, changes: readonly Change[]): Promise<Written> {
    const before = this.#queues.get(tenant) ?? Promise.resolve();
    const written = before.then(() => this.#write(tenant, changes));
    const end = written.catch(() => {});
    this.#queues.set(tenant, end);
    void end.then(() => {
      if (this.#queues.get(tenant) === end) this.#queues.delete(tenant);
    });
    return written;
  }

  async #write(tenant: string, changes: readonly Change[]): Promise<Written> {
    const deadlineMs = this.#clock.monoMs() + WRITE_MS_MAX;
    const id = this.#newId();
    const key = counterKey(tenant);
    let counter = this.#counters.get(key) ?? (await this.#read(key));
    for (let round = 0; ; round++) {
      const outcome = await this.#send(tenant, { counter, changes, id, deadlineMs });
      if (outcome.kind === 'done') {
        this.#keep(key, appliedTo(counter, id, outcome.revision));
        return { revision: outcome.revision, previous: counter.revision, isExact: true };
      }
      const [found, ...entries] = outcome.results.map(entryOf);
      const current = readCounter(found);
      this.#keep(key, current);
      const ours = foundOut(counter, current, id);
      if (ours !== undefined) return ours;
      if (outcome.isDoubtful && !remembers(current, counter)) throw lost(tenant);
      throwIfStale(changes, entries);
      invariant(current.revision !== counter.revision, 'tenant-writer-refused');
      if (this.#clock.monoMs() >= deadlineMs) throw contended(tenant);
      counter = current;
      if (round > 0) await this.#pause(round);
    }
  }

  /** Sends one content until it is known whether it was applied. */
  async #send(
    tenant: string,
    content: {
      readonly counter: TenantCounter;
      readonly changes: readonly Change[];
      readonly id: WriteId;
      readonly deadlineMs: number;
    },
  ): Promise<Exclude<TxnOutcome, { kind: 'unknown' }> & { readonly isDoubtful: boolean }> {
    const { counter, changes, id, deadlineMs } = content;
    const key = counterKey(tenant);
    const expecting = changes.filter(({ ifRevision }) => ifRevision !== undefined);
    const txn = {
      compares: [
        modIs(key, counter.revision),
        ...expecting.map((change) => modIs(change.key, change.ifRevision!)),
      ],
      success: [
        { type: 'put' as const, key, value: nextCounterValue(counter, id) },
        ...changes.map(operationOf),
      ],
      failure: [{ type: 'get' as const, key }, ...expecting.map((change) => getOf(change.key))],
    };
    let isDoubtful = false;
    for (let tries = 1; ; tries++) {
      const isLate = (): boolean => this.#clock.monoMs() >= deadlineMs;
      try {
        const outcome = await this.#store.txn(txn);
        if (outcome.kind !== 'unknown') return { ...outcome, isDoubtful };
        isDoubtful = true;
        if (isLate()) throw unknown(tenant, outcome.cause);
      } catch (error) {
        // What is refused for certain says nothing of the copies before it.
        if (!isTransient(error)) throw isDoubtful ? unknown(tenant, error) : error;
        if (isLate()) throw isDoubtful ? unknown(tenant, error) : notApplied(tenant, error);
      }
      await this.#pause(tries);
      if (!isDoubtful) continue;
      // What became of it is read first. It is sent again only while the counter stands where it stood, and then as
      // the same content under the same compare: of all copies one applies.
      const results = await this.#readAll([key, ...expecting.map((change) => change.key)]);
      const seen = results && entryOf(results[0]!);
      if (results !== undefined && (seen?.modRevision ?? 0) !== counter.revision) {
        return { kind: 'refused', revision: counter.revision, results, isDoubtful };
      }
    }
  }

  async #readAll(keys: readonly Key[]): Promise<readonly OperationResult[] | undefined> {
    try {
      const outcome = await this.#store.txn({ compares: [], success: keys.map(getOf) });
      return outcome.kind === 'done' ? outcome.results : undefined;
    } catch (error) {
      // Whatever it is, it says nothing of the write that is in doubt.
      if (!isMillraceError(error)) throw error;
      return undefined;
    }
  }

  async #read(key: Key): Promise<TenantCounter> {
    try {
      return readCounter(await this.#store.get(key));
    } catch (error) {
      if (!isTransient(error)) throw error;
      // Perhaps nobody has written to it. If somebody has, the refusal tells.
      return NO_WRITES;
    }
  }

  #keep(key: Key, counter: TenantCounter): void {
    this.#counters.delete(key);
    this.#counters.set(key, counter);
    if (this.#counters.size <= COUNTERS_KEPT) return;
    for (const oldest of this.#counters.keys()) {
      this.#counters.delete(oldest);
      return;
    }
  }

  #newId(): WriteId {
    const draw = (): string => this.#random.u32().toString(36).slice(-4).padStart(4, '0');
    return `${draw()}${draw()}` as WriteId;
  }

  /** Longer from round to round, and never as long as somebody else's. */
  #pause(round: number): Promise<void> {
    const stepMs = Math.min(PAUSE_MS_MAX, PAUSE_MS_MIN * 2 ** Math.min(round, 10));
    return sleep(this.#clock, stepMs * (0.2 + 0.8 * this.#random.float()));
  }
}

function appliedTo(counter: TenantCounter, id: WriteId, revision: Revision): TenantCounter {
  return {
    count: counter.count + 1,
    revision,
    previous: counter.revision,
    writes: [id, ...counter.writes].slice(0, WRITES_KEPT),
  };
}

/** Our write, if a counter that is further than `before` has it. */
function foundOut(before: TenantCounter, now: TenantCounter, id: WriteId): Written | undefined {
  const at = now.writes.indexOf(id);
  if (at < 0) return undefined;
  return { revision: now.revision, previous: before.revision, isExact: at === 0 };
}

/** Whether a counter still has the write that followed on `before`. */
function remembers(now: TenantCounter, before: TenantCounter): boolean {
  const since = now.count - before.count;
  return since > 0 && since <= now.writes.length;
}

function throwIfStale(changes: readonly Change[], entries: readonly (Entry | undefined)[]): void {
  const expecting = changes.filter(({ ifRevision }) => ifRevision !== undefined);
  for (const [index, { key, ifRevision }] of expecting.entries()) {
    const current = entries[index]?.modRevision ?? 0;
    if (current === ifRevision) continue;
    throw new MillraceError(
      'ERR_MILLRACE_STALE_REVISION',
      current === 0
        ? `${key} is not there, expected was revision ${ifRevision}; read it again`
        : `${key} is at revision ${current}, expected was ${ifRevision}; read it again`,
      { details: { key, expected: ifRevision, current } },
    );
  }
}

function modIs(key: Key, operand: number): Compare {
  return { target: 'mod', key, operator: '=', operand };
}

function getOf(key: Key): Operation {
  return { type: 'get', key };
}

function operationOf({ key, value, leaseId }: Change): Operation {
  if (value === undefined) return { type: 'delete', key };
  return leaseId === undefined ? { type: 'put', key, value } : { type: 'put', key, value, leaseId };
}

function entryOf(result: OperationResult): Entry | undefined {
  return result.type === 'get' ? result.entry : undefined;
}

function unknown(tenant: string, cause: unknown): MillraceError {
  return new MillraceError(
    'ERR_MILLRACE_STORE_UNAVAILABLE',
    `the store did not say what became of a write to tenant '${tenant}'; it may have been applied, and may still be: read before writing again`,
    { details: { tenant, outcome: 'unknown' }, cause },
  );
}

function lost(tenant: string): MillraceError {
  return new MillraceError(
    'ERR_MILLRACE_STORE_UNAVAILABLE',
    `a write to tenant '${tenant}' got no answer, and more than ${WRITES_KEPT} others have followed: whether it was applied cannot be told; read before writing again`,
    { details: { tenant, outcome: 'unknown' } },
  );
}

function notApplied(tenant: string, cause: unknown): MillraceError {
  return new MillraceError(
    'ERR_MILLRACE_STORE_UNAVAILABLE',
    `the store took no write to tenant '${tenant}' within ${WRITE_MS_MAX} ms; nothing was written`,
    { details: { tenant, outcome: 'not applied' }, cause },
  );
}

function contended(tenant: string): MillraceError {
  return new MillraceError(
    'ERR_MILLRACE_STORE_UNAVAILABLE',
    `others kept writing to tenant '${tenant}' for ${WRITE_MS_MAX} ms; nothing was written: try again, or spread its writes over more tenants`,
    { details: { tenant, outcome: 'not applied' } },
  );
}
