/**
 * ShardKeeper: which shards of which queues this process owns.
 *
 * Each queue has a fixed number of shards. Who is to have a shard follows from the members that declare the queue, by
 * weighted rendezvous hashing (shard-map.ts); who *has* it is a key under the owner's lease:
 *
 *   o/<queue>/<shard>   put by whoever finds it absent; its create revision is the epoch of the ownership
 *
 *   claim     if create == 0      then put under our lease            acquired, epoch = revision of this transaction
 *   release   if create == epoch  then delete                         free; the next owner sees it in its watch
 *
 * An epoch never comes again, so a writer that compares it is fenced by the first claim of anybody else, however
 * late its transaction arrives. Agreement on who is *to have* a shard is not needed for safety: nodes that see
 * different members for a while only ask for, or let go of, a shard too early.
 *
 *            claim done, or our key seen                    not wanted any more
 *   free ------------------------------------> held ----------------------------> leaving
 *    ^                                          | key gone, lease over              | the owner has let go
 *    |<--------------- lost --------------------'                                   v
 *    '<----------------------------- released: key deleted -------------------------'
 *
 * The watch over `o/` is the truth, answers only bring it sooner. So an unknown outcome needs no case of its own: a
 * claim that applied late appears as a key under our lease, and is taken on or, when the shard is not wanted any
 * more, deleted. Everything is sent again from what is true then; the compares let one copy apply.
 *
 * All moves that are possible travel in one transaction, each nested in it: 64 shards cost one round trip.
 *
 * Invariants: (1) a shard is held under an epoch only by the process whose lease created it; (2) between two epochs
 * that this process holds a shard under it is told of the end of the first; (3) a shard is deleted only after its owner has
 * let go of it, unless the lease is over; (4) when members and links are still, every shard of a declared queue
 * is held after a watch's delay and a round trip.
 * A session that is fenced keeps its shards: it asks `Session.isLive` before it acts, and compares hold off what is late.
 * Cost: a key per shard, watched by every process; a transaction per 120 moves.
 */

import { Backoff } from '../core/backoff.js';
import { publish } from '../core/channels.js';
import { type Clock, sleep } from '../core/clock.js';
import { isMillraceError, MillraceError } from '../core/errors.js';
import type { FollowBatch } from '../core/follow.js';
import { keepFollowing, unlessClosed } from '../core/keep-following.js';
import type { Random } from '../core/random.js';
import { BaseService } from '../core/service.js';
import {
  type Key,
  type LeaseId,
  type Operation,
  prefixRange,
  type Revision,
  type Store,
  type TxnOutcome,
} from '../core/store.js';
import type { Members } from './members.js';
import type { Session } from './session.js';
import { OWNERS, ownerKey, type QueueShards, ShardMap, WAITING } from './shard-map.js';
import { ShardOwners } from './shard-owners.js';

/** One ownership of a shard, from its claim to its end. */
export interface OwnedShard {
  readonly queue: string;
  readonly shard: number;
  /** Its owner key. */
  readonly key: Key;
  /** Create revision of that key; what writers of the shard compare. */
  readonly epoch: Revision;
}

/** Who works on the shards. All but the promise is synchronous. */
export interface ShardOwner {
  onAcquired(shard: OwnedShard): void;
  /** Somebody else is to have it. Resolves when nothing of the shard will be written any more under this epoch. */
  onReleaseAsked(shard: OwnedShard): Promise<void>;
  /** It is not ours any more, with or without a release under way; nothing can be written under this epoch. */
  onLost(shard: OwnedShard, cause: MillraceError): void;
}

interface Slot {
  readonly queue: string;
  readonly shard: number;
  readonly key: Key;
  /** The ownership of this process. */
  held: OwnedShard | undefined;
  /** `leaving`: asked to let go; `left`: has let go, and the key is to be deleted. */
  stage: 'staying' | 'leaving' | 'left';
  /** The key as the store told it last, and how new that is. */
  owner: { readonly leaseId: LeaseId | undefined; readonly epoch: Revision } | undefined;
  toldAt: Revision;
  /** The key as the watch told it last, which answers may be ahead of. */
  watched: Slot['owner'];
}

interface Move {
  readonly slot: Slot;
  readonly kind: 'claim' | 'release';
  /** Of the key to delete. */
  readonly epoch: Revision;
}

