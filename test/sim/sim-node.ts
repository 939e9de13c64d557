/**
 * One process of the simulation: the real engine, with the real native core, on simulated ports; in a cluster with a
 * session and members of its own. This is the only file that knows how an engine is put together.
 */
import { Coordination } from '../../src/coordination/coordination.js';
import type { Lock } from '../../src/coordination/locks.js';
import { shardRecord } from '../../src/coordination/shard-map.js';
import { sleep } from '../../src/core/clock.js';
import { hasCode, isMillraceError, type MillraceError } from '../../src/core/errors.js';
import {
  type Incarnation,
  newIncarnation,
  requireTaskId,
  type TaskId,
  taskId,
} from '../../src/core/ids.js';
import type { Random } from '../../src/core/random.js';
import type { LeaseId } from '../../src/core/store.js';
import { defineTask } from '../../src/core/task.js';
import { Engine } from '../../src/engine/engine.js';
import type { Accepted } from '../../src/engine/submission.js';
import { NOT_HELD, type TaskPlace } from '../../src/engine/task-desk.js';
import type { SimConnection } from '../../src/testing/sim-connection.js';
import type { SimStore } from '../../src/testing/sim-store.js';
import type { SimProcess, World } from '../../src/testing/world.js';
import { definitionOf } from './cron-book.js';
import { GUARDED_KEY, LOCK_NAME } from './lock-book.js';
import type { Oracle } from './oracle.js';
import { ATTEMPTS, type PlannedCron, type PlannedTask, RETRY_MS, type TypeName } from './plan.js';
import { type PoolWorld, SimPool } from './sim-pool.js';

const retry = { attempts: ATTEMPTS, backoff: 'fixed', min: RETRY_MS, jitter: 'none' } as const;
const SPECS = [
  defineTask({ name: 'work', retry, run: () => {} }),
  defineTask({ name: 'once', retry, onLost: 'fail', run: () => {} }),
  defineTask({ name: 'limited', retry, timeout: { min: '2s', max: '2s' }, run: () => {} }),
  defineTask({ name: 'inline', retry, exec: 'inline', run: () => {} }),
].map(({ spec }) => spec);

const RETENTION = {
  completedMs: 3_600_000,
  completedBytesMax: 1e9,
  failedMs: 3_600_000,
  failedBytesMax: 1e9,
  idempotencyMs: 3_600_000,
};

/** Of a process at rest. */
const TIMERS_MAX = 20;
/** How long a process that was fenced takes to end. */
const FENCED_MS = 200;

export interface NodeWorld {
  readonly world: World;
  readonly store: SimStore;
  readonly oracle: Oracle;
  readonly random: Random;
  readonly trace: (line: string) => void;
  readonly threads: number;
  readonly hasEchoes: boolean;
  /** The machine's wall clock, against the world's. */
  readonly wallOffsetMs: number;
  /** What a process defines when it runs. */
  crons(): readonly PlannedCron[];
  onAccepted(node: SimNode, task: PlannedTask, accepted: Accepted): void;
}

/** A node among others. */
export interface ClusterSeat {
  readonly ttlMs: number;
  readonly shardCount: number;
  /** Whether it has handlers. */
  readonly isWorker: boolean;
}

export type NodeState = 'starting' | 'running' | 'stopping' | 'over';

export class SimNode {
  readonly name: string;
  readonly process: SimProcess;
  readonly incarnation: Incarnation;
  state: NodeState = 'starting';
  connection: SimConnection | undefined;
  readonly #sim: NodeWorld;
  readonly #random: Random;
  readonly #seat: ClusterSeat | undefined;
  #coordination: Coordination | undefined;
  #engine: Engine | undefined;
  #pools: SimPool[] = [];
  /** Tasks that this process holds a permit for, as the runtime's admission does. */
  #permits = 0;
  /** Answers that somebody waits for, a name each: ends, what became of cancels, locks, entries that are defined. */
  readonly #awaited = new Map<symbol, string>();
  #isFenced = false;

