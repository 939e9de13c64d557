/**
 * What every run has, in either world: the kernel, a plan, a store that misbehaves, the oracle, and a result.
 */
import { channel } from 'node:diagnostics_channel';
import type { ChannelName, ChannelPayloads } from '../../src/core/channels.js';
import type { Random } from '../../src/core/random.js';
import type { LeaseId, Txn } from '../../src/core/store.js';
import type { AppliedTxn, SimConnection } from '../../src/testing/sim-connection.js';
import { type SimStore, simStore } from '../../src/testing/sim-store.js';
import { drawMs } from '../../src/testing/store-faults.js';
import { World } from '../../src/testing/world.js';
import type { Law } from './law.js';
import { Oracle } from './oracle.js';
import { type ClassLimits, type FaultClass, type Plan, type PlannedTask, TYPES } from './plan.js';
import type { NodeWorld, SimNode } from './sim-node.js';
import { Trace } from './trace.js';

/** `lone`: one process at a time on a store of its own. `cluster`: several nodes that share one. */
export type WorldName = 'lone' | 'cluster';

export interface SimOptions extends ClassLimits {
  /** @defaultValue by the seed: every third is a cluster */
  readonly world?: WorldName;
  /** Keeps the lines of the trace. @defaultValue false: their hash only */
  readonly keepsTrace?: boolean;
}

export interface SimResult {
  readonly seed: number;
  readonly world: WorldName;
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

const MIN_ACCEPTED = 10;
/** Who submits looks again after so long whether a node is there. */
const ABSENT_MS = 500;
/** More would be a storm without end. */
const EVENTS_MAX = 400_000;
/** Labels of probes, above those of all planned tasks. */
export const PROBE_LABEL = 1_000_000;
export const PROBE: PlannedTask = {
  label: PROBE_LABEL,
  type: 'work',
  tenant: '',
  delayMs: 0,
  priority: 0,
  ttlMs: 0,
  key: undefined,
  script: ['ok'],
  runMs: 1,
  cancelAfterMs: undefined,
  paddingBytes: 0,
};
/** From due to start on an idle, healed system, beside the commits' round trips. */
const LATE_MAX_MS = 60;
/** A cron entry of a healed system lags behind so long at most: somebody must have its shard. */
const CRON_MAX_MS = 60_000;
/** Between two redrives. */
const REDRIVE_MAX_MS = 2_000;
/** Of one shard at once. */
const REDRIVEN_MAX = 20;
/** Definitions of cron entries that take turns. */
const RELEASES = 3;
/** From one to the next. */
const RELEASE_MAX_S = 4;
/** Entries fire with the second; a release comes about then. */
const RELEASE_LATE_MAX_MS = 40;
/** How often what rests is told to go on. */
const RESUMES_MAX = 30;

/** Counted when they are published, to show what a run has reached. */
const WATCHED: readonly ChannelName[] = [
  'millrace:commit:unknown',
  'millrace:commit:failed',
  'millrace:commit:broken',
  'millrace:task:retry',
  'millrace:task:lost',
  'millrace:task:failed',
  'millrace:result:stale',
  'millrace:session:granted',
  'millrace:session:fenced',
  'millrace:session:lifted',
  'millrace:session:lost',
  'millrace:shard:released',
  'millrace:shard:lost',
  'millrace:watch:relisted',
  'millrace:member:evicting',
  'millrace:store:corrupt',
];

export abstract class Run<P extends Plan = Plan> {
  protected readonly world: World;
  protected readonly plan: P;
  protected readonly oracle: Oracle;
  protected readonly store: SimStore;
  /** The nemesis draws from here. */
  protected readonly random: Random;
  protected readonly nodes: SimNode[] = [];
  protected isHealed = false;
  readonly #seed: number;
  readonly #name: WorldName;
  readonly #trace: Trace;

  constructor(
    seed: number,
    options: SimOptions,
    parts: {
      readonly world: WorldName;
      readonly drawPlan: (random: Random, limits: ClassLimits) => P;
      readonly lawOf: (store: () => SimStore, judge: Oracle['violate']) => Law;
    },
  ) {
    this.#seed = seed;
    this.#name = parts.world;
    this.world = new World(seed, { isPromisesOnly: true });
    this.#trace = new Trace(() => this.world.nowMs, options.keepsTrace ?? false);
    this.plan = parts.drawPlan(this.world.random.fork('plan'), options);
    this.random = this.world.random.fork('nemesis');
    const law = parts.lawOf(
      () => this.store,
      (rule, what) => this.oracle.violate(rule, what),
    );
    const hasJumps = this.plan.classes.has('wallJump');
    this.oracle = new Oracle(this.trace, law, this.plan.crons, {
      hasJumps,
      hasPauses: this.plan.classes.has('pause') || this.plan.classes.has('usurp'),
      mayForget: hasJumps && parts.world === 'lone',
    });
    this.store = simStore({
      seed: this.world.random.u32(),
      clock: this.world.clock,
      faults: this.plan.faults,
      operationsMax: this.plan.operationsMax,
      isLost: (txn) => this.isLost(txn),
      onApplied: (applied) => this.#judge(applied),
    });
  }

