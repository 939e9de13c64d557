/**
 * Members: which processes are there, as records that end with their leases.
 *
 *   n/<node>   who it is: whatever the process says of itself. Put once per lease; its create revision is the
 *              node's place in time, and `compare` stands on it
 *   b/<node>   heartbeat (heartbeats.ts): the oldest revision it still needs, its load, its shards. Put every third of
 *              the ttl. Nobody watches it; the compactor, the supervisor and who places tasks read all of them
 *
 * Heartbeats are not what keeps a node alive: that is its lease, and renewing it writes nothing. They carry what
 * others need to know of a node and what changes all the time.
 *
 * A node's name is its own. Whoever starts under the name of a process that has just died waits for that one's lease
 * to end; when it does not, the name is in use.
 */

import { Backoff, isTransient } from '../core/backoff.js';
import type { Clock, WakeUp } from '../core/clock.js';
import { hasCode, isMillraceError, MillraceError } from '../core/errors.js';
import { keepFollowing } from '../core/keep-following.js';
import type { Random } from '../core/random.js';
import { BaseService } from '../core/service.js';
import {
  type Compare,
  type Entry,
  type Key,
  type KeyRange,
  type LeaseId,
  prefixRange,
  type Revision,
  type Store,
} from '../core/store.js';
import {
  ALL_HEARTBEATS,
  encodeHeartbeat,
  type Heartbeat,
  heartbeatKey,
  heartbeatOf,
  type NodeReport,
} from './heartbeats.js';
import type { NeededRevisions } from './needed-revisions.js';
import type { Session, Tenure } from './session.js';

/** What a process says of itself: plain data. */
export type MemberRecord = Readonly<Record<string, unknown>>;

export interface Member {
  readonly node: string;
  readonly record: MemberRecord;
  /** Revision at which it came, for transactions that act in its name. */
  readonly joinedAt: Revision;
  /** Everything of the process hangs on it. */
  readonly leaseId: LeaseId | undefined;
}

/** Members beat so often within a ttl. */
export const BEATS_PER_TTL = 3;
const NODES = 'n/';

export const ALL_MEMBERS: KeyRange = prefixRange(NODES);
/** How many leases' time to wait for a predecessor of the same name to end. */
const TTLS_TO_WAIT = 2;

export class Members extends BaseService {
  readonly node: string;
  /** What the heartbeats of this process tell of its tasks; absent: it has none. */
  report: (() => NodeReport) | undefined;
  /** Called whenever this process has become a member, under a new lease. */
  onJoined: (() => void) | undefined;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #store: Store;
  readonly #session: Session;
  readonly #needed: NeededRevisions;
  #record: MemberRecord;
  readonly #closing = new AbortController();
  #stopListening: () => void = () => {};
  #heartbeat: WakeUp | undefined;
  #self: Member | undefined;
  #rejoining: Promise<void> = Promise.resolve();

  constructor(
    ports: {
      readonly clock: Clock;
      readonly random: Random;
      readonly store: Store;
      readonly session: Session;
      readonly needed: NeededRevisions;
    },
    self: { readonly node: string; readonly record: MemberRecord },
  ) {
    super();
    this.#clock = ports.clock;
    this.#random = ports.random;
    this.#store = ports.store;
    this.#session = ports.session;
    this.#needed = ports.needed;
    this.node = self.node;
    this.#record = self.record;
  }

  /** This process as the others see it; undefined between two leases. */
  get self(): Member | undefined {
    return this.#self;
  }

