/**
 * One seed, from beginning to end:
 *
 *   faults   the plan's bursts are submitted, the network misbehaves, and the nemesis kills, pauses, cuts off and
 *            replaces processes
 *   heal     everything is mended; what was accepted must end, and a probe on the idle system must start in time
 *   close    the last process closes; nothing may be left over
 *
 * There is one process at a time that should run, as on one machine. A rival started beside a paused or cut off
 * process is what a supervisor does that believes it dead; the store's head decides between the two.
 */
import { channel } from 'node:diagnostics_channel';
import type { ChannelName } from '../../src/core/channels.js';
import type { Random } from '../../src/core/random.js';
import type { SimConnection } from '../../src/testing/sim-connection.js';
import { type SimStore, simStore } from '../../src/testing/sim-store.js';
import { drawMs } from '../../src/testing/store-faults.js';
import { World } from '../../src/testing/world.js';
import { forbidGlobals } from './guard.js';
import { Oracle } from './oracle.js';
import { drawPlan, FAULT_CLASSES, type FaultClass, type Plan, type PlannedTask } from './plan.js';
import { SimNode } from './sim-node.js';
import { Trace } from './trace.js';

/** After healing: the longest planned delay, retries, and a wait of the lane. */
const LIVENESS_MS = 180_000;
/** Where a wall clock was set back, what a later process took over is due that much later. */
const LIVENESS_AFTER_JUMPS_MS = 86_400_000;
/** From due to start on an idle, healed system, beside the commits' round trips. */
const LATE_MAX_MS = 60;
/** What the janitor's round takes in a healed store, and some more. */
const ROUND_MAX_MS = 1_000;
const MIN_ACCEPTED = 10;
/** Above those of all planned tasks. */
const PROBE_LABEL = 1_000_000;
/** More would be a storm without end. */
const EVENTS_MAX = 400_000;

/** Counted when they are published, to show what a run has reached. */
const WATCHED: readonly ChannelName[] = [
  'millrace:commit:unknown',
  'millrace:commit:failed',
  'millrace:task:retry',
  'millrace:task:lost',
  'millrace:task:failed',
  'millrace:result:stale',
];

export interface SimOptions {
  /** Classes of faults that may take part. @defaultValue all */
  readonly only?: ReadonlySet<FaultClass>;
  /** Keeps the lines of the trace. @defaultValue false: their hash only */
  readonly keepsTrace?: boolean;
}

export interface SimResult {
  readonly seed: number;
  readonly violations: readonly string[];
  readonly hash: string;
  readonly lines: readonly string[];
  /** Whether enough was accepted, and faults that were drawn did happen. */
  readonly counts: boolean;
  readonly accepted: number;
  readonly virtualMs: number;
  readonly events: number;
  readonly seen: ReadonlyMap<string, number>;
  readonly classes: readonly FaultClass[];
}

export async function simulate(seed: number, options: SimOptions = {}): Promise<SimResult> {
  const allow = forbidGlobals();
  const simulation = new Simulation(seed, options);
  const onRejection = (reason: unknown): void => simulation.onUnhandled(reason);
  process.on('unhandledRejection', onRejection);
  process.on('uncaughtException', onRejection);
  try {
    return await simulation.run();
  } finally {
    allow();
    process.off('unhandledRejection', onRejection);
    process.off('uncaughtException', onRejection);
  }
}

class Simulation {
  readonly #seed: number;
  readonly #world: World;
  readonly #trace: Trace;
  readonly #plan: Plan;
  readonly #oracle: Oracle;
  readonly #store: SimStore;
  readonly #random: Random;
  readonly #nodes: SimNode[] = [];
  #current: SimNode | undefined;
  #isHealed = false;
  #wallOffsetMs = 0;

