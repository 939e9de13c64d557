/**
 * The world of one writer: one process at a time that should run, as on one machine.
 *
 *   faults   the plan's bursts are submitted, the network misbehaves, and the nemesis kills, pauses, cuts off and
 *            replaces processes
 *   heal     everything is mended; what was accepted must end, and a probe on the idle system must start in time
 *   close    the last process closes; nothing may be left over
 *
 * A rival started beside a paused or cut off process is what a supervisor does that believes it dead; the store's head
 * decides between the two.
 */
import { drawMs } from '../../src/testing/store-faults.js';
import { LaneLaw } from './lane-law.js';
import { drawLonePlan } from './plan.js';
import { PROBE_LABEL, Run, type SimOptions } from './run.js';
import { type NodeWorld, SimNode } from './sim-node.js';

/** After healing: the longest planned delay, retries, and a wait of the lane. */
const LIVENESS_MS = 180_000;
/** Where a wall clock was set back, what a later process took over is due that much later. */
const LIVENESS_AFTER_JUMPS_MS = 86_400_000;
/** What the janitor's round takes in a healed store, and some more. */
const ROUND_MAX_MS = 1_000;
const ACTS = [
  'outage',
  'partition',
  'kill',
  'pause',
  'usurp',
  'restart',
  'wallJump',
  'rest',
] as const;
const JUMPS_MS = [1_000, -1_000, 60_000, -60_000, -600_000, 3_600_000, 86_400_000];

export class LoneRun extends Run {
  #current: SimNode | undefined;
  #wallOffsetMs = 0;

  constructor(seed: number, options: SimOptions) {
    super(seed, options, {
      world: 'lone',
      drawPlan: drawLonePlan,
      lawOf: (_, judge) => new LaneLaw(judge),
    });
  }

  protected async phases(): Promise<void> {
    this.#startNode();
    this.begin();
    await this.pass(this.plan.faultsMs);
    this.heal();
    // Everything in memory of a process that is gone comes back with the next one.
    // First what is under way must have come to the store.
    await this.pass(10_000);
    await this.#wake();
    await this.endRest();
    await this.endCrons();
    const isQuiet = (): boolean => this.oracle.openCount === 0 && this.#isRunning;
    const hasJumps = this.plan.classes.has('wallJump');
    await this.untilQuiet(isQuiet, hasJumps ? LIVENESS_AFTER_JUMPS_MS : LIVENESS_MS);
    await this.pass(10_000);
    await this.probe(PROBE_LABEL + 1);
    await this.until(isQuiet, LIVENESS_MS);
    await this.pass(10_000);
    this.oracle.answers.judgeEnd();
    const node = this.#current!;
    // The janitor's round may be under way: it comes every minute, whatever else happens, and is soon over.
    await this.until(() => node.connection?.outstanding === 0, ROUND_MAX_MS);
    if (!node.isOver) this.oracle.answers.judgeAnswers(node);
    if (node.state === 'running') node.judgeRest();
    else this.oracle.violate('S14', `${node.name} is ${node.state} after healing`);
    if (node.isOver) return;
    node.shutdown(1_000, 2_000);
    if (!(await this.until(() => node.isOver, 20_000))) {
      this.oracle.violate('S14', `${node.name} does not close`);
    }
  }

  protected anyNode(): SimNode | undefined {
    return this.#isRunning ? this.#current : undefined;
  }

  protected onAccepted(...[node, task, accepted]: Parameters<NodeWorld['onAccepted']>): void {
    node.follow(accepted);
    if (task.cancelAfterMs === undefined) return;
    node.process.clock.wakeIn(task.cancelAfterMs, () => node.cancel(accepted));
  }

  protected act(): void {
    const allowed = ACTS.filter((name) => this.plan.classes.has(name));
    const node = this.#current;
    if (allowed.length === 0 || node === undefined || node.isOver) return;
    const act = allowed[Math.floor(this.random.float() * allowed.length)]!;
    if (node.state !== 'running' && act !== 'kill') return;
    this.trace(`nemesis ${act} ${node.name}`);
    this.oracle.count(`nemesis ${act}`);
    switch (act) {
      case 'kill':
        return node.kill();
      case 'outage':
        return this.outage();
      case 'rest':
        return this.rest();
      case 'partition':
        node.connection?.partition();
        return this.soon(15_000, () => node.connection?.heal());
      case 'pause':
        node.process.pause();
        return this.soon(20_000, () => node.process.resume());
      case 'restart':
        return node.shutdown(drawMs(this.random, 0, 1_000), drawMs(this.random, 1_000, 3_000));
      case 'wallJump':
        return this.#jumpWall(node);
      case 'usurp': {
        const isPaused = this.random.float() < 0.5;
        if (isPaused) node.process.pause();
        else node.connection?.partition();
        this.soon(20_000, () => {
          node.process.resume();
          node.connection?.heal();
        });
        this.soon(3_000, () => this.#current === node && !this.isHealed && this.#startNode());
      }
    }
  }

  protected override heal(): void {
    super.heal();
    for (const node of this.nodes) {
      // Who was given up by its supervisor is ended by it, once it is seen to be alive.
      if (node !== this.#current) this.world.at(5_000, () => node.kill());
    }
  }

  get #isRunning(): boolean {
    return this.#current?.state === 'running';
  }

  #startNode(): void {
    const name = `n${this.nodes.length}`;
    const node = new SimNode(name, this.worldOfNodes(this.#wallOffsetMs));
    this.nodes.push(node);
    this.#current = node;
    this.#supervise(node);
  }

  /** Starts the next process when this one is over, whatever ended it. */
  #supervise(node: SimNode): void {
    const checkMs = drawMs(this.random, 20, this.isHealed ? 500 : 3_000);
    this.world.at(checkMs, () => {
      if (this.#current !== node) return;
      if (node.isOver) this.#startNode();
      else this.#supervise(node);
    });
  }

  #jumpWall(node: SimNode): void {
    const jumpMs = JUMPS_MS[Math.floor(this.random.float() * JUMPS_MS.length)]!;
    this.#wallOffsetMs += jumpMs;
    node.process.jumpWall(jumpMs);
  }

  /**
   * A rival that lives on a little while after healing may fence the process that is to do the rest, and that hears
   * of it only when it is asked to write something. Then it is the next process that has everything to do.
   */
  async #wake(): Promise<void> {
    await this.until(() => this.#isRunning, 10_000);
    this.submitProbe(PROBE_LABEL, 0);
    await this.pass(5_000);
    await this.until(() => this.#isRunning, 10_000);
  }
}
