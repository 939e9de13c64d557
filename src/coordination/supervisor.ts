/**
 * Supervisor: one elected member looks after the heartbeats of all others.
 *
 *   missed   silent for       what follows
 *   1        ttl/2            late: said in `v/<node>`; others place fewer new tasks there
 *   2        2.5 beats        silent: no new tasks; what it last said of itself is compared with what is stored of it
 *   3        3.5 beats        its lease is revoked: announced first, then the owners that follow are told
 *
 * A beat is a third of the member's own ttl, and counts as missed when it is half a beat late. A process that died or was
 * cut off goes earlier, with its lease. This is for those whose lease lives on although they do nothing: a main thread
 * that hangs behind a sentinel that renews, a process that reads and renews but cannot write.
 *
 * Silence is counted by this process's monotonic clock, between two reads that show the same heartbeat; what the beats say
 * of wall clocks is not looked at. And it is only counted while this process has seen for itself that the store answers
 * and takes heartbeats:
 *
 *   reads failed for more than a beat         everybody's count begins anew: the store may have been away for all
 *   our own heartbeat is not in what we read  nobody is judged: the store may take nobody's
 *
 * So nobody is evicted because this process cannot see. Nor by one that leads no more: the announcement stands on the
 * leadership, on the member being the one that was watched, and on its last heartbeat, in one transaction.
 *
 *   if    leader, and create(n/<node>) == as watched, and mod(b/<node>) == as last seen
 *   then  put v/<node> "evicting", on the member's lease      then revoke the lease: all its keys go in one revision
 *
 * A heartbeat between the two comes too late, which is safe: whoever loses a lease that it believed in is fenced by epochs.
 * Shards do not follow the weights: taking one from a member that is late needs that member's help, and it would come back
 * with the next heartbeat. They move once, when the lease ends.
 *
 * Unknown outcomes need no case of their own: every look compares what `v/` says with what it should say.
 * Cost: three small ranges every ttl/6, by one process; a key and a watch of each other one, to succeed it.
 */

import { Backoff } from '../core/backoff.js';
import { type OwnedByNode, publish, type ShardOwnership } from '../core/channels.js';
import { type Clock, sleep } from '../core/clock.js';
import { hasCode, isMillraceError, MillraceError } from '../core/errors.js';
import type { Random } from '../core/random.js';
import { BaseService } from '../core/service.js';
import type { Compare, LeaseId, Operation, Revision, Store } from '../core/store.js';
import { Elections, type Leadership } from './elections.js';
import { ALL_HEARTBEATS, type Heartbeat, heartbeatKey, heartbeatOf } from './heartbeats.js';
import { ALL_MEMBERS, BEATS_PER_TTL, joinedCompare, type Members, memberOf } from './members.js';
import { Names } from './names.js';
import type { Session } from './session.js';
import { ALL_OWNERS, ownerOfEntry } from './shard-owners.js';
import { ALL_VERDICTS, encodeVerdict, type LateStage, verdictKey, verdictOf } from './verdicts.js';

/** What runs in the name of a member, as far as it was looked for. */
export interface StoredRunning {
  readonly tasks: number;
  /** Whether everything was looked at. */
  readonly isComplete: boolean;
}

const ELECTION_PREFIX = 'm/';
const ELECTION = 'supervisor';
const LOOKS_PER_BEAT = 2;
/** Without a look for so many rounds, counting begins anew. */
const BLIND_ROUNDS = 2.5;
/** From when on a beat is missed. */
const MISSED_AT = 0.5;
const MISSED_MAX = 3;
const EVERY_MS_MAX = 20 * 60_000;
/** How long the new owners of an evicted member's shards are waited for, in ttls. */
const REASSIGN_TTLS = 2;

/** What is known of one member. */
interface Watched {
  readonly node: string;
  readonly joinedAt: Revision;
  readonly leaseId: LeaseId | undefined;
  /** Of its heartbeat; 0: none yet. */
  beatAt: Revision | 0;
  beat: Heartbeat | undefined;
  silentMs: number;
  stage: LateStage | undefined;
}