  /** The course of the run. */
  protected abstract phases(): Promise<void>;
  /** What the nemesis does next. */
  protected abstract act(): void;
  /** Somebody who can submit now. */
  protected abstract anyNode(): SimNode | undefined;
  /** A task was accepted: who waits for it, and who cancels it. */
  protected abstract onAccepted(...accepted: Parameters<NodeWorld['onAccepted']>): void;

  /** Whether a transaction is lost on its way, beside what is drawn for all. */
  protected isLost(_txn: Txn): boolean {
    return false;
  }

  protected readonly trace = (line: string): void => this.#trace.add(line);

  onUnhandled(reason: unknown): void {
    const shown = reason instanceof Error ? reason.stack : String(reason);
    this.oracle.violate('S16', `unhandled: ${shown}`);
  }

  async run(): Promise<SimResult> {
    const stopCounting = this.#countEvents();
    try {
      this.trace(`classes ${[...this.plan.classes].join(' ')}`);
      await this.phases();
    } catch (error) {
      this.onUnhandled(error);
    } finally {
      stopCounting();
    }
    const { oracle } = this;
    for (const [fault, count] of Object.entries(this.store.counts)) {
      if (count > 0) oracle.seen.set(`fault ${fault}`, count);
    }
    const faults = [...oracle.seen.keys()].filter((what) => /^(fault|nemesis) /.test(what));
    return {
      seed: this.#seed,
      world: this.#name,
      violations: oracle.violations,
      hash: this.#trace.hash,
      lines: this.#trace.lines,
      counts: oracle.accepted >= MIN_ACCEPTED && faults.length > 0,
      accepted: oracle.accepted,
      virtualMs: this.world.nowMs,
      events: this.world.eventCount,
      seen: oracle.seen,
      classes: [...this.plan.classes],
    };
  }

  /** Lets time pass until something holds. @returns whether it does */
  protected async until(holds: () => boolean, limitMs: number): Promise<boolean> {
    const isStorm = (): boolean => this.world.eventCount > EVENTS_MAX;
    const holdsNow = await this.world.runUntil(() => isStorm() || holds(), limitMs);
    if (isStorm()) throw new Error(`${EVENTS_MAX} events: something goes round in circles`);
    return holdsNow;
  }

  protected async pass(ms: number): Promise<void> {
    await this.until(() => false, ms);
  }

  protected worldOfNodes(wallOffsetMs: number): NodeWorld {
    return {
      world: this.world,
      store: this.store,
      oracle: this.oracle,
      random: this.world.random,
      trace: this.trace,
      threads: this.plan.threads,
      hasEchoes: this.plan.classes.has('echo') && !this.isHealed,
      wallOffsetMs,
      crons: () => (this.isHealed ? [] : this.plan.crons),
      onAccepted: (...accepted) => this.onAccepted(...accepted),
    };
  }