  /** For transactions that act in this node's name: refuses them once its lease is over. */
  get compare(): Compare {
    // No revision is that high: without a lease nothing is done in our name.
    return joinedCompare(this.node, this.#self?.joinedAt ?? (Number.MAX_SAFE_INTEGER as Revision));
  }

  /**
   * Says something else of this process from now on. Its place in time stays: it has not left.
   *
   * if create(n/<node>) == as it joined  then put n/<node>      sent again until it is known: the same put again
   *
   * @param giveUp - ends the tries: a store that is away may never know
   */
  async change(record: MemberRecord, giveUp: AbortSignal): Promise<void> {
    this.#record = record;
    const signal = AbortSignal.any([giveUp, this.#closing.signal]);
    const backoff = new Backoff(this.#clock, this.#random);
    for (let self = this.#self; self !== undefined && this.#record === record; self = this.#self) {
      const { leaseId } = this.#session;
      if (leaseId === undefined || signal.aborted) return;
      const key = `${NODES}${this.node}`;
      const isDone = await this.#store
        .txn({
          compares: [this.compare],
          success: [{ type: 'put', key, value: encode(record), leaseId }],
        })
        .then(({ kind }) => kind !== 'unknown')
        .catch((error: unknown) => {
          if (!isMillraceError(error)) throw error;
          // Over with its lease, and said anew when it joins again.
          return !isTransient(error);
        });
      if (isDone) return;
      await backoff.pause(signal).catch(() => {});
    }
  }

  /** Everybody who is there now, by name. @throws ERR_MILLRACE_STORE_UNAVAILABLE */
  async list(): Promise<readonly Member[]> {
    const { entries } = await this.#store.range(ALL_MEMBERS);
    return entries.map(memberOf);
  }

  /** The last heartbeat of everybody who is there. @throws ERR_MILLRACE_STORE_UNAVAILABLE */
  async heartbeats(): Promise<readonly Heartbeat[]> {
    const { entries } = await this.#store.range(ALL_HEARTBEATS);
    return entries.map(heartbeatOf);
  }

  /** Everybody who is there, now and after every change. Ends quietly with the signal. */
  async *watch({
    signal,
  }: {
    readonly signal?: AbortSignal;
  } = {}): AsyncGenerator<readonly Member[], void, undefined> {
    const signals = [this.#closing.signal, ...(signal ? [signal] : [])];
    const ports = { clock: this.#clock, random: this.#random, store: this.#store };
    const options = { signal: AbortSignal.any(signals), class: 'control' } as const;
    const there = new Map<Key, Member>();
    for await (const { kind, events } of keepFollowing(ports, ALL_MEMBERS, options)) {
      if (kind === 'list') there.clear();
      for (const event of events) {
        if (event.type === 'delete') there.delete(event.key);
        else there.set(event.entry.key, memberOf(event.entry));
      }
      yield [...there.values()].sort((a, b) => (a.node < b.node ? -1 : 1));
    }
  }

  /** @throws ERR_MILLRACE_INVALID_OPTION when a live process has the name */
  protected async onStart(): Promise<void> {
    this.#stopListening = this.#session.onChange((change) => {
      if (change.kind === 'ended') this.#self = undefined;
      if (change.kind === 'granted') this.#rejoining = this.#rejoin();
    });
    await this.#join(await this.#session.live(this.#closing.signal));
    this.#beat();
  }

  /** The records go with the session's lease. */
  protected async onStop(): Promise<void> {
    this.#closing.abort(new MillraceError('ERR_MILLRACE_CLOSED', 'coordination is closed'));
    this.#heartbeat?.cancel();
    this.#stopListening();
    await this.#rejoining;
  }

  async #rejoin(): Promise<void> {
    const backoff = new Backoff(this.#clock, this.#random);
    while (!this.isStopping) {
      try {
        return await this.#join(await this.#session.live(this.#closing.signal));
      } catch (error) {
        if (!isMillraceError(error)) throw error;
        // The next lease tries again; somebody else may have taken the name meanwhile.
        if (!hasCode(error, 'ERR_MILLRACE_STORE_FULL')) return;
      }
      await backoff.pause(this.#closing.signal).catch(() => {});
    }
  }

  // if    create(n/<node>) == 0
  // then  put n/<node>
  // else  get n/<node>             -> ours after a lost answer, or another's
  async #join(tenure: Tenure): Promise<void> {
    const key = `${NODES}${this.node}`;
    const value = encode(this.#record);
    const deadlineMs = this.#clock.monoMs() + TTLS_TO_WAIT * tenure.ttlMs;
    const backoff = new Backoff(this.#clock, this.#random);
    const { leaseId } = tenure;
    while (!tenure.signal.aborted) {
      let isTaken = false;
      const joinedAt = await this.#store
        .txn({
          compares: [{ target: 'create', key, operator: '=', operand: 0 }],
          success: [{ type: 'put', key, value, leaseId }],
          failure: [{ type: 'get', key }],
        })
        .then((outcome) => {
          // Sent again: the compare lets one copy apply.
          if (outcome.kind === 'unknown') return undefined;
          if (outcome.kind === 'done') return outcome.revision;
          const [found] = outcome.results;
          const entry = found?.type === 'get' ? found.entry : undefined;
          if (entry?.leaseId === leaseId) return entry?.createRevision;
          isTaken = true;
          return undefined;
        })
        .catch((error: unknown) => {
          if (!isTransient(error)) throw error;
          return undefined;
        });
      if (joinedAt !== undefined) {
        this.#self = { node: this.node, record: this.#record, joinedAt, leaseId };
        this.onJoined?.();
        return;
      }
      // A store that does not answer says nothing of the name.
      if (isTaken && this.#clock.monoMs() >= deadlineMs) throw inUse(this.node);
      await backoff.pause(AbortSignal.any([this.#closing.signal, tenure.signal]));
    }
    throw tenure.signal.reason;
  }

  #beat(): void {
    const everyMs = this.#session.ttlMs / BEATS_PER_TTL;
    this.#heartbeat = this.#clock.wakeIn(everyMs, () => this.#beat());
    const { leaseId, state } = this.#session;
    if (leaseId === undefined || state !== 'live') return;
    const value = encodeHeartbeat({
      atMs: this.#clock.wallMs(),
      everyMs,
      neededRevision: this.#needed.lowest(),
      report: this.report?.(),
    });
    const sent = this.#store.txn({
      compares: [this.compare],
      success: [{ type: 'put', key: heartbeatKey(this.node), value, leaseId }],
    });
    // One that is lost is made good by the next; one that comes late only says what was needed before.
    sent.catch((error: unknown) => {
      if (!isMillraceError(error)) throw error;
    });
  }
}

/** Holds while a member is the one that joined at a revision; at 0: while nobody of that name is there. */
export function joinedCompare(node: string, joinedAt: Revision | 0): Compare {
  return { target: 'create', key: `${NODES}${node}`, operator: '=', operand: joinedAt };
}

export function memberOf({ key, value, createRevision, leaseId }: Entry): Member {
  return {
    node: key.slice(NODES.length),
    record: decode(value),
    joinedAt: createRevision,
    leaseId,
  };
}

function encode(record: MemberRecord): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(record));
}

/** What does not parse says nothing; it is another version's, or not ours. */
function decode(value: Uint8Array): MemberRecord {
  try {
    const parsed: unknown = JSON.parse(new TextDecoder().decode(value));
    return typeof parsed === 'object' && parsed !== null ? (parsed as MemberRecord) : {};
  } catch {
    return {};
  }
}

function inUse(node: string): MillraceError {
  return new MillraceError(
    'ERR_MILLRACE_INVALID_OPTION',
    `a process that lives has the node name '${node}'; give each process a name of its own`,
    { details: { node } },
  );
}