  constructor(seed: number, options: SimOptions) {
    this.#seed = seed;
    this.#world = new World(seed);
    this.#trace = new Trace(() => this.#world.nowMs, options.keepsTrace ?? false);
    this.#plan = drawPlan(this.#world.random.fork('plan'), options.only);
    this.#random = this.#world.random.fork('nemesis');
    const trace = (line: string): void => this.#trace.add(line);
    this.#oracle = new Oracle(trace, this.#plan.classes.has('wallJump'));
    this.#store = simStore({
      seed: this.#world.random.u32(),
      clock: this.#world.clock,
      faults: this.#plan.faults,
      onApplied: (applied) => this.#oracle.applied(applied, this.#nodeOf(applied.connection)),
    });
  }

  onUnhandled(reason: unknown): void {
    const shown = reason instanceof Error ? reason.stack : String(reason);
    this.#oracle.violate('S16', `unhandled: ${shown}`);
  }

  async run(): Promise<SimResult> {
    const stopCounting = this.#countEvents();
    try {
      await this.#phases();
    } catch (error) {
      this.onUnhandled(error);
    } finally {
      stopCounting();
    }
    const { counts } = this.#store;
    for (const [fault, count] of Object.entries(counts)) {
      if (count > 0) this.#oracle.seen.set(`fault ${fault}`, count);
    }
    const faults = [...this.#oracle.seen.keys()].filter((what) => /^(fault|nemesis) /.test(what));
    return {
      seed: this.#seed,
      violations: this.#oracle.violations,
      hash: this.#trace.hash,
      lines: this.#trace.lines,
      counts: this.#oracle.accepted >= MIN_ACCEPTED && faults.length > 0,
      accepted: this.#oracle.accepted,
      virtualMs: this.#world.nowMs,
      events: this.#world.eventCount,
      seen: this.#oracle.seen,
      classes: FAULT_CLASSES.filter((name) => this.#plan.classes.has(name)),
    };
  }

  async #phases(): Promise<void> {
    const { faultsMs, bursts } = this.#plan;
    this.#trace.add(`classes ${[...this.#plan.classes].join(' ')}`);
    this.#startNode();
    for (const { atMs, tasks } of bursts) this.#world.at(atMs, () => this.#submit(tasks));
    this.#scheduleNemesis();
    await this.#until(() => false, faultsMs);
    this.#heal();
    // Everything in memory of a process that is gone comes back with the next one.
    // First what is under way must have come to the store.
    await this.#until(() => false, 10_000);
    await this.#wake();
    const isQuiet = (): boolean => this.#oracle.openCount === 0 && this.#isRunning;
    const hasJumps = this.#plan.classes.has('wallJump');
    await this.#until(isQuiet, hasJumps ? LIVENESS_AFTER_JUMPS_MS : LIVENESS_MS);
    await this.#until(() => false, 10_000);
    await this.#probe();
    await this.#until(isQuiet, LIVENESS_MS);
    await this.#until(() => false, 10_000);
    this.#oracle.judgeEnd();
    const node = this.#current!;
    // The janitor's round may be under way: it comes every minute, whatever else happens, and is soon over.
    await this.#until(() => node.connection?.outstanding === 0, ROUND_MAX_MS);
    if (!node.isOver) this.#oracle.judgeAnswers(node);
    if (node.state === 'running') node.judgeRest();
    else this.#oracle.violate('S14', `${node.name} is ${node.state} after healing`);
    if (node.isOver) return;
    node.shutdown(1_000, 2_000);
    if (!(await this.#until(() => node.isOver, 20_000))) {
      this.#oracle.violate('S14', `${node.name} does not close`);
    }
  }

  async #until(holds: () => boolean, limitMs: number): Promise<boolean> {
    const isStorm = (): boolean => this.#world.eventCount > EVENTS_MAX;
    const holdsNow = await this.#world.runUntil(() => isStorm() || holds(), limitMs);
    if (isStorm()) throw new Error(`${EVENTS_MAX} events: something goes round in circles`);
    return holdsNow;
  }

  get #isRunning(): boolean {
    return this.#current?.state === 'running';
  }

  #nodeOf(connection: SimConnection): SimNode {
    return this.#nodes.find((node) => node.connection === connection)!;
  }

  #startNode(): void {
    const node = new SimNode(`n${this.#nodes.length}`, {
      world: this.#world,
      store: this.#store,
      oracle: this.#oracle,
      random: this.#world.random,
      trace: (line) => this.#trace.add(line),
      threads: this.#plan.threads,
      hasEchoes: this.#plan.classes.has('echo') && !this.#isHealed,
      wallOffsetMs: this.#wallOffsetMs,
    });
    this.#nodes.push(node);
    this.#current = node;
    this.#supervise(node);
  }

  /** Starts the next process when this one is over, whatever ended it. */
  #supervise(node: SimNode): void {
    const checkMs = drawMs(this.#random, 20, this.#isHealed ? 500 : 3_000);
    this.#world.at(checkMs, () => {
      if (this.#current !== node) return;
      if (node.isOver) this.#startNode();
      else this.#supervise(node);
    });
  }

  #submit(tasks: readonly PlannedTask[]): void {
    const node = this.#current;
    if (node?.state !== 'running') return;
    for (const task of tasks) node.submit(task);
  }

  // --- Nemesis ----------------------------------------------------------------------------------------------------

  #scheduleNemesis(): void {
    const { minMs, maxMs } = this.#plan.calmMs;
    this.#world.at(drawMs(this.#random, minMs, maxMs), () => {
      if (this.#isHealed) return;
      this.#act();
      this.#scheduleNemesis();
    });
  }

  #act(): void {
    const acts = ['outage', 'partition', 'kill', 'pause', 'usurp', 'restart', 'wallJump'] as const;
    const allowed = acts.filter((name) => this.#plan.classes.has(name));
    const node = this.#current;
    if (allowed.length === 0 || node === undefined || node.isOver) return;
    const act = allowed[Math.floor(this.#random.float() * allowed.length)]!;
    if (node.state !== 'running' && act !== 'kill') return;
    this.#trace.add(`nemesis ${act} ${node.name}`);
    this.#oracle.count(`nemesis ${act}`);
    const soon = (maxMs: number, what: () => void): void => {
      this.#world.at(drawMs(this.#random, 20, maxMs), what);
    };
    switch (act) {
      case 'kill':
        return node.kill();
      case 'outage':
        this.#store.setFaults({ ...this.#plan.faults, refused: 1, readFailed: 1 });
        return soon(8_000, () => !this.#isHealed && this.#store.setFaults(this.#plan.faults));
      case 'partition':
        node.connection?.partition();
        return soon(15_000, () => node.connection?.heal());
      case 'pause':
        node.process.pause();
        return soon(20_000, () => node.process.resume());
      case 'restart':
        return node.shutdown(drawMs(this.#random, 0, 1_000), drawMs(this.#random, 1_000, 3_000));
      case 'wallJump':
        return this.#jumpWall(node);
      case 'usurp': {
        const isPaused = this.#random.float() < 0.5;
        if (isPaused) node.process.pause();
        else node.connection?.partition();
        soon(20_000, () => {
          node.process.resume();
          node.connection?.heal();
        });
        return soon(3_000, () => this.#current === node && !this.#isHealed && this.#startNode());
      }
    }
  }

  #jumpWall(node: SimNode): void {
    const jumpsMs = [1_000, -1_000, 60_000, -60_000, -600_000, 3_600_000, 86_400_000];
    const jumpMs = jumpsMs[Math.floor(this.#random.float() * jumpsMs.length)]!;
    this.#wallOffsetMs += jumpMs;
    node.process.jumpWall(jumpMs);
  }

  #heal(): void {
    this.#trace.add('heal');
    this.#isHealed = true;
    this.#store.setFaults({ latency: { minMs: 0.1, maxMs: 2 } });
    for (const node of this.#nodes) {
      node.process.resume();
      node.connection?.heal();
      // Who was given up by its supervisor is ended by it, once it is seen to be alive.
      if (node !== this.#current) this.#world.at(5_000, () => node.kill());
    }
  }

  /**
   * A rival that lives on a little while after healing may fence the process that is to do the rest, and that hears
   * of it only when it is asked to write something. Then it is the next process that has everything to do.
   */
  async #wake(): Promise<void> {
    await this.#until(() => this.#isRunning, 10_000);
    this.#submitProbe(PROBE_LABEL, 0);
    await this.#until(() => false, 5_000);
    await this.#until(() => this.#isRunning, 10_000);
  }

  /** On an idle system a task starts when it is due, not much later. */
  async #probe(): Promise<void> {
    const label = PROBE_LABEL + 1;
    const delayMs = 300;
    this.#submitProbe(label, delayMs);
    const limitMs = delayMs + LATE_MAX_MS;
    const isStarted = await this.#until(() => this.#oracle.hasStarted(label), limitMs);
    if (!isStarted) this.#oracle.violate('S8', `the probe has not started by ${LATE_MAX_MS} ms`);
  }

  #submitProbe(label: number, delayMs: number): void {
    const node = this.#current;
    if (node?.state !== 'running') return;
    const probe: PlannedTask = {
      label,
      type: 'work',
      delayMs,
      priority: 0,
      ttlMs: 0,
      key: undefined,
      script: ['ok'],
      runMs: 1,
      cancelAfterMs: undefined,
      paddingBytes: 0,
    };
    node.submit(probe);
  }

  #countEvents(): () => void {
    const cleanUps = WATCHED.map((name) => {
      const listener = (): void => this.#oracle.count(name);
      channel(name).subscribe(listener);
      return () => channel(name).unsubscribe(listener);
    });
    return () => {
      for (const cleanUp of cleanUps) cleanUp();
    };
  }
}
