/**
 * Place: this process's place in the line for a name, by the recipe that etcd's own clients use (`etcdctl lock`,
 * `etcdctl elect`, Go's concurrency package), so that all of them queue for the same name.
 *
 *   key    <name>/<lease id in lower-case hex>, hung on the lease          order    by create revision
 *
 *   join     if    create(own key) == 0
 *            then  put own key, range the line       -> in the line, at this revision
 *            else  get own key, range the line       -> was in it already: an answer had been lost
 *   wait     until the nearest key with a lower create revision is deleted
 *   confirm  if    mod(own key) == as last known
 *            then  put own key, range the line     -> still in the line, a new mod revision, and who is ahead now
 *            else  get own key, range the line
 *   leave    if    create(own key) == ours  then  delete own key
 *
 * Whoever joins later has a higher create revision, so those ahead only get fewer. The nearest is watched from the
 * revision of the read that showed it, so that its deletion cannot be missed. Usually it was the last: the others held
 * and went before it. It may also have given up, so the line is looked at again before anybody enters, as part of
 * `confirm`. Watching all that were seen ahead one after another would be right as well, and slow: a watch that
 * begins in the past is served by etcd within 100 ms, not at once (syncWatchersLoop), and a line of fifty took five
 * seconds for every hand-off. The price is that `join` and the `confirm` after a wait list the whole line, about 100
 * bytes for each process in it.
 *
 * Unknown outcomes. Join and leave may be sent again, because their compares let at most one of the copies apply
 * while the key exists or does not; `confirm` compares the mod revision, so a late copy of it cannot change a key
 * that has moved on. What remains is a join that applies after everybody has left: `mayLinger` says that it can
 * happen, and the owner of the place looks once more when it cannot happen any longer.
 *
 * Every loop here ends with the signal it is given, which its owner lets abort with the tenure at the latest: what hung
 * on the lease is then the store's to delete.
 * Source: go.etcd.io/etcd client/v3/concurrency (mutex.go, election.go, key.go), read at 3.5 and 3.6.
 */

import { Backoff, isTransient } from '../core/backoff.js';
import type { Clock } from '../core/clock.js';
import { hasCode, MillraceError } from '../core/errors.js';
import type { Random } from '../core/random.js';
import {
  type Compare,
  type Entry,
  type Key,
  keyAfter,
  type LockSpace,
  type Operation,
  type OperationResult,
  prefixRange,
  type Revision,
  type Txn,
  type TxnOutcome,
} from '../core/store.js';
import { unlessAborted } from '../core/unless-aborted.js';
import { FirstAbort } from './first-abort.js';
import type { Session, Tenure } from './session.js';

/** Where a line is, and by what to stand in it. */
export interface LineContext {
  readonly clock: Clock;
  readonly random: Random;
  readonly space: LockSpace;
  readonly session: Session;
}

/** A transaction's outcome once it is known. */
type Known = Exclude<TxnOutcome, { kind: 'unknown' }>;

/** What a place confirmed knows of the line. */
export interface Standing {
  readonly othersWait: boolean;
}

/** etcd gives a request up after 7 s at the latest; by then a join without an answer has applied, or never will. */
export const LINGER_MS = 10_000;
/** After so long without news the line is read again: a wait must not depend on one event that never came. */
const SILENCE_MS = 5_000;
/** Ourselves and one more are enough to know that we are not alone. */
const TWO = 2;

export class Place {
  readonly key: Key;
  readonly tenure: Tenure;
  readonly #context: LineContext;
  readonly #line: string;
  readonly #value: Uint8Array;
  #createRevision = 0 as Revision;
  #modRevision = 0 as Revision;
  #readAt = 0 as Revision;
  #ahead: Entry[] = [];
  #mayLinger = false;

  /**
   * @param line - prefix of the line's keys, with its final slash
   * @param value - what others see of us
   */
  constructor(context: LineContext, tenure: Tenure, line: string, value: Uint8Array) {
    this.#context = context;
    this.tenure = tenure;
    this.#line = line;
    this.#value = value;
    this.key = `${line}${tenure.leaseId}`;
  }

  /** Rises along the line. 0 before `join`. */
  get createRevision(): Revision {
    return this.#createRevision;
  }

  /** Revision of the last put that is known of; what {@link compare} stands on. */
  get modRevision(): Revision {
    return this.#modRevision;
  }

  /** Who was ahead when we joined and has not gone as far as we know; the first of the line comes last. */
  get ahead(): readonly Entry[] {
    return this.#ahead;
  }

  /** Whether a join without an answer may still apply after we have left, up to {@link LINGER_MS} after it was sent. */
  get mayLinger(): boolean {
    return this.#mayLinger;
  }

