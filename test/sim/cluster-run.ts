/**
 * The world of a cluster: up to four nodes that share a store, workers and producers, each with a session, a place among
 * the members, and an engine of its own.
 *
 *   faults   bursts are submitted to whoever runs; other nodes wait for the tasks and cancel them, by their ids. The
 *            network misbehaves; the nemesis kills, pauses and cuts off nodes, ends leases, forgets history, lets nodes
 *            leave and join, and moves their wall clocks
 *   heal     everything is mended, and every seat of the beginning is taken again. All that was accepted must end, a
 *            probe on the idle system must start in time, and nothing may be left in the store but what is kept
 *   close    the nodes close one by one; what hangs on leases is gone
 */
import { requireTaskId } from '../../src/core/ids.js';
import type { Txn } from '../../src/core/store.js';
import type { TaskPlace } from '../../src/engine/task-desk.js';
import { drawMs } from '../../src/testing/store-faults.js';
import { type ClusterPlan, drawClusterPlan, type Seat } from './plan.js';
import { PROBE, PROBE_LABEL, Run, type SimOptions } from './run.js';
import { ShardLaw } from './shard-law.js';
import { type NodeWorld, SimNode } from './sim-node.js';

/** After healing: the longest planned delay, retries, a takeover, and what wall clocks went back. */
const LIVENESS_MS = 400_000;
/** At rest a node still renews its lease, and tells others what it needs. */
const CALLS_MAX_MS = 1_000;
/** Wall clocks of machines stay this close to the truth: nearer than anything that is kept by age. */
const WALL_OFFSET_MAX_MS = 120_000;
const JUMPS_MS = [700, -700, 5_000, -5_000, 60_000, -60_000];
/** From the wish to leave until others have what one had. */
const HAND_OVER_MAX_MS = 300;
/** How many tasks are cancelled after each act of the nemesis, and how soon: shards change hands then. */
const CANCELS_PER_ACT = 4;
const CANCELS_WITHIN_MS = 2_000;
/** A shard takes about so long to be read, from the moment that its key is put. */
const CANCEL_READING_MS = 60;
/** Between two nodes that want the lock, and how long each keeps it. */
const LOCK_EVERY_MAX_MS = 1_000;
const HOLD_MAX_MS = 600;
/** Gentle ends, with a store that may have gone silent. */
const CLOSE_MAX_MS = 60_000;

const ACTS = [
  'outage',
  'partition',
  'kill',
  'pause',
  'wallJump',
  'join',
  'leave',
  'leaseLost',
  'compaction',
  'rest',
] as const;

/** Where a node is, or was, or will be. */
interface Machine extends Seat {
  isWanted: boolean;
  node: SimNode | undefined;
  wallOffsetMs: number;
}

export class ClusterRun extends Run<ClusterPlan> {
  readonly #law: ShardLaw;
  readonly #machines: readonly Machine[];
  /** Nobody asks for anything any more. */
  #isResting = false;

