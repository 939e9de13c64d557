/**
 * What an engine needs to share its queues with other nodes: its shards, the tasks of theirs that run elsewhere, and
 * the letters between nodes. An engine whose store nobody shares has none of this.
 *
 *   Shards       which shards are ours, and what of them is in the table      shards.ts
 *   Reaper       what nodes leave that are gone for good                      reaper.ts
 *   Placement    where new tasks go                                           placement.ts
 *   Elsewhere    tasks of ours that run on other nodes                        elsewhere.ts
 *   orphans      executions here whose tasks are other nodes' by now          below
 *   RemoteEnds   what we want to know of other nodes' tasks                   remote-ends.ts
 *   CommandDesk  what other nodes want to know of ours                        command-desk.ts
 *   Mailroom     mail from and to other nodes                                 mailroom.ts
 *   Outbox       all of these letters, on their way into a commit             outbox.ts
 */
import type { Load } from '../coordination/load.js';
import { LoadBoard } from '../coordination/load-board.js';
import type { Members } from '../coordination/members.js';
import type { Session } from '../coordination/session.js';
import { ShardKeeper } from '../coordination/shard-keeper.js';
import {
  encodeWaiting,
  type QueueShards,
  shardRecord,
  waitingKey,
} from '../coordination/shard-map.js';
import type { Supervisor } from '../coordination/supervisor.js';
import { type Clock, sleep } from '../core/clock.js';
import { hasCode, type MillraceError } from '../core/errors.js';
import { utf8 } from '../core/frame.js';
import {
  type Incarnation,
  requireTaskId,
  type SegmentRef,
  type TaskId,
  taskId,
} from '../core/ids.js';
import type { Random } from '../core/random.js';
import { isEnded, TaskState } from '../core/states.js';
import type { Store } from '../core/store.js';
import type {
  Instant,
  SegmentHandle,
  Settled,
  TaskHandle,
  TaskTable,
} from '../timing/task-table.js';
import type { Home } from './closed-frame.js';
import { CommandDesk, type StoredEnd } from './command-desk.js';
import type { Guard } from './commit-lane.js';
import { Elsewhere } from './elsewhere.js';
import { goneError } from './ends.js';
import { findFinished } from './finished.js';
import type { Horizon } from './horizon.js';
import type { NewSegment } from './intake.js';
import { shardRange } from './keys.js';
import {
  type CancelAnswer,
  type ExecutionRef,
  type Mail,
  placeOfTask,
  type Report,
  reportOfEnd,
} from './letters.js';
import { Mailroom } from './mailroom.js';
import { Outbox } from './outbox.js';
import { Placement } from './placement.js';
import { Reaper } from './reaper.js';
import { entriesOf } from './recovery.js';
import type { RedriveAnswer } from './redrives.js';
import { RemoteEnds } from './remote-ends.js';
import type { NewDue, RescheduleAnswer } from './reschedules.js';
import type { Shard } from './shard.js';
import { Shards } from './shards.js';
import { countStoredRunning } from './stored-running.js';
import type { WallTimes } from './wall-times.js';

export interface ClusterOptions {
  readonly session: Session;
  readonly members: Members;
  /** Those that this node has handlers for. */
  readonly queues: readonly QueueShards[];
  /** Of every queue; the same on all nodes, for ever. */
  readonly shardCount: number;
  /** Of this process; absent: nobody looks after members. */
  readonly supervisor?: Supervisor;
}

/** What the engine does for it. */
export interface ClusterPorts {
  readonly clock: Clock;
  readonly random: Random;
  readonly store: Store;
  readonly table: TaskTable;
  readonly incarnation: Incarnation;
  /** Types of tasks that run here. */
  readonly handled: ReadonlySet<string>;
  readonly horizon: Horizon;
  readonly wallTimes: WallTimes;
  /** How much there is to do here. */
  load(): Load;
  /** So much is open here from now on. */
  onRecovered(bytes: number, tasks: number): void;
  /** So much is somebody else's from now on. */
  onHandedOver(bytes: number, tasks: number): void;
  /** Settles a task that is RUNNING and in no batch. */
  settle(task: TaskHandle, report: Report): void;
  /** Asks a task in the table to end, wherever it runs. */
  cancel(task: TaskHandle, id: TaskId, reason: string | undefined): CancelAnswer;
  /** Lets a task of one of our shards be due at another time. */
  reschedule(task: TaskId, due: NewDue): Promise<RescheduleAnswer>;
  /** Lets a dead letter of one of our shards run again. @throws ERR_MILLRACE_STORE_UNAVAILABLE */
  redrive(task: TaskId): Promise<RedriveAnswer>;
  /** Aborts the signal of an execution here. */
  abort(task: TaskHandle, reason: string): void;
  /** Whoever waits here for this task is to hear of its end from its new owner. */
  moveWaiters(task: TaskHandle, id: TaskId): void;
  /** There may be something to write, or to claim. */
  onChanged(): void;
}