  /** @param seat - undefined: it has the store for itself */
  constructor(name: string, sim: NodeWorld, seat?: ClusterSeat) {
    this.name = name;
    this.#sim = sim;
    this.#seat = seat;
    this.#random = sim.random.fork(name);
    this.incarnation = newIncarnation(() => this.#random.u32());
    this.process = sim.world.spawn(name);
    this.process.jumpWall(sim.wallOffsetMs);
    this.#in(() => void this.#start());
  }

  /** Of its session; undefined: it has none now. */
  get leaseId(): LeaseId | undefined {
    return this.#coordination?.session.leaseId;
  }

  get isWorker(): boolean {
    return this.#seat?.isWorker ?? true;
  }

  count(what: string): void {
    this.#sim.oracle.count(what);
  }

  /** As its supervisor: ends it when it has been replaced. */
  checkHealth(): void {
    const isReplaced = this.#coordination?.session.state === 'closed';
    if (this.state === 'running' && isReplaced) this.#onFenced();
  }

  /** Nothing more will come of this process. */
  get isOver(): boolean {
    return this.state === 'over';
  }

  async #start(): Promise<void> {
    const { oracle, store, trace } = this.#sim;
    const { clock } = this.process;
    try {
      this.connection = await store.open({ clock });
      const isWorker = this.#seat?.isWorker ?? true;
      if (isWorker) this.#pools = [this.#pool(true), this.#pool(false)];
      const [thread, inline] = this.#pools;
      const engine = new Engine({
        clock,
        random: this.#random.fork('engine'),
        incarnation: this.incarnation,
        store: this.connection,
        pools: { ...(thread && { thread }), ...(inline && { inline }) },
        specs: isWorker ? SPECS : [],
        node: this.#seat === undefined ? 'local' : this.incarnation,
        ...(this.#seat && { cluster: await this.#join(this.#seat, this.connection) }),
        retention: RETENTION,
      });
      engine.room.onRecovered = (_, tasks) => {
        this.#permits += tasks;
        trace(`${this.name} takes on ${tasks}, holds ${this.#permits}`);
        oracle.count('recovered a segment');
      };
      engine.room.onReleased = (_, tasks) => {
        this.#permits -= tasks;
        trace(`${this.name} lets go of ${tasks}, holds ${this.#permits}`);
      };
      this.#engine = engine;
      await engine.start();
      trace(`${this.name} runs`);
      this.state = 'running';
      this.#defineCrons(engine, 0);
    } catch (error) {
      this.#mustBeTyped(error, 'start');
      trace(`${this.name} does not start`);
      this.kill();
    }
  }

  /** A session of its own, and a place among the members. */
  async #join({ ttlMs, shardCount, isWorker }: ClusterSeat, store: SimConnection) {
    const queues = isWorker ? [{ queue: 'default', shardCount }] : [];
    this.#coordination = new Coordination(
      { clock: this.process.clock, random: this.#random.fork('coordination'), store },
      {
        ttlMs,
        node: this.incarnation,
        label: this.name,
        record: shardRecord(queues, 1, isWorker ? SPECS.map(({ name }) => name) : []),
        isMember: true,
        locking: 'queueing',
      },
    );
    await this.#coordination.start();
    const { session, members, supervisor } = this.#coordination;
    return { session, members, supervisor, queues, shardCount };
  }

  kill(): void {
    if (this.isOver) return;
    this.#sim.trace(`${this.name} is dead`);
    this.process.kill();
    this.connection?.kill();
    this.state = 'over';
  }

