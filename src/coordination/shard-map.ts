/**
 * ShardMap: who is to have which shard, by the members that are there and by what waits in the shard.
 *
 *   members of the queue -> those that run what waits there, if anybody does -> weighted rendezvous -> one
 *
 * While versions are mixed, not every member of a queue runs all of its types. Whoever owns a shard with due tasks that it
 * cannot run, and that others can, says so in the store, under its epoch:
 *
 *   w/<queue>/<shard>   { format, type }
 *
 * From then on everybody looks for the shard's owner among the members that run this type, so the shard goes to one of
 * them as it would after a member came or left. The key stays until all members of the queue run the type. One type is
 * enough: should the next owner lack another that waits, it says that instead, and the shard moves on.
 *
 * Members that see different maps for a while only ask for, or let go of, a shard too early (see ShardKeeper).
 * Cost: a hash per shard and member, once per change and queue.
 */
import type { Key } from '../core/store.js';
import type { Member, MemberRecord } from './members.js';
import { type Candidate, ownerOf } from './rendezvous.js';

/** A queue that this process has handlers for. */
export interface QueueShards {
  readonly queue: string;
  /** The same for all processes, for ever: tasks' ids hold the number of their shard. 1 to 1296. */
  readonly shardCount: number;
}

interface Place {
  readonly queue: string;
  readonly shard: number;
}

export const OWNERS = 'o/';
export const WAITING = 'w/';
const SHARD_DIGITS = 2;
/** What waits, in another format, says nothing. */
const FORMAT = 1;

/**
 * What a process says of itself in its member record, for others to know which shards are its.
 *
 * @param tasks - types that it has handlers for
 */
export function shardRecord(
  queues: readonly QueueShards[],
  weight = 1,
  tasks: readonly string[] = [],
): MemberRecord {
  return { queues: queues.map(({ queue }) => queue), weight, tasks };
}

export function ownerKey(at: Place): Key {
  return OWNERS + placeName(at);
}

export function waitingKey(at: Place): Key {
  return WAITING + placeName(at);
}

export function encodeWaiting(type: string): Uint8Array {
  return new TextEncoder().encode(JSON.stringify({ format: FORMAT, type }));
}

export class ShardMap {
  #members: readonly Member[] | undefined;
  /** What waits for somebody who runs it, by the shard's name. */
  readonly #waiting = new Map<string, string>();
  /** Owners of all shards of a queue, as long as nothing changes. */
  readonly #owners = new Map<string, readonly (string | undefined)[]>();
  /** What `shardsFor` says, by queue and type, as long as nothing changes. */
  readonly #fitting = new Map<string, readonly number[]>();

  setMembers(members: readonly Member[]): void {
    this.#members = members;
    this.#change();
  }

  /** @param value - undefined: nothing does any more */
  setWaiting(key: Key, value: Uint8Array | undefined): void {
    const name = key.slice(WAITING.length);
    const type = value === undefined ? undefined : decodeWaiting(value);
    if (type === undefined) this.#waiting.delete(name);
    else this.#waiting.set(name, type);
    this.#change();
  }

  /** Nothing waits anywhere, as far as is known. */
  forgetWaiting(): void {
    this.#waiting.clear();
    this.#change();
  }

  /** The type that the shard's owner has to run. */
  waitingAt(at: Place): string | undefined {
    return this.#waiting.get(placeName(at));
  }

  /** Who is to have each shard of a queue, by its number. */
  ownersOf({ queue, shardCount }: QueueShards): readonly (string | undefined)[] {
    let owners = this.#owners.get(queue);
    if (owners?.length !== shardCount) {
      owners = Array.from({ length: shardCount }, (_, shard) => this.#ownerOf({ queue, shard }));
      this.#owners.set(queue, owners);
    }
    return owners;
  }

  /** Shards whose owner is to be somebody who runs the type; the same list as long as nothing changes. */
  shardsFor(type: string, queue: QueueShards): readonly number[] {
    const name = `${queue.queue}/${type}`;
    let shards = this.#fitting.get(name);
    if (shards === undefined) {
      shards = this.#findShardsFor(type, queue);
      this.#fitting.set(name, shards);
    }
    return shards;
  }

  /** Whether some member of the queue runs the type; also while nothing is known of members. */
  isRun(queue: string, type: string): boolean {
    return this.#members === undefined || this.#runnersOf(queue, type).length > 0;
  }

  /** How many members run tasks, of whatever queue. */
  get runnerCount(): number {
    const runners = (this.#members ?? []).filter(({ record: { queues } }) => isListed(queues));
    return runners.length;
  }

  isRunByAll(queue: string, type: string): boolean {
    return this.#membersOf(queue).every((member) => isRunBy(member, type));
  }

  #change(): void {
    this.#owners.clear();
    this.#fitting.clear();
  }

  #findShardsFor(type: string, queue: QueueShards): number[] {
    const runners = new Set(this.#runnersOf(queue.queue, type).map(({ node }) => node));
    if (runners.size === 0) return [];
    return this.ownersOf(queue).flatMap((owner, shard) =>
      owner !== undefined && runners.has(owner) ? [shard] : [],
    );
  }

  #ownerOf(at: Place): string | undefined {
    const type = this.waitingAt(at);
    const runners = type === undefined ? [] : this.#runnersOf(at.queue, type);
    const members = runners.length > 0 ? runners : this.#membersOf(at.queue);
    return ownerOf(ownerKey(at), members.map(candidateOf));
  }

  #runnersOf(queue: string, type: string): Member[] {
    return this.#membersOf(queue).filter((member) => isRunBy(member, type));
  }

  /** What does not say which queues it has gets none. */
  #membersOf(queue: string): Member[] {
    return (this.#members ?? []).filter(({ record: { queues } }) => includes(queues, queue));
  }
}

function placeName({ queue, shard }: Place): string {
  return `${queue}/${shard.toString(36).padStart(SHARD_DIGITS, '0')}`;
}

function candidateOf({ node, record: { weight = 1 } }: Member): Candidate {
  return { node, weight: typeof weight === 'number' ? weight : 1 };
}

function isRunBy({ record: { tasks } }: Member, type: string): boolean {
  return includes(tasks, type);
}

function isListed(list: unknown): boolean {
  return Array.isArray(list) && list.length > 0;
}

function includes(list: unknown, name: string): boolean {
  return Array.isArray(list) && list.includes(name);
}

function decodeWaiting(value: Uint8Array): string | undefined {
  try {
    const { format, type } = JSON.parse(new TextDecoder().decode(value)) as Record<string, unknown>;
    return format === FORMAT && typeof type === 'string' ? type : undefined;
  } catch {
    return undefined;
  }
}