const NONE = 0 as Revision;
/** Nested transactions in one, with room for what each holds. */
const MOVES_MAX = 120;
/** How long stop() waits for the keys' deletion; the lease ends them anyway. */
const STOP_MS_MAX = 2_000;

export class ShardKeeper extends BaseService {
  /** As far as this process knows. */
  readonly map: ShardMap = new ShardMap();
  /** Who owns which shard, of other queues too. */
  readonly owners: ShardOwners = new ShardOwners();
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #store: Store;
  readonly #session: Session;
  readonly #members: Members;
  readonly #owner: ShardOwner;
  readonly #slots = new Map<Key, Slot>();
  readonly #queues: readonly QueueShards[];
  readonly #onMapChanged: () => void;
  readonly #closing = new AbortController();
  #wanted: ReadonlySet<Key> = new Set();
  /** Whether the owner keys have been listed: before, nobody knows what is free. */
  #isTold = false;
  /** Releases that were asked for, until the owner has let go. */
  readonly #releases = new Map<OwnedShard, Promise<void>>();
  #isMoving = false;
  #isLeavingAll = false;
  #stopListening: () => void = () => {};
  #following: Promise<unknown> = Promise.resolve();
  #whenFree: (() => void) | undefined;

  /** @param settings.queues - as declared in this process's member record (see {@link shardRecord}) */
  constructor(
    ports: {
      readonly clock: Clock;
      readonly random: Random;
      readonly store: Store;
      readonly session: Session;
      readonly members: Members;
    },
    settings: {
      readonly queues: readonly QueueShards[];
      readonly owner: ShardOwner;
      readonly onMapChanged?: () => void;
    },
  ) {
    super();
    this.#clock = ports.clock;
    this.#random = ports.random;
    this.#store = ports.store;
    this.#session = ports.session;
    this.#members = ports.members;
    this.#owner = settings.owner;
    this.#queues = settings.queues;
    this.#onMapChanged = settings.onMapChanged ?? (() => {});
    for (const { queue, shardCount } of settings.queues) {
      for (let shard = 0; shard < shardCount; shard++) {
        const key = ownerKey({ queue, shard });
        this.#slots.set(key, {
          queue,
          shard,
          key,
          held: undefined,
          stage: 'staying',
          owner: undefined,
          toldAt: NONE,
          watched: undefined,
        });
      }
    }
  }

  /** What this process owns now; also what it has been asked to release. */
  get held(): OwnedShard[] {
    return [...this.#slots.values()].flatMap(({ held }) => held ?? []);
  }

  protected async onStart(): Promise<void> {
    this.#stopListening = this.#session.onChange((change) => {
      if (change.kind === 'ended') this.#loseAll(change.cause);
      if (change.kind === 'lifted' || change.kind === 'granted') this.#move();
      if (change.kind === 'fenced' && this.#isLeavingAll) this.#whenFree?.();
    });
    this.#following = Promise.all([
      this.#followMembers().catch(unlessClosed),
      this.#follow(OWNERS, (batch) => {
        this.owners.hear(batch);
        this.#hearOfOwners(batch);
      }).catch(unlessClosed),
      this.#follow(WAITING, (batch) => this.#hearOfWaiting(batch)).catch(unlessClosed),
    ]);
  }

  /** Asks for the release of everything, and waits for it; not for a store that does not answer: its lease ends too. */
  protected async onStop(): Promise<void> {
    this.#isLeavingAll = true;
    const freed = new Promise<void>((resolve) => {
      this.#whenFree = resolve;
    });
    this.#move();
    await Promise.all(this.#releases.values());
    if (this.#session.state === 'fenced') this.#whenFree?.();
    const patience = new AbortController();
    await Promise.race([freed, sleep(this.#clock, STOP_MS_MAX, patience.signal).catch(() => {})]);
    patience.abort();
    this.#stopListening();
    this.#closing.abort(new MillraceError('ERR_MILLRACE_CLOSED', 'the shard keeper is closed'));
    await this.#following;
  }

  // --- What others do ----------------------------------------------------------------------------------------------

  async #followMembers(): Promise<void> {
    for await (const members of this.#members.watch({ signal: this.#closing.signal })) {
      const { self } = this.#members;
      // We know better than a watch that is behind: a list of before our join would make us let go of everything.
      const isBehind = self !== undefined && !members.some(({ node }) => node === self.node);
      this.map.setMembers(isBehind ? [...members, self] : members);
      this.#redraw();
      this.#move();
    }
  }

  async #follow(prefix: string, hear: (batch: FollowBatch) => void): Promise<void> {
    const ports = { clock: this.#clock, random: this.#random, store: this.#store };
    const options = { signal: this.#closing.signal, class: 'control' } as const;
    for await (const batch of keepFollowing(ports, prefixRange(prefix), options)) {
      hear(batch);
      this.#move();
    }
  }

  /** The map has changed: other shards may be ours to have. */
  #redraw(): void {
    const wanted = new Set<Key>();
    for (const shards of this.#queues) {
      for (const [shard, owner] of this.map.ownersOf(shards).entries()) {
        if (owner === this.#members.node) wanted.add(ownerKey({ queue: shards.queue, shard }));
      }
    }
    this.#wanted = wanted;
    this.#onMapChanged();
  }

  #hearOfWaiting({ kind, events }: FollowBatch): void {
    if (kind === 'list') this.map.forgetWaiting();
    for (const event of events) {
      if (event.type === 'put') this.map.setWaiting(event.entry.key, event.entry.value);
      else this.map.setWaiting(event.key, undefined);
    }
    if (kind !== 'list' || events.length > 0) this.#redraw();
  }

  #hearOfOwners({ kind, revision, events }: FollowBatch): void {
    const told = new Set<Key>();
    for (const event of events) {
      const key = event.type === 'put' ? event.entry.key : event.key;
      told.add(key);
      const slot = this.#slots.get(key);
      if (slot === undefined) continue;
      if (event.type === 'delete') {
        slot.watched = undefined;
        this.#tell(slot, undefined, event.modRevision);
      } else {
        const { leaseId, createRevision, modRevision } = event.entry;
        slot.watched = { leaseId, epoch: createRevision };
        this.#tell(slot, slot.watched, modRevision);
      }
    }
    if (kind === 'change') return;
    // A list says by silence what is free, a later one what is as the watch has told: a key that we put, as its answer
    // said, and that went before the watch came to it, is in neither.
    for (const slot of this.#slots.values()) {
      if (told.has(slot.key)) continue;
      if (kind === 'list') slot.watched = undefined;
      this.#tell(slot, slot.watched, revision);
    }
    this.#isTold = true;
  }

  /** @param at - how new the news is: what is older than known, by an answer that came first, says nothing */
  #tell(slot: Slot, owner: Slot['owner'], at: Revision): void {
    if (at <= slot.toldAt) return;
    slot.toldAt = at;
    slot.owner = owner;
    const { held } = slot;
    if (held === undefined || held.epoch === owner?.epoch) return;
    if (slot.stage === 'left') return this.#release(slot);
    this.#lose(
      slot,
      new MillraceError(
        'ERR_MILLRACE_LEASE_LOST',
        `owner key ${slot.key} of epoch ${held.epoch} is gone`,
        { details: { key: slot.key, epoch: held.epoch } },
      ),
    );
  }

  // --- What we do --------------------------------------------------------------------------------------------------

  /** Does whatever can be done now. Cheap when that is nothing. */
  #move(): void {
    for (const slot of this.#slots.values()) this.#settleSlot(slot);
    if (!this.#isMoving) void this.#sendMoves();
    if (this.#isLeavingAll && this.held.length === 0) this.#whenFree?.();
  }

  /** Takes on a key of ours that is wanted, and asks for the release of one that is not. */
  #settleSlot(slot: Slot): void {
    const isWanted = this.#isWanted(slot);
    if (slot.held === undefined && isWanted && this.#isOurs(slot)) {
      this.#acquire(slot, slot.owner!.epoch);
    }
    if (slot.held !== undefined && !isWanted && slot.stage === 'staying') this.#askToLeave(slot);
  }

  #isWanted(slot: Slot): boolean {
    return !this.#isLeavingAll && this.#wanted.has(slot.key);
  }

  #isOurs({ owner }: Slot): boolean {
    return owner?.leaseId !== undefined && owner.leaseId === this.#session.leaseId;
  }

  #acquire(slot: Slot, epoch: Revision): void {
    const { queue, shard, key } = slot;
    const held = { queue, shard, key, epoch };
    slot.held = held;
    slot.stage = 'staying';
    publish('millrace:shard:acquired', () => ({ queue, shard, epoch }));
    this.#owner.onAcquired(held);
  }

  #askToLeave(slot: Slot): void {
    const held = slot.held!;
    slot.stage = 'leaving';
    const leaving = this.#owner.onReleaseAsked(held).then(() => {
      this.#releases.delete(held);
      // Lost meanwhile: then there is nothing to delete, and perhaps another ownership.
      if (slot.held !== held) return;
      slot.stage = 'left';
      this.#move();
    });
    this.#releases.set(held, leaving);
  }

  #lose(slot: Slot, cause: MillraceError): void {
    const held = slot.held!;
    slot.held = undefined;
    slot.stage = 'staying';
    const { queue, shard, epoch } = held;
    publish('millrace:shard:lost', () => ({ queue, shard, epoch, cause }));
    this.#owner.onLost(held, cause);
  }

  /** The key is deleted, as we wanted. */
  #release(slot: Slot): void {
    const { queue, shard, epoch } = slot.held!;
    slot.held = undefined;
    slot.stage = 'staying';
    publish('millrace:shard:released', () => ({ queue, shard, epoch }));
  }

  #loseAll(cause: MillraceError): void {
    for (const slot of this.#slots.values()) if (slot.held !== undefined) this.#lose(slot, cause);
    if (this.#isLeavingAll) this.#whenFree?.();
  }

  async #sendMoves(): Promise<void> {
    this.#isMoving = true;
    const { signal } = this.#closing;
    let backoff = new Backoff(this.#clock, this.#random);
    for (let moves = this.#moves(); moves.length > 0; moves = this.#moves()) {
      if (await this.#send(moves)) backoff = new Backoff(this.#clock, this.#random);
      else await backoff.pause(signal).catch(() => {});
    }
    this.#isMoving = false;
  }

  #moves(): Move[] {
    const moves: Move[] = [];
    const movesMax = Math.min(MOVES_MAX, this.#store.limits.operationsMax - 1);
    if (!this.#isTold || this.#closing.signal.aborted || this.#session.state !== 'live')
      return moves;
    for (const slot of this.#slots.values()) {
      const { held, owner } = slot;
      if (held !== undefined) {
        if (slot.stage === 'left') moves.push({ slot, kind: 'release', epoch: held.epoch });
      } else if (owner === undefined) {
        if (this.#isWanted(slot)) moves.push({ slot, kind: 'claim', epoch: NONE });
      } else if (this.#isOurs(slot)) {
        // A claim that applied after it had stopped to matter.
        moves.push({ slot, kind: 'release', epoch: owner.epoch });
      }
      if (moves.length === movesMax) break;
    }
    return moves;
  }

  /** @returns whether the moves were right; when not, the truth is still on its way */
  async #send(moves: readonly Move[]): Promise<boolean> {
    const leaseId = this.#session.leaseId!;
    const outcome = await this.#store
      .txn({ compares: [], success: moves.map((move) => this.#operation(move, leaseId)) })
      .catch((error: unknown): TxnOutcome => {
        // A lease that is over, a store that is full or away: the session or the next try finds out.
        if (isMillraceError(error)) return { kind: 'unknown', cause: error };
        throw error;
      });
    if (outcome.kind !== 'done') return false;
    const { revision } = outcome;
    const own = { leaseId, epoch: revision };
    let isTruth = true;
    for (const [i, { slot, kind }] of moves.entries()) {
      const answer = outcome.results[i];
      // Refused: the watch has news that we have not heard yet.
      if (answer?.type !== 'txn' || !answer.succeeded) isTruth = false;
      else this.#tell(slot, kind === 'claim' ? own : undefined, revision);
    }
    this.#move();
    return isTruth;
  }

  // claim:    if create(o/..) == 0      then put o/.. under our lease
  // release:  if create(o/..) == epoch  then delete o/..
  #operation({ slot: { key }, kind, epoch }: Move, leaseId: LeaseId): Operation {
    const value = new TextEncoder().encode(this.#members.node);
    const operation: Operation =
      kind === 'claim' ? { type: 'put', key, value, leaseId } : { type: 'delete', key };
    return {
      type: 'txn',
      txn: {
        compares: [{ target: 'create', key, operator: '=', operand: epoch }],
        success: [operation],
      },
    };
  }
}
