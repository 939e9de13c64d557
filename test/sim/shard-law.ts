/**
 * The law of a cluster: what belongs to a shard is written by its owner, under the epoch of an ownership of that very
 * node; what belongs to a node is written by that node.
 *
 *   t/ s/ w/ z/ d/           put and deleted under the epoch; z/ and d/ are also deleted by any janitor
 *   i/ c/                    put by any lane, deleted under the epoch
 *   h/ n/ b/ of a node       by that node
 *   r/ of a node             put by any lane, deleted by that node, and by others when it is gone
 *   overlays of an inbox     also under the create revision of the segment, so that none of it comes back
 */
import type { SegmentRef } from '../../src/core/ids.js';
import type { Entry, Key, LeaseId, Revision, Txn } from '../../src/core/store.js';
import type { SimStore } from '../../src/testing/sim-store.js';
import type { AppliedWrites, Law, Write } from './law.js';
import { LOCK_NAME } from './lock-book.js';
import type { Oracle } from './oracle.js';
import type { SimNode } from './sim-node.js';

/** What is empty when nothing is left to do. */
const EMPTY_AT_REST = ['i/', 'c/', 's/', 't/', 'w/', 'e/'];

export class ShardLaw implements Law {
  readonly isShared = true;
  readonly #store: () => SimStore;
  readonly #violate: Oracle['violate'];
  /** Whose each ownership was. */
  readonly #owners = new Map<string, SimNode>();
  /** Segments in inboxes. */
  readonly #inbox = new Set<Key>();
  /** Leases that records of members have hung on. */
  readonly #leases = new Set<LeaseId>();
  readonly #shardCount: () => number;
  /** Somebody has put an owner key. @param shard - `<queue>.<shard>` */
  onClaim: ((shard: string, node: SimNode) => void) | undefined;

  constructor(store: () => SimStore, violate: Oracle['violate'], shardCount: () => number) {
    this.#store = store;
    this.#shardCount = shardCount;
    this.#violate = violate;
  }

  judge(applied: AppliedWrites): void {
    const { writes, node, revision } = applied;
    const hasHead = writes.some(({ key }) => key === `h/${node.incarnation}`);
    for (const write of writes) {
      const { key, value } = write;
      const [kind, name] = key.split('/');
      if (kind === 'o' && value !== undefined) this.#onClaim(`${key}@${revision}`, node);
      if (kind === 'n' && value !== undefined) this.#leases.add(this.#recordOf(node)!.leaseId!);
      const isOwn = name === node.incarnation;
      if ('nbh'.includes(kind!) && value !== undefined && !isOwn) {
        this.#violate('S5', `${node.name} writes ${key} of another node`);
      }
      if ('ticrszdkw'.includes(kind!) && value !== undefined && !hasHead) {
        this.#violate('S5', `${node.name} writes past its lane: ${key}`);
      }
      if (needsEpoch(write)) this.#judgeEpoch(write, applied);
      if (kind !== 'i') continue;
      if (value === undefined) this.#inbox.delete(key);
      else this.#inbox.add(key);
    }
  }

  fenced(node: SimNode): void {
    this.#violate('S5', `${node.name} thinks that somebody else has its lane`);
  }

  epochOf({ compares }: Txn, ref: SegmentRef): Revision | undefined {
    const key = ownerOfSegment(ref);
    const guard = compares.find((compare) => compare.key === key && compare.target === 'create');
    return guard?.operand as Revision | undefined;
  }

  sessionOf(node: SimNode): Revision | undefined {
    return this.#recordOf(node)?.createRevision;
  }

  hasOutlivedItsLease(node: SimNode): boolean {
    const { leaseId } = node;
    // Of one that no record has hung on nothing is known.
    if (leaseId === undefined || !this.#leases.has(leaseId)) return false;
    return this.#recordOf(node)?.leaseId !== leaseId;
  }

  #recordOf({ incarnation }: SimNode): Entry | undefined {
    return this.#entries(`n/${incarnation}`)[0];
  }

