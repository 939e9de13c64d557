/**
 * The commit lane: the one writer of this node, one transaction in flight, everything that piles up meanwhile goes
 * into the next one (group commit).
 *
 * Every transaction compares the lane's head with what the lane wrote last and moves it on. A commit may stand on
 * more than that: owner keys of shards, and segments, each by its create revision, and what rests by its mod revision
 * (its guards):
 *
 *   if    mod revision of h/<node> == the one we wrote (or found at start)
 *         and revision of each guard's key == as known
 *   then  put h/<node> = { incarnation, number, content hash }, and the operations of this commit
 *   else  get h/<node>, ask for each guard whether it holds
 *
 * That makes a lost answer harmless. After an unknown outcome the same transaction is sent again, unchanged: either
 * it applies now, or it is refused, and then **the head is read first**:
 *
 *   head                       means                                                            what happens
 *   ours: same content         an earlier copy was applied, whatever the guards say now         done
 *   still what we compare      no copy was applied. A guard is broken, and since revisions      the source drops what
 *                              only grow, no copy ever will be                                  stood on it; cut again
 *   anything else              somebody else has the lane                                       fenced
 *
 * In the second case the rest goes out as new content under the same head compare; copies of the old one that are
 * still under way find their guard broken. A definite error of a first try (store full, request refused) was not
 * applied: its commit is told, and the lane waits a little. After an unknown outcome no error is definite, so content
 * never changes while its fate is open.
 *
 * What goes into a commit is decided as late as possible: the lane asks its source to cut one when it is free. It can be made to
 * linger before each: fewer, larger transactions, and everybody waits a little longer. What has been decided elsewhere goes before
 * that, as a commit of its own (`insert`).
 */

import { publish } from '../core/channels.js';
import { type Clock, sleep } from '../core/clock.js';
import { invariant, isMillraceError, MillraceError } from '../core/errors.js';
import type { Incarnation } from '../core/ids.js';
import type {
  Compare,
  Key,
  Operation,
  OperationResult,
  Revision,
  Store,
  Txn,
} from '../core/store.js';
import { contentHash } from './content-hash.js';
import { headKey } from './keys.js';

/** What the lane may put into one transaction beside its own head. */
export interface CommitBudget {
  readonly operationsMax: number;
  /** What a nested operation takes of `operationsMax` it takes of this too. */
  readonly guardsMax: number;
  readonly bytesMax: number;
}

/** A key that must still be the one it was: an owner key by its epoch, a segment by the commit that put it. */
export interface Guard {
  readonly key: Key;
  readonly createRevision: Revision;
}

/** A key that nobody may have written since it was read; one that is never deleted, so that its revision only grows. */
export interface ModGuard {
  readonly key: Key;
  readonly modRevision: Revision;
}

export type AnyGuard = Guard | ModGuard;

/** What a commit stands on beside the lane's head. */
export interface Guarded {
  /** A key at most once. */
  readonly guards: readonly AnyGuard[];
  /**
   * It was not applied, and will not be: these guards do not hold any more. The source takes the commit back and
   * drops whatever stood on them for good, or it would be refused for ever; the next cut follows at once.
   */
  onBroken(broken: readonly AnyGuard[]): void;
}

/** One cut: operations with what depends on their fate. Exactly one of `onDone`, `onFailed`, `onBroken` is called, once. */
export interface Commit {
  readonly operations: readonly Operation[];
  /** Absent: it stands on the head alone. */
  readonly guarded?: Guarded;
  /** For events only. */
  readonly bytes: number;
  /**
   * It is durable. `results` are those of `operations`, in order; undefined when the answer was lost and the head
   * told that it had been applied.
   */
  onDone(revision: Revision, results: readonly OperationResult[] | undefined): void;
  /**
   * It has had no definite answer for seconds, and its fate stays open: one of the others still follows. Called again and
   * again until then.
   */
  onUnclear(cause: MillraceError): void;
  /** It certainly was not applied, and will not be. */
  onFailed(cause: MillraceError): void;
}