  constructor(seed: number, options: SimOptions) {
    let law: ShardLaw | undefined;
    super(seed, options, {
      world: 'cluster',
      drawPlan: drawClusterPlan,
      lawOf: (store, judge) => {
        law = new ShardLaw(store, judge, () => this.plan.shardCount);
        law.onClaim = (shard, node) => this.#cancelWhileRead(shard, node);
        return law;
      },
    });
    this.#law = law!;
    this.#machines = this.plan.seats.map((seat) => ({
      ...seat,
      isWanted: seat.isTaken,
      node: undefined,
      wallOffsetMs: 0,
    }));
  }

  protected async phases(): Promise<void> {
    const { ttlMs, faultsMs, shardCount } = this.plan;
    const roles = this.#machines.map((m) => (m.isTaken ? (m.isWorker ? 'w' : 'p') : '-')).join('');
    this.trace(`ttl ${ttlMs} shards ${shardCount} seats ${roles}`);
    for (const machine of this.#machines) {
      if (machine.isWanted) this.#start(machine);
      this.#supervise(machine);
    }
    this.begin();
    if (this.plan.classes.has('locks')) this.#scheduleLocks();
    await this.pass(faultsMs);
    this.heal();
    // What is under way must have come to the store.
    await this.pass(10_000);
    await this.endRest();
    await this.endCrons();
    const isQuiet = (): boolean => this.oracle.openCount === 0 && this.#isWhole;
    if (!(await this.untilQuiet(isQuiet, LIVENESS_MS))) this.#tellWhatIsMissing();
    await this.pass(2 * ttlMs + 10_000);
    this.#machines[0]!.isWanted = true;
    await this.probe(PROBE_LABEL, this.plan.classes.has('wallJump') ? 2 * WALL_OFFSET_MAX_MS : 0);
    await this.until(isQuiet, LIVENESS_MS);
    this.#isResting = true;
    await this.pass(3_000);
    this.oracle.answers.judgeEnd();
    await this.#judgeRest();
    await this.#close();
  }

  /** Records of members come late: whoever has a new lease is not among them for a while. */
  protected override isLost({ success }: Txn): boolean {
    if (this.isHealed || !this.plan.classes.has('lateRecord')) return false;
    const isRecord = success.some(
      ({ type, ...put }) => type === 'put' && 'key' in put && put.key.startsWith('n/'),
    );
    return isRecord && this.random.float() < 0.7;
  }

  protected anyNode(): SimNode | undefined {
    const running = this.#running;
    return running[Math.floor(this.random.float() * running.length)];
  }

  protected onAccepted(...[node, task, accepted]: Parameters<NodeWorld['onAccepted']>): void {
    const { random } = this;
    if (random.float() < 0.7) node.follow(accepted);
    // Handles are good for the table they come from.
    const fromAfar = { ...accepted, task: 0 as typeof accepted.task };
    if (random.float() < 0.4) {
      const afterMs = random.float() < 0.7 ? random.float() * 3_000 : random.float() * 60_000;
      this.world.at(afterMs, () => !this.#isResting && this.anyNode()?.follow(fromAfar));
    }
    if (random.float() < 0.02) {
      const unknown = { ...fromAfar, index: 251 };
      this.anyNode()?.follow(unknown);
      this.anyNode()?.cancel(unknown);
    }
    if (task.cancelAfterMs === undefined) return;
    if (random.float() < 0.3)
      node.process.clock.wakeIn(task.cancelAfterMs, () => node.cancel(accepted));
    else this.world.at(task.cancelAfterMs, () => this.anyNode()?.cancel(fromAfar));
  }

  protected act(): void {
    const { random, plan } = this;
    const allowed = ACTS.filter((name) => plan.classes.has(name));
    const act = allowed[Math.floor(random.float() * allowed.length)];
    const node = this.anyNode();
    if (act === undefined || node === undefined) return;
    this.trace(`nemesis ${act} ${node.name}`);
    this.oracle.count(`nemesis ${act}`);
    if (plan.classes.has('cancel')) this.#cancelSome();
    switch (act) {
      case 'kill':
        return node.kill();
      case 'outage':
        return this.outage();
      case 'rest':
        return this.rest();
      case 'partition':
        node.connection?.partition();
        return this.soon(3 * plan.ttlMs, () => node.connection?.heal());
      case 'pause':
        node.process.pause();
        this.oracle.locks.disturbed(node);
        return this.soon(4 * plan.ttlMs, () => node.process.resume());
      case 'join':
        return this.#join();
      case 'leave':
        return this.#leave(node);
      case 'wallJump':
        return this.#jumpWall(node);
      case 'leaseLost':
        this.oracle.locks.revoked(node.leaseId);
        return void node.connection?.loseLeases();
      case 'compaction':
        return void this.store.compact();
    }
  }

  protected override heal(): void {
    super.heal();
    for (const machine of this.#machines) machine.isWanted = machine.isTaken;
    for (const { node, isWanted } of this.#machines) {
      if (isWanted || node === undefined) continue;
      if (node.state === 'running') node.shutdown(1_000, 2_000);
      else if (node.state === 'starting') node.kill();
    }
  }

  /** Of a shard that a node has just got, and reads. */
  #cancelWhileRead(shard: string, node: SimNode): void {
    if (this.isHealed || !this.plan.classes.has('cancel') || this.random.float() < 0.5) return;
    this.world.at(this.random.float() * CANCEL_READING_MS, () => {
      const open = [...this.oracle.open()].filter((id) => id.startsWith(`${shard}.`));
      const id = open[Math.floor(this.random.float() * open.length)];
      if (id === undefined || node.state !== 'running') return;
      node.cancel({ ...requireTaskId(id), task: 0 as TaskPlace['task'] });
    });
  }

  /** While shards change hands. */
  #cancelSome(): void {
    for (let i = 0; i < CANCELS_PER_ACT; i++) {
      this.soon(CANCELS_WITHIN_MS, () => {
        if (this.isHealed) return;
        const open = [...this.oracle.open()];
        const id = open[Math.floor(this.random.float() * open.length)];
        const node = this.anyNode();
        if (id === undefined || node === undefined) return;
        node.cancel({ ...requireTaskId(id), task: 0 as TaskPlace['task'] });
      });
    }
  }

  get #running(): SimNode[] {
    return this.#machines.flatMap(({ node }) => (node?.state === 'running' ? [node] : []));
  }

  /** Whether those that should be there are, and nobody else is. */
  get #isWhole(): boolean {
    const wanted = this.#machines.filter(({ isWanted }) => isWanted);
    const isThere = wanted.every(({ node }) => node?.state === 'running');
    return isThere && this.nodes.filter(({ isOver }) => !isOver).length === wanted.length;
  }

  #start(machine: Machine): void {
    const { ttlMs, shardCount } = this.plan;
    const { isWorker, wallOffsetMs } = machine;
    const name = `${isWorker ? 'w' : 'p'}${this.nodes.length}`;
    const seat = { ttlMs, shardCount, isWorker };
    const node = new SimNode(name, this.worldOfNodes(wallOffsetMs), seat);
    this.nodes.push(node);
    machine.node = node;
  }

  /** Starts the next node on a machine where one is wanted. */
  #supervise(machine: Machine): void {
    this.world.at(drawMs(this.random, 20, this.isHealed ? 500 : 3_000), () => {
      machine.node?.checkHealth();
      const isFree = machine.node === undefined || machine.node.isOver;
      if (isFree && machine.isWanted) this.#start(machine);
      this.#supervise(machine);
    });
  }

  /** Everybody wants the one lock, now and then. */
  #scheduleLocks(): void {
    this.soon(LOCK_EVERY_MAX_MS, () => {
      if (this.isHealed) return;
      this.anyNode()?.holdLock(this.random.float() * HOLD_MAX_MS);
      this.#scheduleLocks();
    });
  }

  #join(): void {
    const free = this.#machines.filter(({ isWanted }) => !isWanted);
    const machine = free[Math.floor(this.random.float() * free.length)];
    if (machine !== undefined) machine.isWanted = true;
  }

  /** Mostly for good, and sometimes only to be started again. */
  #leave(node: SimNode): void {
    const machine = this.#machines.find((candidate) => candidate.node === node)!;
    if (this.random.float() < 0.7) machine.isWanted = false;
    node.shutdown(drawMs(this.random, 0, 1_000), drawMs(this.random, 1_000, 3_000));
  }

  #jumpWall(node: SimNode): void {
    const machine = this.#machines.find((candidate) => candidate.node === node)!;
    const jumpMs = JUMPS_MS[Math.floor(this.random.float() * JUMPS_MS.length)]!;
    if (Math.abs(machine.wallOffsetMs + jumpMs) > WALL_OFFSET_MAX_MS) return;
    machine.wallOffsetMs += jumpMs;
    node.process.jumpWall(jumpMs);
  }

  #tellWhatIsMissing(): void {
    const states = this.nodes
      .filter(({ isOver }) => !isOver)
      .map(({ name, state }) => `${name} ${state}`);
    this.oracle.violate('S14', `${this.oracle.openCount} open after healing; ${states}`);
  }

  async #judgeRest(): Promise<void> {
    const live = this.#running;
    const isSilent = (): boolean => live.every(({ connection }) => connection?.outstanding === 0);
    await this.until(isSilent, CALLS_MAX_MS);
    for (const node of live) node.judgeRest();
    this.#law.judgeRest(live);
  }

  async #close(): Promise<void> {
    for (const machine of this.#machines) machine.isWanted = false;
    for (const [i, node] of this.#running.entries()) {
      // What still runs does not hold up the hand-over.
      node.submit({ ...PROBE, label: PROBE_LABEL + 1 + i, runMs: 800 });
      await this.pass(100);
      node.shutdown(1_000, 2_000);
      await this.pass(HAND_OVER_MAX_MS);
      this.#law.judgeHandOver(node, this.#running);
      if (!(await this.until(() => node.isOver, CLOSE_MAX_MS))) {
        this.oracle.violate('S14', `${node.name} does not close`);
      }
    }
    this.#law.judgeEmpty();
  }
}