  /** Ends gently, as `runtime.close()` does. */
  shutdown(softMs: number, hardMs: number): void {
    this.state = 'stopping';
    this.#in(() => {
      this.#close({ softMs, hardMs }).then(
        () => this.kill(),
        (error) => this.#sim.oracle.violate('S16', `${this.name} shutdown: ${String(error)}`),
      );
    });
  }

  async #close(budget: { readonly softMs: number; readonly hardMs: number }): Promise<void> {
    await this.#engine!.shutdown(budget);
    await this.#coordination?.stop();
    await this.connection!.close();
    // Whose last call the closing store gives up asks for something else in this very moment, and is answered in it.
    if (this.#awaited.size > 0) await sleep(this.process.clock, 0);
    this.#judgeAnswers();
  }

  submit(task: PlannedTask): void {
    this.#in(() => this.#submit(task));
  }

  #submit(task: PlannedTask): void {
    const { oracle, trace } = this.#sim;
    const { clock } = this.process;
    const wallMs = clock.wallMs();
    // Whatever a payload says of a tenant is only said.
    const payload = JSON.stringify({
      label: task.label,
      tenant: 'nobody',
      padding: 'x'.repeat(task.paddingBytes),
    });
    const dueAtMs = wallMs + Math.ceil(task.delayMs);
    const dueMonoMs = clock.monoMs() + task.delayMs;
    oracle.answers.submitted(task, this, dueMonoMs);
    this.#permits++;
    this.#engine!.submit(
      {
        type: task.type,
        queue: 'default',
        tenant: task.tenant,
        priority: task.priority,
        dueAtMs,
        dueMonoMs,
        submittedAtMs: wallMs,
        expiresAtMs: task.ttlMs === 0 ? 0 : dueAtMs + task.ttlMs,
        attempt: 0,
        losses: 0,
        version: 0,
        payload,
        payloadBytes: payload.length,
        metadata: undefined,
        idempotencyKey: task.key,
      },
      (accepted) => {
        if (!accepted.isCreated) this.#permits--;
        const id = taskId(accepted.segment, accepted.index);
        trace(`accepted ${this.name} ${task.label} ${id}`);
        oracle.answers.acceptedAs(task.label, id, accepted.isCreated);
        this.#sim.onAccepted(this, task, accepted);
      },
      (cause) => {
        this.#permits--;
        trace(`refused ${this.name} ${task.label} ${cause.code}`);
        oracle.answers.refused(task.label, cause.code, this.#isCertain(cause));
        if (hasCode(cause, 'ERR_MILLRACE_STORE_LOCKED')) this.#onFenced();
      },
    );
  }

  /** A commit may have been applied before the lane was lost, or when its process had to close. */
  #isCertain(cause: MillraceError): boolean {
    if (cause.details.mayBeStored === true || this.state === 'stopping') return false;
    return !hasCode(cause, 'ERR_MILLRACE_STORE_LOCKED');
  }

  /** A service whose store is taken over ends, and its supervisor starts it anew. */
  #onFenced(): void {
    const { oracle } = this.#sim;
    oracle.count('fenced');
    if (this.#isFenced) return;
    this.#isFenced = true;
    oracle.fenced(this);
    this.process.clock.wakeIn(FENCED_MS, () => {
      oracle.answers.judgeAnswers(this);
      this.kill();
    });
  }

  /** Waits for the end of a task, perhaps one that another node was given. */
  follow(place: TaskPlace): void {
    const { oracle } = this.#sim;
    const id = taskId(place.segment, place.index);
    const version = oracle.versionOf(id);
    this.#await(`ended ${id}`, id, this.#engine!.ended(place), (end) =>
      oracle.answers.heardEnd(id, end, version),
    );
  }

  /** Cancels a task, perhaps one that another node was given. */
  cancel(place: TaskPlace): void {
    const id = taskId(place.segment, place.index);
    const { oracle } = this.#sim;
    this.#await(`cancel ${id}`, id, this.#engine!.cancel(place, 'simulated'), (answer) =>
      oracle.answers.heardCancel(id, answer),
    );
  }

  /**
   * Lets dead letters run again, and waits for them.
   *
   * @param letters - of one shard, with the version that failed
   */
  redrive(letters: readonly (readonly [TaskId, number])[]): void {
    this.#in(() => {
      const { oracle } = this.#sim;
      const ids = letters.map(([id]) => id);
      this.#await('redrive', ids[0]!, this.#engine!.redrive(ids), (redriven) => {
        oracle.answers.heardRedriven(letters, redriven);
        if (this.state !== 'running') return;
        for (const id of redriven) this.follow({ ...requireTaskId(id), task: NOT_HELD });
      });
    });
  }

  /**
   * Takes the lock if it is free, does something for so long, and writes what stands on it.
   *
   * NOTE: not with `withLock`: its context is an AsyncLocalStorage, which makes every promise of the process slower for good.
   */
  holdLock(holdMs: number): void {
    this.#in(() => {
      this.#holdLock(holdMs).catch((error) => this.#mustBeTyped(error, 'lock'));
    });
  }

  async #holdLock(holdMs: number): Promise<void> {
    const lock = await this.#counted('tryLock', this.#coordination!.locks.tryLock(LOCK_NAME));
    if (lock === undefined) return this.count('lock taken');
    const { leaseId } = this;
    const left = this.#sim.oracle.locks.entered({ node: this, lock, leaseId });
    try {
      await sleep(this.process.clock, holdMs, lock.signal).catch(() => {});
      if (!lock.signal.aborted) await this.#writeUnder(lock);
    } finally {
      left();
      await this.#counted('release', lock.release());
    }
  }

  /** Somebody waits for this answer; what a holder does meanwhile is its own. */
  async #counted<T>(what: string, answer: Promise<T>): Promise<T> {
    const asked = Symbol();
    this.#awaited.set(asked, what);
    try {
      return await answer;
    } finally {
      this.#awaited.delete(asked);
    }
  }

  async #writeUnder({ token, compare }: Lock): Promise<void> {
    const value = Buffer.from(String(token));
    await this.connection!.txn({
      compares: [compare],
      success: [{ type: 'put', key: GUARDED_KEY, value }],
    });
  }

  removeCrons(crons: readonly PlannedCron[]): void {
    this.#in(() => {
      const { cron } = this.#engine!;
      for (const { name } of crons) {
        cron.remove({ name, queue: 'default' }).catch((error) => this.#mustBeTyped(error, 'cron'));
      }
    });
  }

  /** Defines its cron entries as another release of the service would. */
  redefineCrons(release: number): void {
    this.#in(() => this.#defineCrons(this.#engine!, release));
  }

  /** As services do at their start: it is a definition that makes no difference where it stands already. */
  #defineCrons({ cron }: Engine, release: number): void {
    for (const planned of this.#sim.crons()) {
      const { name } = planned;
      const defined = cron.define(definitionOf(planned, release));
      this.#counted(`define ${name}`, defined).then(
        () => this.#sim.trace(`${this.name} has defined ${name} as of release ${release}`),
        (error) => this.#mustBeTyped(error, 'cron'),
      );
    }
  }

  /** Lets the tasks of a type rest everywhere, or go on. */
  setResting(type: TypeName, isResting: boolean): void {
    this.#in(() => {
      const { pauses } = this.#engine!;
      const target = { kind: 'task', name: type } as const;
      (isResting ? pauses.pause(target) : pauses.resume(target)).then(
        () => this.count(isResting ? 'rests' : 'goes on'),
        (error: unknown) => this.#mustBeTyped(error, 'pause'),
      );
    });
  }

  #await<T>(what: string, id: TaskId, answer: Promise<T>, onAnswer: (answer: T) => void): void {
    this.#counted(what, answer).then(onAnswer, (error) => {
      this.#mustBeTyped(error, what);
      if (hasCode(error, 'ERR_MILLRACE_STORE_LOCKED')) this.#onFenced();
      if (hasCode(error, 'ERR_MILLRACE_TASK_GONE')) this.#sim.oracle.answers.heardGone(id);
    });
  }

  #mustBeTyped(error: unknown, what: string): void {
    if (isMillraceError(error) && error.code !== 'ERR_MILLRACE_INTERNAL') {
      return this.#sim.oracle.count(`${what.split(' ')[0]} rejected: ${error.code}`);
    }
    const shown = error instanceof Error ? error.stack : String(error);
    this.#sim.oracle.violate('S16', `${this.name} ${what}: ${shown}`);
  }

  #judgeAnswers(): void {
    const { oracle } = this.#sim;
    oracle.answers.judgeAnswers(this);
    const awaited = [...this.#awaited.values()];
    if (awaited.length > 0) oracle.violate('S10', `${this.name}: not answered: ${awaited}`);
  }

  /** When nothing is left to do: everything must have been given back. */
  judgeRest(): void {
    const { oracle, world } = this.#sim;
    const stats = this.#engine!.stats;
    const { ended: _, ...open } = stats;
    const left = Object.entries(open).filter(([, count]) => count !== 0);
    if (left.length > 0) oracle.violate('S9', `${this.name} at rest: ${JSON.stringify(stats)}`);
    if (this.#permits !== 0) oracle.violate('S9', `${this.name} at rest: ${this.#permits} permits`);
    this.#judgeAnswers();
    if (this.#pools.some((pool) => !pool.isIdle))
      oracle.violate('S9', `${this.name}: busy threads`);
    const { outstanding } = this.connection!;
    if (outstanding > 0) oracle.violate('S9', `${this.name} at rest: ${outstanding} calls`);
    const timers = world.pendingOf(this.process);
    if (timers > TIMERS_MAX) oracle.violate('S9', `${this.name} at rest: ${timers} timers`);
  }

  #pool(isMortal: boolean): SimPool {
    const { oracle, hasEchoes, threads } = this.#sim;
    const world: PoolWorld = {
      isStopped: false,
      clock: this.process.clock,
      random: this.#random.fork('pool'),
      hasEchoes,
      isMortal,
      onLaunch: (batch) =>
        oracle.launched(batch, this, this.#coordination?.session.state ?? 'live'),
      onStart: (record) => {
        const earlier = oracle.runs.runsOf(record);
        const { task, run } = oracle.runs.started(record, this);
        const step = task.script[Math.min(earlier, task.script.length - 1)]!;
        return { record, step, runMs: task.runMs, run };
      },
      onEffect: () => oracle.count('effect'),
      onReport: (execution, outcome) => oracle.runs.reported(execution, outcome),
      onLost: (execution) => oracle.runs.lost(execution),
    };
    return new SimPool(world, threads);
  }

  /** Whatever comes from outside arrives as an event of the process: not while it is paused, never when it is dead. */
  #in(run: () => void): void {
    this.process.clock.wakeIn(0, run);
  }
}