export interface CommitSource {
  /** The next commit, or undefined when there is nothing to write. */
  cut(budget: CommitBudget): Commit | undefined;
  /**
   * The commit at hand has had no definite answer for seconds, and nothing else can be written before it gets one.
   * Called again and again until its `onDone`.
   */
  onStalled(cause: MillraceError): void;
  /** Another writer has the lane; nothing can be written any more. Called once. */
  onFenced(cause: MillraceError): void;
}

const RESEND_DELAY_MIN_MS = 50;
const RESEND_DELAY_MAX_MS = 2_000;
/** A commit without a definite answer for so long holds up the lane. */
const STALLED_AFTER_MS = 5_000;
/** After a definite refusal, e.g. a full disk: what is left to write is tried again. */
const REFUSED_DELAY_MS = 200;
/** Requests near the store's limit cost latency for everybody; a megabyte is plenty for one group. */
const COMMIT_BYTES_MAX = 1_048_576;
const HEAD_OPERATIONS = 1;
/** The question whether a guard holds is a nested transaction of one compare. */
const PROBE_OPERATIONS = 1;
const NO_GUARDS: readonly AnyGuard[] = [];

/** What a refusal says of the commit that was refused. */
type Verdict =
  | { readonly kind: 'applied'; readonly revision: Revision }
  | { readonly kind: 'broken'; readonly guards: readonly AnyGuard[] }
  | { readonly kind: 'fenced' };

export class CommitLane {
  /** How long a commit waits for more to share it; 0: for the I/O at hand only. Holds for what is asked for from then on. */
  lingerMs = 0;
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #source: CommitSource;
  readonly #incarnation: Incarnation;
  readonly #headKey: string;
  readonly #budget: CommitBudget;
  #headRevision = 0 as Revision;
  /** Whether a copy of a commit that stands on no head may be under way still: with the head gone it would apply again. */
  #mayLinger = false;
  /** Each content has one of its own, also those that are never applied. */
  #contentNumber = 0;
  /** Made elsewhere; each goes by itself. */
  readonly #inserted: Commit[] = [];
  #isScheduled = false;
  #isFlying = false;
  /** The commit that flies, as long as its fate is awaited. */
  #flying: Commit | undefined;
  /** Why nothing more is written: somebody else has the lane, or this node gave up. */
  #endedBy: MillraceError | undefined;
  #idleWaiters: (() => void)[] = [];