  /** When nothing is left to do: what the store still holds. */
  judgeRest(live: readonly SimNode[]): void {
    const shardCount = this.#shardCount();
    for (const prefix of EMPTY_AT_REST) {
      const keys = this.#entries(prefix).map(({ key }) => key);
      if (keys.length > 0) this.#violate('S9', `at rest: ${keys.length} keys, ${keys[0]}`);
    }
    const names = live.map(({ incarnation }) => incarnation).sort();
    const mail = this.#entries('r/').filter(({ key }) =>
      names.includes(key.split('/')[1] as never),
    );
    if (mail.length > 0) this.#violate('S9', `at rest: ${mail.length} letters, ${mail[0]!.key}`);
    const members = this.#entries('n/').map(({ key }) => key.slice(2));
    if (String(members) !== String(names)) {
      this.#violate('S9', `members are ${members}, and ${names} live`);
    }
    const workers = live.filter(({ isWorker }) => isWorker).map(({ incarnation }) => incarnation);
    const owners = this.#entries('o/').map(({ value }) => Buffer.from(value).toString());
    if (owners.length !== shardCount || owners.some((owner) => !workers.includes(owner as never))) {
      this.#violate('S14', `${shardCount} shards belong to ${owners}, and ${workers} work`);
    }
  }

  /** When a node has had time to give away what it had. */
  judgeHandOver(leaving: SimNode, others: readonly SimNode[]): void {
    if (!others.some(({ isWorker }) => isWorker)) return;
    const owners = this.#entries('o/').map(({ value }) => Buffer.from(value).toString());
    if (owners.includes(leaving.incarnation)) {
      this.#violate('S8', `${leaving.name} leaves, and still has one of the shards of ${owners}`);
    }
    const isWhole = this.#entries('o/').length === this.#shardCount();
    if (!isWhole) this.#violate('S8', `${leaving.name} leaves, and nobody has what it had`);
  }

  /** When everybody has closed: nothing hangs on a lease any more. */
  judgeEmpty(): void {
    for (const prefix of ['n/', 'o/', 'b/', `${LOCK_NAME}/`]) {
      const keys = this.#entries(prefix).map(({ key }) => key);
      if (keys.length > 0) this.#violate('S9', `after closing: ${keys.length} keys, ${keys[0]}`);
    }
  }

  #entries(prefix: string): readonly Entry[] {
    return this.#store().entries(prefix);
  }

  #onClaim(ownership: string, node: SimNode): void {
    this.#owners.set(ownership, node);
    node.count('shard claimed');
    const [, queue, shard] = ownership.split('@')[0]!.split('/');
    this.onClaim?.(`${queue}.${shard}`, node);
  }

  #judgeEpoch({ key }: Write, { txn, node }: AppliedWrites): void {
    const ref = refOfShardKey(key);
    const epoch = this.epochOf(txn, ref);
    const owner =
      epoch === undefined ? undefined : this.#owners.get(`${ownerOfSegment(ref)}@${epoch}`);
    if (owner !== node) {
      this.#violate('S5', `${node.name} writes ${key} under epoch ${epoch} of ${owner?.name}`);
    }
    const inboxKey = `i/${key.slice(2)}`;
    if (!'si'.includes(key[0]!) || !this.#inbox.has(inboxKey)) return;
    if (!txn.compares.some((compare) => compare.key === inboxKey && compare.target === 'create')) {
      this.#violate('S5', `${node.name} writes ${key} without its segment's create revision`);
    }
  }
}

function needsEpoch({ key, value }: Write): boolean {
  if ('tsw'.includes(key[0]!)) return true;
  return value === undefined ? 'ic'.includes(key[0]!) : 'zd'.includes(key[0]!);
}

/** `<queue>.<shard>...` out of any key of a shard. */
function refOfShardKey(key: Key): SegmentRef {
  const [kind, queue, third, fourth] = key.split('/');
  if (kind === 'd') return third as SegmentRef;
  return `${queue}.${kind === 'z' ? fourth : third}` as SegmentRef;
}

function ownerOfSegment(ref: SegmentRef): Key {
  const [queue, shard] = ref.split('.');
  return `o/${queue}/${shard}`;
}