/** A store that does not say how a task ended, or has more than is here, is asked again after so long. */
const READ_DELAY_MS = 200;

export class Cluster {
  readonly outbox: Outbox = new Outbox();
  readonly shards: Shards;
  readonly remote: RemoteEnds;
  readonly #options: ClusterOptions;
  readonly #ports: ClusterPorts;
  readonly #keeper: ShardKeeper;
  readonly #board: LoadBoard;
  readonly #placement: Placement;
  readonly #reaper: Reaper;
  readonly #elsewhere: Elsewhere;
  readonly #mailroom: Mailroom;
  readonly #desk: CommandDesk;
  /** Executions here whose tasks are other nodes', until what they came to is durable; by task and attempt. */
  readonly #orphans = new Map<string, TaskHandle>();
  #stopListening: () => void = () => {};
  /** No commit comes any more. */
  readonly #closing = new AbortController();

  constructor(options: ClusterOptions, ports: ClusterPorts) {
    const { clock, random, store, table, incarnation } = ports;
    const { session, members, queues } = options;
    this.#options = options;
    this.#ports = ports;
    this.shards = new Shards(
      { clock, random: random.fork('shards'), store, table, horizon: ports.horizon },
      {
        resume: (segment) => this.#resume(segment),
        onActive: (shard) => this.#tellWaiting(shard),
        onCommand: (shard, entry) => this.#desk.onCommand(shard, entry),
        onCommandGone: (key) => this.#desk.onCommandGone(key),
        onHeld: (segment) => ports.wallTimes.delete(segment),
        release: (segment, { isResumed }) => {
          this.#reportUnwritten(segment);
          return this.#release(segment, { isOpen: isResumed });
        },
        onOver: (shard) => this.#onOver(shard),
        onChanged: () => ports.onChanged(),
      },
    );
    this.#keeper = new ShardKeeper(
      { clock, random: random.fork('keeper'), store, session, members },
      {
        queues,
        owner: this.shards,
        onMapChanged: () => {
          for (const shard of this.shards.active()) this.#tellWaiting(shard);
        },
      },
    );
    this.#board = new LoadBoard(clock, store, session.ttlMs);
    this.#placement = new Placement({
      clock,
      random,
      shards: this.shards,
      owners: this.#keeper.owners,
      board: this.#board,
      node: members.node,
      shardCount: options.shardCount,
      isHandled: (type) => ports.handled.has(type),
      shardsFor: (queue, type) =>
        this.#keeper.map.shardsFor(type, { queue, shardCount: options.shardCount }),
      load: () => ports.load(),
      readyAtMost: () => table.readyCount,
    });
    const mandate = () => options.supervisor?.mandate;
    this.#reaper = new Reaper({ clock, store, members, mandate });
    this.#elsewhere = new Elsewhere(
      { clock, random: random.fork('elsewhere'), members },
      {
        onThere: (executor, tasks) => this.#probe(executor, tasks),
        beforeDead: (tasks) => this.#readCommands(tasks),
        onDead: (tasks) => this.#onDead(tasks),
      },
    );
    this.remote = new RemoteEnds(incarnation, this.outbox);
    this.#mailroom = new Mailroom(
      { clock, random: random.fork('mail'), store },
      incarnation,
      this.outbox,
      (mail) => this.#onMail(mail),
    );
    this.#desk = new CommandDesk({
      table,
      elsewhere: this.#elsewhere,
      mailroom: this.#mailroom,
      outbox: this.outbox,
      settle: (task, report) => ports.settle(task, report),
      cancel: (task, id, reason) => ports.cancel(task, id, reason),
      reschedule: (task, due) => ports.reschedule(task, due),
      redrive: (shard, task) => this.#redrive(shard, task),
      storedEnd: (shard, id) => this.#storedEnd(shard, id),
      beyond: (ref) => ports.horizon.beyond(ref),
      onChanged: () => ports.onChanged(),
    });
  }

  async start(): Promise<void> {
    this.#stopListening = this.#options.session.onChange((change) => {
      if (change.kind === 'lifted' || change.kind === 'granted') this.#ports.onChanged();
    });
    const { members, supervisor } = this.#options;
    members.report = () => ({ load: this.#ports.load(), shards: this.#keeper.held });
    if (supervisor !== undefined) {
      supervisor.countRunning = (node, shards, signal) =>
        countStoredRunning(this.#ports.store, node, shards, signal);
    }
    this.#mailroom.start();
    this.#elsewhere.start();
    await this.#keeper.start();
    await this.#reaper.start();
  }

  /**
   * Gives all shards to others. Resolves when their keys are gone, or after a few seconds, or with `close`.
   * REQUIRES: commits go on.
   */
  async leave(): Promise<void> {
    const { members } = this.#options;
    // Others then see that nothing is to be ours, and still that we live.
    const record = { ...members.self?.record, ...shardRecord([]) };
    const told = members.change(record, this.#closing.signal);
    await Promise.all([told, this.#keeper.stop()]);
  }

  /**
   * This node has been replaced: it can write nothing any more, ever. So it holds nothing either: shards that it kept would
   * stand still, and others would wait for what it runs.
   */
  giveUp(cause: MillraceError): void {
    this.shards.abandon();
    this.outbox.dropAll(cause);
    this.remote.rejectAll(cause);
    void this.#options.session.stop();
  }

  /** No commit comes any more: whatever still waits for one is over. */
  async close(cause: MillraceError): Promise<void> {
    this.#closing.abort(cause);
    this.#options.members.report = undefined;
    this.#stopListening();
    this.shards.abandon();
    this.outbox.dropAll(cause);
    this.remote.rejectAll(cause);
    await Promise.all([
      this.shards.close(),
      this.#mailroom.close(),
      this.#elsewhere.close(),
      this.#board.close(),
      this.#reaper.stop(),
    ]);
  }

  /** Whether anything may be started under the session's lease. */
  get mayStart(): boolean {
    return this.#options.session.state === 'live';
  }

  /** Whether there are letters to be written. */
  get hasLetters(): boolean {
    const { outbox, remote } = this;
    return !(outbox.isEmpty && remote.isEmpty && this.#mailroom.isEmpty && this.#desk.isEmpty);
  }

  /** Where the next new segment goes. */
  home(segment: NewSegment): Home {
    return this.#placement.home(segment);
  }

  /** Whether a type that does not run here has no room at those who run it, as far as is known. */
  isFullElsewhere(segment: Pick<NewSegment, 'queue' | 'type'>): boolean {
    return this.#placement.isFullElsewhere(segment);
  }

  /** Whether somebody runs tasks of a type, as far as is known. */
  isRun(queue: string, type: string): boolean {
    return this.#ports.handled.has(type) || this.#keeper.map.isRun(queue, type);
  }

  /** A task of ours is due that cannot run here. */
  onUnhandled(task: TaskHandle, type: string): void {
    const segment = this.#ports.table.inspect(task)?.segment;
    const shard = segment && this.shards.shardOf(segment);
    if (shard === undefined) return;
    shard.waiting.add(type);
    this.#tellWaiting(shard);
  }

  /** Posts what has gathered, and lets go of shards. REQUIRES: no commit is under way. */
  beforeCut(): void {
    this.shards.settle((shard) => this.outbox.hasOf(shard) || !this.#desk.isEmptyFor(shard));
    this.remote.flush();
    this.#mailroom.flush();
    this.#desk.flush();
  }

  /** Ends are durable. */
  onSettled({ tasks, watched }: Settled): void {
    this.#placement.noteEnded(tasks);
    this.#desk.onEnded(watched);
  }

  /** Commits have found these guards broken. REQUIRES: no commit is under way. */
  onBroken(broken: readonly Guard[]): void {
    for (const guard of broken) {
      this.shards.onBroken(guard);
      const segment = this.shards.segmentOf(guard);
      if (segment === undefined) continue;
      this.#release(segment, { isOpen: true });
      this.shards.dropped(segment);
    }
  }

  /** Whether a task is of a shard of ours, and that is ours to act on: not while it is read, nor after its end. */
  holds(task: TaskHandle): boolean {
    const info = this.#ports.table.inspect(task);
    return info !== undefined && !info.isReleased && this.shards.isResumed(info.segment);
  }

  /** Sends on what an orphan came to. */
  report(task: TaskHandle, report: Report): void {
    this.#report(task, report);
    this.#ports.table.forget(task);
    this.#ports.onChanged();
  }

  /** Tells the executor of a task that runs elsewhere that it is to end. */
  abortElsewhere(task: TaskHandle, id: TaskId, reason: string): boolean {
    const executor = this.#elsewhere.executorOf(task);
    if (executor === undefined) return false;
    this.#mailroom.write(executor, 'aborts', { task: id, reason });
    this.#ports.onChanged();
    return true;
  }

  // --- Shards ------------------------------------------------------------------------------------------------------

  #resume(segment: SegmentHandle): void {
    const { table } = this.#ports;
    const { open, openBytes, lost } = table.resume(segment, this.#now());
    this.#ports.wallTimes.add(segment);
    if (open > 0) this.#ports.onRecovered(openBytes, open);
    for (const task of lost) this.#elsewhere.note(task, table.executorOf(task) ?? '');
  }

  /** Asks an executor whether it runs what the shard's overlays say. */
  #probe(executor: string, tasks: readonly TaskHandle[]): void {
    const { table, incarnation } = this.#ports;
    for (const task of tasks) {
      const execution = { task: this.#idOf(task), attempt: table.inspect(task)!.attempt };
      // Even of a task that ran here the report may be on its way: it goes first.
      if (executor === incarnation) void this.#onProbe(execution);
      else this.#mailroom.write(executor, 'probes', execution);
    }
    this.#ports.onChanged();
  }

  /** Sends what an execution here came to. Until that is durable nobody is told that it is lost. */
  #report(task: TaskHandle, report: Report): void {
    const { attempt } = this.#ports.table.inspect(task)!;
    const execution = { task: this.#idOf(task), attempt };
    const name = nameOf(execution);
    this.#orphans.set(name, task);
    this.remote.report({ ...execution, report, onSent: () => this.#orphans.delete(name) });
  }

  /** What ran here to its end, in a shard that was lost before that could be written, is for the next owner to record. */
  #reportUnwritten(segment: SegmentHandle): void {
    const { table, incarnation } = this.#ports;
    const info = table.segmentInfo(segment);
    if (info?.isDirty !== true) return;
    for (let index = 0; index < info.tasks; index++) {
      const task = table.taskAt(segment, index);
      const state = table.inspect(task)?.state ?? TaskState.PENDING;
      if (!isEnded(state) || table.executorOf(task) !== incarnation) continue;
      const report = reportOfEnd({ state, json: utf8(table.endOf(task)!) });
      if (report !== undefined) this.#report(task, report);
    }
  }

  /**
   * @param what.isOpen - whether its tasks were counted as open here
   * @returns how many of its tasks were open
   */
  #release(segment: SegmentHandle, { isOpen }: { readonly isOpen: boolean }): number {
    const { table, wallTimes } = this.#ports;
    wallTimes.delete(segment);
    const ref = table.segmentRef(segment) as SegmentRef;
    const count = table.segmentInfo(segment)?.tasks ?? 0;
    for (let index = 0; index < count; index++) {
      const task = table.taskAt(segment, index);
      const info = table.inspect(task);
      if (info === undefined) continue;
      this.#elsewhere.forget(task);
      this.#desk.forget(task);
      if (info.state !== TaskState.RUNNING || table.placeOf(task) === undefined) continue;
      this.#orphans.set(nameOf({ task: taskId(ref, index), attempt: info.attempt }), task);
    }
    const released = table.release(segment);
    if (released === undefined) return 0;
    if (isOpen && released.open > 0) this.#ports.onHandedOver(released.openBytes, released.open);
    for (const { index, task } of released.watched) {
      this.#ports.moveWaiters(task, taskId(ref, index));
    }
    return released.open;
  }

  /** Says in the store what waits in a shard for somebody who runs it, and takes it back when everybody does. */
  #tellWaiting(shard: Shard): void {
    if (shard.stage !== 'active' || shard.isTelling) return;
    const { map } = this.#keeper;
    const { queue } = shard;
    const told = map.waitingAt(shard);
    const type = [...shard.waiting].find((waiting) => map.isRun(queue, waiting));
    if (type === undefined ? told === undefined || !map.isRunByAll(queue, told) : type === told) {
      return;
    }
    shard.isTelling = true;
    const value = type === undefined ? undefined : encodeWaiting(type);
    const onSent = (): void => {
      shard.isTelling = false;
    };
    this.outbox.post({ key: waitingKey(shard), value, shard, onSent });
    this.#ports.onChanged();
  }

  #onOver(shard: Shard): void {
    this.#desk.onOver(shard);
    this.outbox.dropOf(shard);
  }

  /** Acts on what there is of commands that may speak of these tasks. @throws ERR_MILLRACE_STORE_UNAVAILABLE */
  async #readCommands(tasks: readonly TaskHandle[]): Promise<void> {
    const { store, table } = this.#ports;
    const shards = new Set<Shard>();
    for (const task of tasks) {
      const info = table.inspect(task);
      const shard = info && this.shards.shardOf(info.segment);
      if (shard !== undefined) shards.add(shard);
    }
    for (const shard of shards) {
      for await (const entry of entriesOf(store, shardRange('c', shard))) {
        if (this.#closing.signal.aborted || shard.stage !== 'active') break;
        this.#desk.onCommand(shard, entry);
      }
    }
  }

  #onDead(tasks: readonly TaskHandle[]): void {
    for (const task of tasks) {
      if (this.#ports.table.inspect(task)?.state !== TaskState.RUNNING) continue;
      this.#ports.settle(task, { kind: 'lost', death: { reason: 'exit', begun: tasks.length } });
    }
    this.#ports.onChanged();
  }

  // --- Letters -----------------------------------------------------------------------------------------------------

  #onMail({
    ends = [],
    gone = [],
    answers = [],
    aborts = [],
    probes = [],
    redriven = [],
  }: Mail): void {
    for (const { task, ...end } of ends) this.remote.onEnd(task, end);
    for (const task of gone) this.remote.onGone(task, goneError(task));
    for (const { number, answer } of answers) this.remote.onAnswer(number, answer);
    for (const { number, tasks } of redriven) this.remote.onAnswer(number, tasks);
    for (const { task, reason } of aborts) {
      for (const [name, orphan] of this.#orphans) {
        if (name.startsWith(`${task}:`)) this.#ports.abort(orphan, reason);
      }
    }
    for (const probe of probes) void this.#onProbe(probe);
    this.#ports.onChanged();
  }

  /** Somebody takes this execution to be ours. What we know nothing of is lost. */
  async #onProbe(execution: ExecutionRef): Promise<void> {
    // We may not have let go of the shard yet; then it becomes an orphan in a moment.
    await this.shards.untilOver(placeOfTask(execution.task));
    if (this.#closing.signal.aborted || this.#orphans.has(nameOf(execution))) return;
    this.remote.report({
      ...execution,
      report: { kind: 'lost', death: { reason: 'exit', begun: 1 } },
      onSent: () => {},
    });
    this.#ports.onChanged();
  }

  async #redrive(shard: Shard, id: TaskId): Promise<RedriveAnswer> {
    const { clock, redrive } = this.#ports;
    while (!this.#closing.signal.aborted && shard.stage !== 'over') {
      try {
        return await redrive(id);
      } catch (error) {
        if (hasCode(error, 'ERR_MILLRACE_CLOSED')) break;
        if (!hasCode(error, 'ERR_MILLRACE_STORE_UNAVAILABLE')) throw error;
      }
      await sleep(clock, READ_DELAY_MS);
    }
    return 'moved';
  }

  async #storedEnd(shard: Shard, id: TaskId): Promise<StoredEnd> {
    const { store, clock } = this.#ports;
    const { segment } = requireTaskId(id);
    while (!this.#closing.signal.aborted && shard.stage !== 'over') {
      const before = this.#inTable(id);
      try {
        // In this order: what ends in between is filed by the second reading.
        const isStored = await this.shards.fetch(shard, segment);
        const filed = await findFinished(store, id);
        if (filed !== undefined) return { state: filed.state, json: utf8(filed.bytes) };
        // An end that is durable and not filed is not kept.
        if (!isStored || before === 'settled' || this.#inTable(id) === 'unknown') return 'gone';
        // Beyond the horizon only who has ended is asked for.
        if (before === 'absent' && this.#ports.horizon.beyond(segment) !== undefined) return 'gone';
        if (this.#inTable(id) === 'open') return 'held';
      } catch (error) {
        if (hasCode(error, 'ERR_MILLRACE_CLOSED')) break;
        if (!hasCode(error, 'ERR_MILLRACE_STORE_UNAVAILABLE')) throw error;
      }
      await sleep(clock, READ_DELAY_MS);
    }
    return 'over';
  }

  #inTable(id: TaskId): 'absent' | 'unknown' | 'open' | 'ended' | 'settled' {
    const { table } = this.#ports;
    const { segment, index } = requireTaskId(id);
    const held = table.findSegment(segment);
    if (held === 0) return 'absent';
    const info = table.inspect(table.taskAt(held, index));
    if (info === undefined) return 'unknown';
    if (info.isSettled) return 'settled';
    return isEnded(info.state) ? 'ended' : 'open';
  }

  #idOf(task: TaskHandle): TaskId {
    const { table } = this.#ports;
    const { segment, index } = table.inspect(task)!;
    return taskId(table.segmentRef(segment) as SegmentRef, index);
  }

  #now(): Instant {
    const { clock } = this.#ports;
    return { wallMs: clock.wallMs(), monoMs: clock.monoMs() };
  }
}

function nameOf({ task, attempt }: ExecutionRef): string {
  return `${task}:${attempt}`;
}