export class Supervisor extends BaseService {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #store: Store;
  readonly #session: Session;
  readonly #members: Members;
  readonly #elections: Elections;
  readonly #closing = new AbortController();
  readonly #watched = new Map<string, Watched>();
  readonly #background = new Set<Promise<void>>();
  #leadership: Leadership | undefined;
  /** When the last look that saw everything was answered; undefined before the first. */
  #lookedAtMs: number | undefined;
  #serving: Promise<void> = Promise.resolve();

  /**
   * Tells how many tasks are stored as running in a member's name, in these shards; for the comparison. Absent: nothing
   * runs tasks here.
   */
  countRunning:
    | ((
        node: string,
        shards: readonly OwnedByNode[],
        signal: AbortSignal,
      ) => Promise<StoredRunning>)
    | undefined;

  constructor(ports: {
    readonly clock: Clock;
    readonly random: Random;
    readonly store: Store;
    readonly session: Session;
    readonly members: Members;
  }) {
    super();
    const { clock, random, store, session } = ports;
    this.#clock = clock;
    this.#random = random;
    this.#store = store;
    this.#session = session;
    this.#members = ports.members;
    // In the store's own keys: its namespace is what the members have in common.
    this.#elections = new Elections(
      { clock, random: random.fork('line'), space: { store, prefix: ELECTION_PREFIX }, session },
      new Names(ELECTION_PREFIX),
    );
  }

  /** While this process is the elected one: what its transactions stand on. */
  get mandate(): Compare | undefined {
    const leads = this.#leadership?.signal.aborted === false;
    return leads ? this.#leadership?.compare : undefined;
  }

  protected async onStart(): Promise<void> {
    this.#serving = this.#serve();
  }

  protected async onStop(): Promise<void> {
    const cause = new MillraceError('ERR_MILLRACE_CLOSED', 'the supervisor is closed');
    this.#closing.abort(cause);
    this.#elections.close(cause);
    await this.#serving;
    await Promise.all(this.#background);
  }

  async #serve(): Promise<void> {
    const { signal } = this.#closing;
    const backoff = new Backoff(this.#clock, this.#random);
    while (!signal.aborted) {
      try {
        const { node } = this.#members;
        this.#leadership = await this.#elections.campaign(ELECTION, node, { signal });
        publish('millrace:supervisor:elected', () => ({ node }));
        await this.#lookWhile(AbortSignal.any([signal, this.#leadership.signal]));
        await this.#leadership.resign();
      } catch (error) {
        if (signal.aborted) break;
        if (!isMillraceError(error)) throw error;
        publish('millrace:supervisor:failed', () => ({ cause: error }));
        await backoff.pause(signal).catch(() => {});
      }
    }
    this.#leadership = undefined;
  }

  async #lookWhile(leading: AbortSignal): Promise<void> {
    this.#watched.clear();
    this.#lookedAtMs = undefined;
    while (!leading.aborted) {
      try {
        await this.#look(leading);
      } catch (error) {
        if (!isMillraceError(error)) throw error;
        if (hasCode(error, 'ERR_MILLRACE_CLOSED')) return;
        publish('millrace:supervisor:failed', () => ({ cause: error }));
      }
      await sleep(this.#clock, this.#roundMs, leading).catch(() => {});
    }
  }

  get #roundMs(): number {
    return this.#session.ttlMs / BEATS_PER_TTL / LOOKS_PER_BEAT;
  }

  // --- Seeing ------------------------------------------------------------------------------------------------------

  async #look(leading: AbortSignal): Promise<void> {
    const sentAtMs = this.#clock.monoMs();
    const [members, beats, verdicts] = await Promise.all([
      this.#store.range(ALL_MEMBERS),
      this.#store.range(ALL_HEARTBEATS),
      this.#store.range(ALL_VERDICTS),
    ]);
    // From the answer before to this question: no longer than it was in truth.
    const passedMs = sentAtMs - (this.#lookedAtMs ?? sentAtMs);
    const isBlind = this.#lookedAtMs === undefined || passedMs > BLIND_ROUNDS * this.#roundMs;
    this.#lookedAtMs = this.#clock.monoMs();
    const stored = new Map(verdicts.entries.map(verdictOf).map(({ node, stage }) => [node, stage]));
    const there = new Set<string>();
    for (const entry of members.entries) {
      const { node, joinedAt, leaseId } = memberOf(entry);
      there.add(node);
      if (this.#watched.get(node)?.joinedAt === joinedAt) continue;
      // What an earlier supervisor said holds until we know better; but nobody is evicted on its word.
      const stage = stored.get(node) === 'evicting' ? 'silent' : stored.get(node);
      const silentMs = 0;
      this.#watched.set(node, {
        ...{ node, joinedAt, leaseId, silentMs, stage },
        beatAt: 0,
        beat: undefined,
      });
    }
    for (const node of this.#watched.keys()) if (!there.has(node)) this.#watched.delete(node);
    const beatOf = new Map(beats.entries.map((entry) => [entry.key, entry]));
    for (const watched of this.#watched.values()) {
      const entry = beatOf.get(heartbeatKey(watched.node));
      if (entry !== undefined && entry.modRevision !== watched.beatAt) {
        const isFirst = watched.beat === undefined;
        watched.beatAt = entry.modRevision;
        watched.beat = heartbeatOf(entry);
        // The first one that we see may be old: it says nothing of the present.
        if (isFirst && watched.stage !== undefined) continue;
        this.#onBeat(watched);
      } else watched.silentMs = isBlind ? 0 : watched.silentMs + passedMs;
    }
    await this.#judge(stored, leading);
  }

  #onBeat(watched: Watched): void {
    const { node, silentMs, stage } = watched;
    watched.silentMs = 0;
    if (stage === undefined) return;
    watched.stage = undefined;
    publish('millrace:member:recovered', () => ({ node, silentMs, stage }));
  }

  // --- Judging -----------------------------------------------------------------------------------------------------

  async #judge(
    stored: ReadonlyMap<string, LateStage | undefined>,
    leading: AbortSignal,
  ): Promise<void> {
    const self = this.#watched.get(this.#members.node);
    // Not among them, or silent ourselves: what keeps our heartbeats from arriving may keep all others'.
    const isSelfSeen = self !== undefined && this.#missed(self) === 0;
    for (const watched of this.#watched.values()) {
      if (leading.aborted) return;
      if (watched === self) continue;
      const missed = this.#missed(watched);
      const { node, silentMs, stage } = watched;
      if (isSelfSeen && missed >= 1 && stage === undefined) {
        watched.stage = 'late';
        publish('millrace:member:late', () => ({ node, silentMs }));
      } else if (isSelfSeen && missed >= 2 && stage === 'late') {
        watched.stage = 'silent';
        publish('millrace:member:silent', () => ({ node, silentMs }));
        this.#inBackground(this.#compare(watched, leading));
      } else if (isSelfSeen && missed >= MISSED_MAX) {
        await this.#evict(watched, leading);
        continue;
      }
      if (stored.get(node) !== watched.stage) await this.#say(watched, watched.stage, []);
    }
  }

  #missed({ beat, silentMs }: Watched): number {
    const ownMs = this.#session.ttlMs / BEATS_PER_TTL;
    const everyMs = Math.min(beat?.everyMs ?? ownMs, EVERY_MS_MAX);
    return Math.max(0, Math.floor(silentMs / everyMs - MISSED_AT));
  }

  /** @returns whether it is said for certain */
  async #say(
    { node, joinedAt, leaseId }: Watched,
    stage: LateStage | undefined,
    compares: readonly Compare[],
  ): Promise<boolean> {
    const { mandate } = this;
    if (mandate === undefined || leaseId === undefined) return false;
    const key = verdictKey(node);
    const value = encodeVerdict(stage ?? 'late', this.#members.node);
    const operation: Operation =
      stage === undefined ? { type: 'delete', key } : { type: 'put', key, value, leaseId };
    try {
      const outcome = await this.#store.txn({
        compares: [mandate, joinedCompare(node, joinedAt), ...compares],
        success: [operation],
      });
      return outcome.kind === 'done';
    } catch (error) {
      // Gone with its lease meanwhile.
      if (hasCode(error, 'ERR_MILLRACE_LEASE_LOST')) return false;
      throw error;
    }
  }

  // --- Two missed --------------------------------------------------------------------------------------------------

  /** What it said last against what is stored of it. */
  async #compare({ node, silentMs, beat }: Watched, signal: AbortSignal): Promise<void> {
    const { entries } = await this.#store.range(ALL_OWNERS);
    const stored = entries.map(ownerOfEntry).filter((owner) => owner.node === node);
    const said = beat?.shards ?? [];
    const running = await this.countRunning?.(node, stored, signal);
    publish('millrace:member:compared', () => ({
      node,
      silentMs,
      notStored: said.filter((one) => !stored.some((other) => isSame(one, other))),
      notSaid: stored
        .filter((one) => !said.some((other) => isSame(one, other)))
        .map(({ queue, shard, epoch }) => ({ queue, shard, epoch })),
      runningSaid: beat?.load?.running,
      runningStored: running?.tasks,
      isComplete: running?.isComplete ?? true,
    }));
  }

  // --- Three missed ------------------------------------------------------------------------------------------------

  async #evict(watched: Watched, leading: AbortSignal): Promise<void> {
    const { node, leaseId, silentMs, beatAt } = watched;
    const unchanged: Compare = {
      target: 'mod',
      key: heartbeatKey(node),
      operator: '=',
      operand: beatAt,
    };
    if (leaseId === undefined || !(await this.#say(watched, 'evicting', [unchanged]))) return;
    watched.stage = 'evicting';
    publish('millrace:member:evicting', () => ({ node, leaseId, silentMs }));
    const { entries } = await this.#store.range(ALL_OWNERS);
    const shards = entries.map(ownerOfEntry).filter((owner) => owner.node === node);
    if (leading.aborted) return;
    await this.#store.revokeLease(leaseId);
    publish('millrace:member:evicted', () => ({ node, leaseId, shards: shards.length }));
    if (shards.length > 0) this.#inBackground(this.#tellNewOwners(node, shards, leading));
  }

  async #tellNewOwners(
    node: string,
    before: readonly OwnedByNode[],
    signal: AbortSignal,
  ): Promise<void> {
    const startMs = this.#clock.monoMs();
    const untilMs = startMs + REASSIGN_TTLS * this.#session.ttlMs;
    for (;;) {
      const { entries } = await this.#store.range(ALL_OWNERS);
      const now = entries.map(ownerOfEntry);
      const owners = before.flatMap(
        ({ queue, shard, epoch }) =>
          now.find((one) => one.queue === queue && one.shard === shard && one.epoch > epoch) ?? [],
      );
      const isAll = owners.length === before.length;
      if (isAll || this.#clock.monoMs() >= untilMs) {
        const elapsedMs = this.#clock.monoMs() - startMs;
        const orphaned = before.length - owners.length;
        publish('millrace:member:reassigned', () => ({ node, owners, orphaned, elapsedMs }));
        return;
      }
      await sleep(this.#clock, this.#roundMs, signal);
    }
  }

  /** Nothing waits for it, but the end does. */
  #inBackground(work: Promise<void>): void {
    const settled = work
      .catch((error: unknown) => {
        if (this.#closing.signal.aborted) return;
        if (!isMillraceError(error)) throw error;
        publish('millrace:supervisor:failed', () => ({ cause: error }));
      })
      .finally(() => this.#background.delete(settled));
    this.#background.add(settled);
  }
}

function isSame(a: ShardOwnership, b: ShardOwnership): boolean {
  return a.queue === b.queue && a.shard === b.shard && a.epoch === b.epoch;
}
