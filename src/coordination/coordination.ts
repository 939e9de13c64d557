/**
 * Agreement between processes over any Store: a session, and what hangs on its lease.
 *
 *   Session     one lease, and whether one may act under it            session.ts
 *   Locks       one holder at a time, with a rising token              locks.ts, lock-queue.ts, place.ts
 *   Elections   one leader at a time                                   elections.ts
 *   Members     who is there                                           members.ts
 *   ShardKeeper which shards of which queues are ours                  rendezvous.ts, shard-keeper.ts
 *   Supervisor  looks after the others' heartbeats                     supervisor.ts
 *   Compactor   how much history the store keeps                       compactor.ts
 *   WatchCanary how late watches are                                   ../store/watch-canary.ts
 */
import type { Clock } from '../core/clock.js';
import { MillraceError } from '../core/errors.js';
import type { Random } from '../core/random.js';
import { BaseService } from '../core/service.js';
import type { LockSpace, Store } from '../core/store.js';
import { WatchCanary } from '../store/watch-canary.js';
import { Compactor } from './compactor.js';
import { Elections } from './elections.js';
import { GroupedTxns } from './grouped-txns.js';
import { Locks } from './locks.js';
import { type MemberRecord, Members } from './members.js';
import { Names } from './names.js';
import { NeededRevisions } from './needed-revisions.js';
import { QueueingLocks } from './queueing-locks.js';
import { Session } from './session.js';
import { SingleKeyLocks } from './single-key-locks.js';
import { Supervisor } from './supervisor.js';

export interface CoordinationPorts {
  readonly clock: Clock;
  readonly random: Random;
  readonly store: Store;
}

export interface CoordinationSettings {
  readonly ttlMs: number;
  /** What other processes see of this one's locks. */
  readonly label: string;
  /** This process among the members. */
  readonly node: string;
  readonly record: MemberRecord;
  /** Whether it puts a record of itself among the members. */
  readonly isMember: boolean;
  /** `single-key` is the naive way, for comparison. */
  readonly locking: 'queueing' | 'single-key';
  /** How often it looks how late its watches are. @defaultValue 10 s */
  readonly canaryEveryMs?: number | undefined;
}

/** In front of lock names in a store that nobody else can reach. */
const LOCAL_LOCK_PREFIX = 'l/';
/** The canary of a member, by its name. */
const CANARIES = 'y/';

export class Coordination extends BaseService {
  readonly session: Session;
  readonly locks: Locks;
  readonly elections: Elections;
  readonly members: Members;
  /** At work in members only. */
  readonly supervisor: Supervisor;
  /** What compaction must leave readable for this process. */
  readonly needed: NeededRevisions;
  /** Only where history does not forget itself. */
  readonly compactor: Compactor | undefined;
  /** Only where others share the store: watches of a local one have no way to be late on. */
  readonly #canary: WatchCanary | undefined;
  readonly #isMember: boolean;

  constructor(ports: CoordinationPorts, settings: CoordinationSettings) {
    super();
    const { clock, random, store } = ports;
    const { ttlMs } = settings;
    this.#isMember = settings.isMember;
    const space: LockSpace = store.lockSpace ?? { store, prefix: LOCAL_LOCK_PREFIX };
    this.session = new Session(clock, random.fork('session'), store, ttlMs);
    const context = {
      clock,
      random: random.fork('line'),
      space: { ...space, store: withGroups(space.store) },
      session: this.session,
    };
    const names = new Names(space.prefix);
    const strategy =
      settings.locking === 'queueing'
        ? new QueueingLocks(context, new TextEncoder().encode(settings.label))
        : new SingleKeyLocks({ clock, random: random.fork('naive'), store, space }, ttlMs);
    this.locks = new Locks(clock, this.session, names, strategy);
    this.elections = new Elections(context, names);
    this.needed = new NeededRevisions(store);
    this.members = new Members(
      { clock, random: random.fork('members'), store, session: this.session, needed: this.needed },
      settings,
    );
    const { session, members } = this;
    this.supervisor = new Supervisor({
      ...{ clock, store, session, members },
      random: random.fork('supervisor'),
    });
    this.compactor =
      store.usage === undefined
        ? undefined
        : new Compactor({
            clock,
            store,
            needed: this.needed,
            heartbeats: () => this.members.heartbeats(),
          });
    this.#canary =
      store.lockSpace === undefined
        ? undefined
        : new WatchCanary(clock, store, {
            key: `${CANARIES}${settings.node}`,
            everyMs: settings.canaryEveryMs,
            leaseId: () => this.session.leaseId,
          });
  }

  protected async onStart(): Promise<void> {
    await this.session.start();
    if (!this.#isMember) return;
    await this.members.start();
    await this.supervisor.start();
    await this.compactor?.start();
    await this.#canary?.start();
  }

  /**
   * Places in lines and records are given back one by one while the session ends, not before it: what a silent store does
   * not hear of goes with the lease, and whoever still tells it so stops with the tenure.
   */
  protected async onStop(): Promise<void> {
    const cause = new MillraceError('ERR_MILLRACE_CLOSED', 'coordination is closed');
    this.elections.close(cause);
    const parts = [
      this.locks.close(cause),
      this.#canary?.stop(),
      this.compactor?.stop(),
      this.supervisor.stop(),
      this.members.stop(),
    ];
    await this.session.stop();
    await Promise.all(parts);
  }
}

/** A lock space whose transactions go together when there are many. */
function withGroups(store: LockSpace['store']): LockSpace['store'] {
  const grouped = new GroupedTxns(store);
  return {
    get: (key, options) => store.get(key, options),
    range: (range, options) => store.range(range, options),
    watch: (range, options) => store.watch(range, options),
    txn: (txn, options) => grouped.txn(txn, options),
  };
}