  /** Everything that the plan submits, and what the nemesis does, until `heal`. */
  protected begin(): void {
    for (const { atMs, tasks } of this.plan.bursts) {
      this.world.at(atMs, () => this.#submit(tasks));
    }
    this.#scheduleNemesis();
    if (this.plan.classes.has('redrive')) this.#scheduleRedrives();
    if (this.plan.crons.length > 0) this.#scheduleReleases(this.world.random.fork('releases'));
  }

  /** To whoever is there, as soon as somebody is: during the faults that is often nobody. */
  #submit(tasks: readonly PlannedTask[]): void {
    if (this.anyNode() !== undefined) for (const task of tasks) this.anyNode()?.submit(task);
    else if (!this.isHealed) this.world.at(ABSENT_MS, () => this.#submit(tasks));
  }

  /** Some time within `maxMs` from now. */
  protected soon(maxMs: number, what: () => void): void {
    this.world.at(drawMs(this.random, 20, maxMs), what);
  }

  /** The store answers nobody for a while. */
  protected outage(): void {
    this.store.setFaults({ ...this.plan.faults, refused: 1, readFailed: 1 });
    this.soon(8_000, () => !this.isHealed && this.store.setFaults(this.plan.faults));
  }

  /** A type of tasks rests for a while, whoever runs it. */
  protected rest(): void {
    const type = TYPES[Math.floor(this.random.float() * TYPES.length)]!;
    this.anyNode()?.setResting(type, true);
    this.soon(6_000, () => this.anyNode()?.setResting(type, false));
  }

  /** Nothing rests any more: what did, runs. */
  protected async endRest(): Promise<void> {
    if (!this.plan.classes.has('rest')) return;
    let tries = 0;
    do {
      if (tries++ === RESUMES_MAX) return this.oracle.violate('S14', 'what rests cannot go on');
      for (const type of TYPES) this.anyNode()?.setResting(type, false);
      await this.pass(1_000);
    } while (this.oracle.resting.size > 0);
  }

  /** Cron entries have caught up, and are taken away: what they have fired comes to its end. */
  protected async endCrons(): Promise<void> {
    const { oracle, store, plan } = this;
    if (oracle.hasCrons && !plan.classes.has('wallJump')) {
      const nowMs = this.world.clock.wallMs();
      const isUpToDate = await this.until(() => oracle.areCronsUpTo(nowMs), CRON_MAX_MS);
      if (!isUpToDate) oracle.violate('S14', 'a cron entry does not fire any more');
    }
    for (let tries = 0; store.entries('e/').length > 0; tries++) {
      if (tries === RESUMES_MAX) return oracle.violate('S14', 'cron entries cannot be removed');
      this.anyNode()?.removeCrons(plan.crons);
      await this.pass(1_000);
    }
  }

  /** Ends all faults of the network, and whatever was done to processes. */
  protected heal(): void {
    this.trace('heal');
    this.isHealed = true;
    this.store.setFaults({ latency: { minMs: 0.1, maxMs: 2 } });
    for (const node of this.nodes) {
      node.process.resume();
      node.connection?.heal();
    }
  }

  /**
   * Until nothing is open, for as long as something ends in each `livenessMs`: hundreds of long runs on one thread have their time.
   *
   * @returns whether nothing is
   */
  protected async untilQuiet(isQuiet: () => boolean, livenessMs: number): Promise<boolean> {
    let openBefore = Number.POSITIVE_INFINITY;
    while (this.oracle.openCount < openBefore) {
      openBefore = this.oracle.openCount;
      if (await this.until(isQuiet, livenessMs)) return true;
    }
    return false;
  }

  /**
   * On an idle system a task starts when it is due, not much later.
   *
   * @param skewMs - how far wall clocks may be apart: a task that changes hands is due by its owner's
   */
  protected async probe(label: number, skewMs = 0): Promise<void> {
    const delayMs = 300;
    this.submitProbe(label, delayMs);
    const limitMs = delayMs + LATE_MAX_MS + skewMs;
    const isStarted = await this.until(() => this.oracle.runs.hasStarted(label), limitMs);
    if (!isStarted) this.oracle.violate('S8', `the probe has not started within ${limitMs} ms`);
  }

  protected submitProbe(label: number, delayMs: number): void {
    this.anyNode()?.submit({ ...PROBE, label, delayMs });
  }

  /** What the judge throws would be taken for an answer of the store, and lost with it. */
  #judge(applied: AppliedTxn): void {
    try {
      this.oracle.applied(applied, this.#nodeOf(applied.connection));
    } catch (error) {
      this.onUnhandled(error);
    }
  }

  #nodeOf(connection: SimConnection): SimNode {
    return this.nodes.find((node) => node.connection === connection)!;
  }

  #scheduleNemesis(): void {
    const { minMs, maxMs } = this.plan.calmMs;
    this.world.at(drawMs(this.random, minMs, maxMs), () => {
      if (this.isHealed) return;
      this.act();
      this.#scheduleNemesis();
    });
  }

  /** Dead letters of a shard come back, now and then. */
  #scheduleRedrives(): void {
    this.soon(REDRIVE_MAX_MS, () => {
      if (this.isHealed) return;
      const letters = this.oracle.deadLetters();
      const [chosen] = letters[Math.floor(this.random.float() * letters.length)] ?? [];
      if (chosen !== undefined) {
        const shard = chosen.split('.', 2).join('.');
        const some = letters.filter(([id]) => id.startsWith(`${shard}.`)).slice(0, REDRIVEN_MAX);
        this.anyNode()?.redrive(some);
      }
      this.#scheduleRedrives();
    });
  }

  /** Now and then a node defines the cron entries as another release would, while they fire. */
  #scheduleReleases(random: Random): void {
    const seconds = 1 + Math.floor(random.float() * RELEASE_MAX_S);
    const sinceSecondMs = this.world.clock.wallMs() % 1_000;
    const lateMs = drawMs(random, 0, RELEASE_LATE_MAX_MS);
    this.world.at(seconds * 1_000 - sinceSecondMs + lateMs, () => {
      if (this.isHealed) return;
      const release = Math.floor(random.float() * RELEASES);
      this.anyNode()?.redefineCrons(release);
      this.#scheduleReleases(random);
    });
  }

  #countEvents(): () => void {
    const cleanUps = WATCHED.map((name) => {
      const listener = (event: unknown): void => {
        this.oracle.count(name);
        const { leaseId, shard, epoch } = event as Readonly<Record<string, unknown>>;
        const named = [leaseId, shard, epoch].filter((value) => value !== undefined);
        if (named.length > 0) this.trace(`${name} ${named.join(' ')}`);
        // Nothing but engines writes there: who does not understand it has swallowed an error of its own.
        if (name === 'millrace:store:corrupt') {
          const { key, cause } = event as ChannelPayloads['millrace:store:corrupt'];
          this.oracle.violate('S16', `${key} is taken for corrupt: ${cause}`);
        }
        if (name === 'millrace:member:evicting') this.oracle.locks.revoked(leaseId as LeaseId);
      };
      channel(name).subscribe(listener);
      return () => channel(name).unsubscribe(listener);
    });
    return () => {
      for (const cleanUp of cleanUps) cleanUp();
    };
  }
}
