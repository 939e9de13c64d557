/**
 * Placement: the shard that the next new segment goes to.
 *
 *   own shards        if it runs the type, and while it has capacity: what waits for a place here is little, or gone within seconds
 *   else two others   of the nodes that own shards whose tasks of the type run, drawn by lot; the less loaded one gets it, if it has
 *                     less to do than this node. A node without handlers always does this
 *   else              own shards, or any: whoever owns it later finds it in the inbox
 *
 * Nodes whose queue is full get nothing while others have room, and a node without handlers submits nothing while all of them
 * are full (`isFullElsewhere`).
 *
 * A segment that stays runs after one commit; one that goes through an inbox needs three. So work leaves only when there is
 * so much of it here that this does not matter: more than `READY_MIN` ready tasks, and more than end here in
 * `READY_SECONDS`. Which of the others is decided by power of two choices over their published loads.
 * Source: Mitzenmacher, "The power of two choices in randomized load balancing" (2001).
 */
import { type Load, tasksPerThread } from '../coordination/load.js';
import type { LoadBoard } from '../coordination/load-board.js';
import type { ShardOwners } from '../coordination/shard-owners.js';
import type { Clock } from '../core/clock.js';
import type { Random } from '../core/random.js';
import type { Home } from './closed-frame.js';
import type { NewSegment } from './intake.js';
import { type OtherOwner, OtherOwners } from './other-owners.js';
import type { Shards } from './shards.js';

/** So few ready tasks are never too many: a few commits' worth of claims. */
const READY_MIN = 4_096;
/** More ready tasks than end here in this time are too many. */
const READY_SECONDS = 2;
/** Throughput is measured over at least so long. */
const MEASURE_MS = 1_000;

export interface PlacementPorts {
  readonly clock: Clock;
  readonly random: Random;
  readonly shards: Shards;
  readonly owners: ShardOwners;
  readonly board: LoadBoard;
  readonly node: string;
  /** Of every queue. */
  readonly shardCount: number;
  /** Whether tasks of a type run here. */
  isHandled(type: string): boolean;
  /** Shards whose owner is to be somebody who runs the type; none: nobody does, as far as is known. */
  shardsFor(queue: string, type: string): readonly number[];
  /** This node's own. */
  load(): Load;
  /** Its ready tasks, or a few more; cheaper. */
  readyAtMost(): number;
}

export class Placement {
  readonly #ports: PlacementPorts;
  readonly #others: OtherOwners;
  /** Ends since the last measurement, and what they came to then. */
  #ended = 0;
  #measuredAtMs: number;
  #endedPerSecond = 0;

  constructor(ports: PlacementPorts) {
    this.#ports = ports;
    this.#others = new OtherOwners(ports.owners, ports.node);
    this.#measuredAtMs = ports.clock.monoMs();
  }

  /** So many tasks have ended here. */
  noteEnded(tasks: number): void {
    this.#ended += tasks;
  }

  home(segment: NewSegment): Home {
    const { shards, random, shardCount, isHandled, shardsFor } = this.#ports;
    const { queue, type } = segment;
    if (segment.shard !== undefined) return this.#homeAt(queue, segment.shard);
    const own = isHandled(type) ? shards.next(queue) : undefined;
    const mine: Home | undefined = own && { shard: own.shard, owner: own, isInbox: false };
    if (mine !== undefined && this.#hasCapacity()) return mine;
    const fitting = shardsFor(queue, type);
    const elsewhere = this.#elsewhere(segment, fitting, mine !== undefined);
    if (elsewhere !== undefined || mine !== undefined) return elsewhere ?? mine!;
    const draw = random.u32();
    const shard = fitting[draw % fitting.length] ?? draw % shardCount;
    return { shard, owner: undefined, isInbox: true };
  }

  /** Whether those who run a type elsewhere have no room for more of it, as far as is known; it does not run here. */
  isFullElsewhere({ queue, type }: Pick<NewSegment, 'queue' | 'type'>): boolean {
    const { board, isHandled, shardsFor } = this.#ports;
    if (isHandled(type)) return false;
    const others = this.#preferred(queue, shardsFor(queue, type));
    return others.length > 0 && others.every(({ node }) => board.isFull(node));
  }

  #homeAt(queue: string, shard: number): Home {
    for (const owner of this.#ports.shards.active()) {
      if (owner.queue === queue && owner.shard === shard) return { shard, owner, isInbox: false };
    }
    return { shard, owner: undefined, isInbox: true };
  }

  /** Cheap where little waits: the throughput is only looked at beyond that. */
  #hasCapacity(): boolean {
    if (this.#ports.readyAtMost() <= READY_MIN) return true;
    const { ready } = this.#ports.load();
    return ready <= Math.max(READY_MIN, READY_SECONDS * this.#perSecond());
  }

  #perSecond(): number {
    const passedMs = this.#ports.clock.monoMs() - this.#measuredAtMs;
    if (passedMs >= MEASURE_MS) {
      this.#endedPerSecond = (this.#ended * 1_000) / passedMs;
      this.#ended = 0;
      this.#measuredAtMs += passedMs;
    }
    return this.#endedPerSecond;
  }

  #elsewhere(
    { queue, tasks }: NewSegment,
    fitting: readonly number[],
    isHomePossible: boolean,
  ): Home | undefined {
    const { board, random, load } = this.#ports;
    const others = this.#preferred(queue, fitting);
    if (others.length === 0) return undefined;
    const first = others.length === 1 ? 0 : random.u32() % others.length;
    const step = others.length < 3 ? 1 : 1 + (random.u32() % (others.length - 1));
    const [a, b] = [others[first]!, others[(first + step) % others.length]!];
    // Nothing known of a node: it is new, or this is the first question.
    const [pressureA, pressureB] = [a, b].map(({ node }) => board.pressureOf(node) ?? 0);
    if (isHomePossible && Math.min(pressureA!, pressureB!) > tasksPerThread(load()))
      return undefined;
    const { node, shards } = pressureB! < pressureA! ? b : a;
    board.notePlaced(node, tasks);
    return { shard: shards[random.u32() % shards.length]!, owner: undefined, isInbox: true };
  }

  /** Who else owns shards that fit; those that should get nothing only when there is nobody else. */
  #preferred(queue: string, fitting: readonly number[]): readonly OtherOwner[] {
    const { board } = this.#ports;
    const others = this.#others.of(queue, fitting);
    const fit = others.filter(({ node }) => board.pressureOf(node) !== Number.POSITIVE_INFINITY);
    const roomy = fit.filter(({ node }) => !board.isFull(node));
    if (roomy.length > 0) return roomy;
    return fit.length > 0 ? fit : others;
  }
}