  /** The condition under which a transaction of the lock space still is ours. */
  get compare(): Compare {
    return { target: 'mod', key: this.key, operator: '=', operand: this.#modRevision };
  }

  /**
   * Takes a place in the line.
   *
   * @returns whether it is a new key; false when the own key was there already
   * @throws the signal's reason; ERR_MILLRACE_LEASE_LOST with the tenure; ERR_MILLRACE_STORE_FULL
   * @throws ERR_MILLRACE_INVALID_OPTION when keys of longer names stand under this one
   */
  async join(signal: AbortSignal): Promise<boolean> {
    const range = { type: 'range', range: prefixRange(this.#line) } as const;
    const txn: Txn = {
      compares: [{ target: 'create', key: this.key, operator: '=', operand: 0 }],
      success: [this.#put(), range],
      failure: [{ type: 'get', key: this.key }, range],
    };
    const known = await this.#ask(signal, txn, () => {
      this.#mayLinger = true;
    });
    const line = entriesOf(known.results[1]);
    const own = line.find(({ key }) => key === this.key);
    // The range of the same transaction shows the own key; without one the store broke its contract.
    if (own === undefined) throw lineChanged(this.key);
    this.#createRevision = own.createRevision;
    this.#modRevision = own.modRevision;
    this.#readAt = known.revision;
    this.#ahead = this.#before(line);
    return known.kind === 'done';
  }

  /**
   * Waits until nobody is ahead. Whether the own key outlived the wait is not known then.
   *
   * @throws the signal's reason; ERR_MILLRACE_LEASE_LOST with the tenure
   */
  async wait(signal: AbortSignal): Promise<void> {
    while (await this.#nearestGone(signal)) {
      this.#ahead.shift();
      if (this.#ahead.length > 0) await this.#readLine(signal);
    }
  }

  /**
   * Waits until nobody is ahead, and confirms the place.
   *
   * @returns as {@link confirm}
   * @throws the signal's reason; ERR_MILLRACE_LEASE_LOST with the tenure
   */
  async enter(signal: AbortSignal): Promise<Standing | undefined> {
    for (;;) {
      await this.#nearestGone(signal);
      const standing = await this.#confirm(signal, {});
      if (standing === undefined || this.#ahead.length === 0) return standing;
    }
  }

  /**
   * Puts the own key again, which shows that it is still there and gives it a new mod revision. Only for the first of
   * the line.
   *
   * @returns undefined when the own key is gone
   * @throws the signal's reason; ERR_MILLRACE_LEASE_LOST with the tenure
   */
  confirm(signal: AbortSignal): Promise<Standing | undefined> {
    return this.#confirm(signal, { limit: TWO });
  }

  /** Whether the own key is still there as it was put. @throws like {@link confirm} */
  async isStanding(signal: AbortSignal): Promise<boolean> {
    const backoff = new Backoff(this.#context.clock, this.#context.random);
    for (;;) {
      signal.throwIfAborted();
      this.#requireTenure();
      try {
        const entry = await this.#context.space.store.get(this.key);
        return entry?.createRevision === this.#createRevision;
      } catch (error) {
        if (!isTransient(error)) throw error;
        await backoff.pause(signal);
      }
    }
  }

  /**
   * Gives the place up: deletes the own key, and goes on trying until the store has said so or the tenure is over. With the
   * tenure the wait for an answer is over as well: the store deletes the key with the lease, whatever came of the try.
   *
   * @param onTried - called after the first try, whatever came of it, and with the tenure at the latest
   */
  leave(onTried: () => void = () => {}): Promise<void> {
    const { key, createRevision } = this;
    // Without a revision the answer to join never came: whatever stands there is ours.
    if (createRevision === 0) return this.sweep(onTried);
    return this.#delete({ target: 'create', key, operator: '=', operand: createRevision }, onTried);
  }

  /** Deletes whatever stands under the own key. Only while nobody in this process uses it. */
  sweep(onTried: () => void = () => {}): Promise<void> {
    return this.#delete({ target: 'create', key: this.key, operator: '>', operand: 0 }, onTried);
  }

  async #delete(compare: Compare, onTried: () => void): Promise<void> {
    const { signal } = this.tenure;
    const backoff = new Backoff(this.#context.clock, this.#context.random);
    const txn: Txn = { compares: [compare], success: [{ type: 'delete', key: this.key }] };
    while (!signal.aborted) {
      const isKnown = await unlessAborted(this.#context.space.store.txn(txn), signal).then(
        ({ kind }) => kind !== 'unknown',
        (error: unknown) => !isTransient(error),
      );
      onTried();
      if (isKnown) return;
      await backoff.pause(signal).catch(() => {});
    }
    onTried();
  }

  /** Reads the line again, unless `limit` leaves out who may be ahead. */
  async #confirm(signal: AbortSignal, some: { limit?: number }): Promise<Standing | undefined> {
    const before = this.#modRevision;
    const range = { type: 'range', range: prefixRange(this.#line), ...some } as const;
    const known = await this.#ask(signal, {
      compares: [this.compare],
      success: [this.#put(), range],
      failure: [{ type: 'get', key: this.key }, range],
    });
    if (known.kind === 'done') this.#modRevision = known.revision;
    else {
      // Our own put, when its answer had been lost.
      const entry = entryOf(known.results[0]);
      const isOurs = entry?.createRevision === this.#createRevision && entry.modRevision > before;
      if (!isOurs) return undefined;
      this.#modRevision = entry.modRevision;
    }
    const line = entriesOf(known.results[1]);
    if (some.limit === undefined) {
      this.#ahead = this.#before(line);
      this.#readAt = known.revision;
    }
    return { othersWait: line.length > 1 };
  }

  /** Sends a transaction whose compares make copies harmless, until its outcome is known. */
  async #ask(signal: AbortSignal, txn: Txn, onUnknown: () => void = () => {}): Promise<Known> {
    const { clock, random, space, session } = this.#context;
    const backoff = new Backoff(clock, random);
    for (;;) {
      signal.throwIfAborted();
      this.#requireTenure();
      try {
        const outcome = await space.store.txn(txn);
        if (outcome.kind !== 'unknown') return outcome;
        onUnknown();
      } catch (error) {
        if (hasCode(error, 'ERR_MILLRACE_LEASE_LOST')) session.doubt(this.tenure);
        if (!isTransient(error)) throw error;
      }
      await backoff.pause(signal);
    }
  }

  /** Waits until the nearest of those ahead has gone. @returns false when nobody is ahead */
  async #nearestGone(signal: AbortSignal): Promise<boolean> {
    const backoff = new Backoff(this.#context.clock, this.#context.random);
    for (let next = this.#ahead[0]; next !== undefined; next = this.#ahead[0]) {
      try {
        const isGone = await this.#watchGone(next.key, signal);
        signal.throwIfAborted();
        if (isGone) return true;
        await this.#readLine(signal);
      } catch (error) {
        if (hasCode(error, 'ERR_MILLRACE_COMPACTED')) await this.#readLine(signal);
        else if (!isTransient(error)) throw error;
        else await backoff.pause(signal);
      }
    }
    return false;
  }

  /** Whether the key was deleted at a revision after the line was read; false when nothing was heard for long. */
  async #watchGone(key: Key, signal: AbortSignal): Promise<boolean> {
    const { clock, space } = this.#context;
    const silence = new AbortController();
    const wakeUp = clock.wakeIn(SILENCE_MS, () => silence.abort());
    const either = new FirstAbort(signal, silence.signal);
    try {
      const watch = space.store.watch(
        { from: key, to: keyAfter(key) },
        {
          startRevision: (this.#readAt + 1) as Revision,
          signal: either.signal,
          class: 'control',
        },
      );
      for await (const { events } of watch) {
        if (events.some(({ type }) => type === 'delete')) return true;
      }
      return false;
    } finally {
      either.dispose();
      wakeUp.cancel();
    }
  }

  /** Sees who is ahead now, as soon as the store can be read. */
  async #readLine(signal: AbortSignal): Promise<void> {
    const backoff = new Backoff(this.#context.clock, this.#context.random);
    for (;;) {
      signal.throwIfAborted();
      try {
        const { entries, revision } = await this.#context.space.store.range(
          prefixRange(this.#line),
        );
        this.#ahead = this.#before(entries);
        this.#readAt = revision;
        return;
      } catch (error) {
        if (!isTransient(error)) throw error;
        await backoff.pause(signal);
      }
    }
  }

  /** Who of the line is ahead of us, nearest first. */
  #before(line: readonly Entry[]): Entry[] {
    const longer = line.find(({ key }) => key.indexOf('/', this.#line.length) !== -1);
    if (longer !== undefined) throw mixedName(this.#line, longer.key);
    return line
      .filter(({ createRevision }) => createRevision < this.#createRevision)
      .sort((a, b) => b.createRevision - a.createRevision);
  }

  #put(): Operation {
    const { leaseId } = this.tenure;
    return { type: 'put', key: this.key, value: this.#value, leaseId };
  }

  #requireTenure(): void {
    if (this.tenure.signal.aborted) throw this.tenure.signal.reason;
  }
}

function entriesOf(result: OperationResult | undefined): readonly Entry[] {
  return result?.type === 'range' ? result.entries : [];
}

function entryOf(result: OperationResult | undefined): Entry | undefined {
  return result?.type === 'get' ? result.entry : undefined;
}

function lineChanged(key: Key): MillraceError {
  return new MillraceError('ERR_MILLRACE_INTERNAL', `'${key}' is not in its own line`, {
    details: { tag: 'place-not-in-line', key },
  });
}

function mixedName(line: string, key: Key): MillraceError {
  const name = line.slice(0, -1);
  return new MillraceError(
    'ERR_MILLRACE_INVALID_OPTION',
    `'${name}' is used with shards elsewhere ('${key}' stands under it); use a name either with shards or without`,
    { details: { name, key } },
  );
}