  constructor(
    store: Store,
    clock: Clock,
    options: {
      readonly node: string;
      readonly incarnation: Incarnation;
      readonly source: CommitSource;
    },
  ) {
    this.#store = store;
    this.#clock = clock;
    this.#source = options.source;
    this.#incarnation = options.incarnation;
    this.#headKey = headKey(options.node);
    // Probes are nested, so they need what the longest of the outer lists leaves.
    const listMax = store.limits.operationsMax - HEAD_OPERATIONS - PROBE_OPERATIONS;
    this.#budget = {
      operationsMax: listMax,
      guardsMax: listMax,
      bytesMax: Math.min(COMMIT_BYTES_MAX, store.limits.requestBytesMax / 2),
    };
  }

  /** Reads the head; from here on another process that takes it over fences this one, and the other way round. */
  async open(): Promise<void> {
    const head = await this.#store.get(this.#headKey);
    this.#headRevision = head?.modRevision ?? (0 as Revision);
  }

  /** There may be something to commit. Cheap; call it as often as you like. */
  request(): void {
    if (this.#isScheduled || this.#isFlying || this.#endedBy) return;
    this.#isScheduled = true;
    const fly = (): void => {
      this.#isScheduled = false;
      this.#fly();
    };
    // After the I/O at hand, so that what arrives in the same turn shares the commit.
    if (this.lingerMs > 0) this.#clock.wakeIn(this.lingerMs, fly);
    else this.#clock.wakeSoon(fly);
  }

  /** Writes a commit that was made elsewhere, before the next one of the source. An ended lane fails it at once. */
  insert(commit: Commit): void {
    if (this.#endedBy) return commit.onFailed(this.#endedBy);
    this.#inserted.push(commit);
    this.request();
  }

  /** Resolves when nothing flies and nothing is left to cut. */
  idle(): Promise<void> {
    if (!this.#isScheduled && !this.#isFlying) return Promise.resolve();
    return new Promise((resolve) => this.#idleWaiters.push(resolve));
  }

  /**
   * Gives up: nothing more is cut or sent, and a commit that flies is told so (it may be applied all the same).
   * Does nothing when the lane is idle or ended already.
   */
  abandon(cause: MillraceError): void {
    if (this.#endedBy) return;
    this.#endedBy = cause;
    this.#flying?.onFailed(cause);
    this.#flying = undefined;
    this.#failInserted(cause);
    this.#settleIdle();
  }

  /**
   * Takes the head out of the store, with what else this node leaves: nothing is written from here any more. What does
   * not come to be is left to the reaper, and so is the head where copies of the very first commit may still come. REQUIRES:
   * the lane is idle.
   *
   *   if mod(h/<node>) == as we wrote it  then delete it, and the rest
   */
  async retire(rest: readonly Operation[]): Promise<void> {
    if (this.#endedBy || this.#isFlying || this.#mayLinger) return;
    this.#endedBy = new MillraceError('ERR_MILLRACE_CLOSED', 'the commit lane is closed');
    const head = {
      target: 'mod',
      key: this.#headKey,
      operator: '=',
      operand: this.#headRevision,
    } as const;
    const deletion = { type: 'delete', key: this.#headKey } as const;
    await this.#store.txn({ compares: [head], success: [deletion, ...rest] }).catch((error) => {
      if (!isMillraceError(error)) throw error;
    });
  }

  #fly(): void {
    // Asked for while one was cut: its end comes back here.
    if (this.#isFlying) return;
    if (this.#endedBy) return this.#settleIdle();
    const commit = this.#inserted.shift() ?? this.#source.cut(this.#budget);
    if (commit === undefined) {
      // Cutting may have asked for another cut.
      if (!this.#isScheduled) this.#settleIdle();
      return;
    }
    this.#isFlying = true;
    this.#flying = commit;
    void this.#send(commit).then(() => {
      this.#isFlying = false;
      this.#flying = undefined;
      // Straight into the next cut: whatever piled up has waited for a whole flight already.
      if (this.lingerMs > 0 && !this.#endedBy) this.request();
      else this.#fly();
    });
  }

  async #send(commit: Commit): Promise<void> {
    const head = this.#headValue(commit);
    const txn = this.#transaction(commit, head);
    const sentAtMs = this.#clock.monoMs();
    for (let tries = 1; ; tries++) {
      const outcome = await this.#tryOnce(txn);
      if (this.#flying !== commit) return;
      if (outcome.kind === 'done' || outcome.kind === 'refused') {
        const verdict: Verdict =
          outcome.kind === 'done'
            ? { kind: 'applied', revision: outcome.revision }
            : this.#judge(outcome.results, commit, head);
        if (verdict.kind === 'fenced') return this.#fence(commit);
        if (verdict.kind === 'broken') {
          publish('millrace:commit:broken', () => ({ keys: verdict.guards.map(({ key }) => key) }));
          return commit.guarded!.onBroken(verdict.guards);
        }
        this.#headRevision = verdict.revision;
        publish('millrace:commit:done', () => ({
          operations: commit.operations.length,
          bytes: commit.bytes,
          elapsedMs: this.#clock.monoMs() - sentAtMs,
        }));
        return commit.onDone(
          verdict.revision,
          outcome.kind === 'done' ? outcome.results.slice(HEAD_OPERATIONS) : undefined,
        );
      }
      // A refusal is definite only for a first try: after an unknown one it says nothing about that.
      if (outcome.kind === 'failed' && tries === 1) {
        publish('millrace:commit:failed', () => ({ cause: outcome.cause }));
        // Its fate is known: who gives up during the pause must not tell it again.
        this.#flying = undefined;
        commit.onFailed(outcome.cause);
        return sleep(this.#clock, REFUSED_DELAY_MS);
      }
      this.#mayLinger ||= this.#headRevision === 0;
      publish('millrace:commit:unknown', () => ({ cause: outcome.cause, tries }));
      if (this.#clock.monoMs() - sentAtMs >= STALLED_AFTER_MS) {
        this.#source.onStalled(outcome.cause);
        commit.onUnclear(outcome.cause);
      }
      await sleep(
        this.#clock,
        Math.min(RESEND_DELAY_MAX_MS, RESEND_DELAY_MIN_MS * 2 ** (tries - 1)),
      );
    }
  }

  /** What the store threw was not applied; unless it is no error of the contract, then nobody knows. */
  async #tryOnce(
    txn: Txn,
  ): Promise<
    Awaited<ReturnType<Store['txn']>> | { readonly kind: 'failed'; readonly cause: MillraceError }
  > {
    try {
      return await this.#store.txn(txn);
    } catch (thrown) {
      if (isMillraceError(thrown)) return { kind: 'failed', cause: thrown };
      const cause = new MillraceError('ERR_MILLRACE_INTERNAL', 'the store threw an untyped error', {
        details: { tag: 'commit-lane.store' },
        cause: thrown,
      });
      return { kind: 'unknown', cause };
    }
  }

  #transaction(commit: Commit, head: Uint8Array): Txn {
    const guards = (commit.guarded?.guards ?? NO_GUARDS).map(compareOf);
    return {
      compares: [
        { target: 'mod', key: this.#headKey, operator: '=', operand: this.#headRevision },
        ...guards,
      ],
      success: [{ type: 'put', key: this.#headKey, value: head }, ...commit.operations],
      failure: [
        { type: 'get', key: this.#headKey },
        // Answers yes or no, where a get would bring a segment's whole value.
        ...guards.map((compare) => ({
          type: 'txn' as const,
          txn: { compares: [compare], success: [] },
        })),
      ],
    };
  }

  #headValue(commit: Commit): Uint8Array {
    const content = {
      incarnation: this.#incarnation,
      commit: ++this.#contentNumber,
      hash: contentHash(commit.operations),
    };
    return Buffer.from(JSON.stringify(content));
  }

  /** What the else branch tells: the head first, then the guards. */
  #judge(results: readonly OperationResult[], commit: Commit, ours: Uint8Array): Verdict {
    const [head, ...probes] = results;
    invariant(head?.type === 'get', 'commit-lane.head');
    const { entry } = head;
    if (entry !== undefined && Buffer.compare(entry.value, ours) === 0) {
      return { kind: 'applied', revision: entry.modRevision };
    }
    const isUnmoved = (entry?.modRevision ?? 0) === this.#headRevision;
    const guards = (commit.guarded?.guards ?? NO_GUARDS).filter((_, i) => {
      const probe = probes[i];
      return probe?.type === 'txn' && !probe.succeeded;
    });
    return isUnmoved && guards.length > 0 ? { kind: 'broken', guards } : { kind: 'fenced' };
  }

  #fence(commit: Commit): void {
    this.#endedBy = new MillraceError(
      'ERR_MILLRACE_STORE_LOCKED',
      'another runtime has taken over this store; nothing more is written from here',
      { details: { head: this.#headKey, incarnation: this.#incarnation } },
    );
    commit.onFailed(this.#endedBy);
    this.#failInserted(this.#endedBy);
    this.#source.onFenced(this.#endedBy);
  }

  #failInserted(cause: MillraceError): void {
    for (const commit of this.#inserted.splice(0)) commit.onFailed(cause);
  }

  #settleIdle(): void {
    const waiters = this.#idleWaiters;
    this.#idleWaiters = [];
    for (const wake of waiters) wake();
  }
}

function compareOf(guard: AnyGuard): Compare {
  const { key } = guard;
  return 'modRevision' in guard
    ? { target: 'mod', key, operator: '=', operand: guard.modRevision }
    : { target: 'create', key, operator: '=', operand: guard.createRevision };
}
