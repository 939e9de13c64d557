/**
 * What an engine needs to share its queues with other nodes: its shards, the tasks of theirs that run elsewhere, and
 * the letters between nodes. An engine whose store nobody shares has none of this.
 *
 *   Shards       which shards are ours, and what of them is in the table      shards.ts
 *   Reaper       what nodes leave that are gone for good                      reaper.ts
 *   Placement    where new tasks go                                           placement.ts
 *   Elsewhere    tasks of ours that run on other nodes                        elsewhere.ts
 *   Orphans      executions here whose tasks are other nodes' by now          orphans.ts
 *   RemoteEnds   what we want to know of other nodes' tasks                   remote-ends.ts
 *   CommandDesk  what other nodes want to know of ours                        command-desk.ts
 *   StoredEnds   the part of it that only the store knows                     stored-ends.ts
 *   WaitingSigns what waits in our shards for nodes that run it               waiting-signs.ts
 *   Mailroom     mail from and to other nodes                                 mailroom.ts
 *   Outbox       all of these letters, on their way into a commit             outbox.ts
 */
import { LoadBoard } from '../coordination/load-board.js';
import { ShardKeeper } from '../coordination/shard-keeper.js';
import { shardRecord } from '../coordination/shard-map.js';
import { instantOf } from '../core/clock.js';
import type { MillraceError } from '../core/errors.js';
import { type SegmentRef, type TaskId, taskId } from '../core/ids.js';
import { TaskState } from '../core/states.js';
import type { LeaseId, Revision } from '../core/store.js';
import type { SegmentHandle, Settled, TaskHandle } from '../timing/task-table.js';
import type { Home } from './closed-frame.js';
import type { ClusterOptions, ClusterPorts } from './cluster-ports.js';
import { CommandDesk } from './command-desk.js';
import type { Guard } from './commit-lane.js';
import { Elsewhere } from './elsewhere.js';
import { goneError } from './ends.js';
import { executionOf } from './execution-ref.js';
import type { NewSegment } from './intake.js';
import { type ShardPlace, shardRange } from './keys.js';
import type { Mail, Report } from './letters.js';
import { Mailroom } from './mailroom.js';
import { Orphans } from './orphans.js';
import { Outbox } from './outbox.js';
import { Placement } from './placement.js';
import { Reaper } from './reaper.js';
import { entriesOf } from './recovery.js';
import type { RedriveAnswer } from './redrives.js';
import { RemoteEnds } from './remote-ends.js';
import type { Shard } from './shard.js';
import type { ShardHolder } from './shard-holder.js';
import { Shards } from './shards.js';
import { StoredEnds } from './stored-ends.js';
import { countStoredRunning } from './stored-running.js';
import { WaitingSigns } from './waiting-signs.js';

export class Cluster implements ShardHolder {
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
  readonly #orphans: Orphans;
  readonly #ends: StoredEnds;
  readonly #signs: WaitingSigns;
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
        onActive: (shard) => this.#signs.update(shard),
        onCommand: (shard, entry) => this.#desk.onCommand(shard, entry),
        onCommandGone: (key) => this.#desk.onCommandGone(key),
        onHeld: (segment) => ports.wallTimes.delete(segment),
        release: (segment, { isResumed }) => {
          this.#orphans.reportUnwritten(segment);
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
          for (const shard of this.shards.active()) this.#signs.update(shard);
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
    const closing = this.#closing.signal;
    const onChanged = (): void => ports.onChanged();
    this.#orphans = new Orphans({
      table,
      incarnation,
      shards: this.shards,
      remote: this.remote,
      closing,
      abort: (task, reason) => ports.abort(task, reason),
      onChanged,
    });
    const { horizon } = ports;
    this.#ends = new StoredEnds({ clock, store, table, shards: this.shards, horizon, closing });
    this.#signs = new WaitingSigns({ outbox: this.outbox, map: () => this.#keeper.map, onChanged });
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
      storedEnd: (shard, id) => this.#ends.find(shard, id),
      beyond: (ref) => horizon.beyond(ref),
      onChanged,
    });
  }

  /** How many nodes run tasks on this store, as far as is known; this one is among them. */
  get runnerCount(): number {
    return Math.max(1, this.#keeper.map.runnerCount);
  }

  async start(): Promise<void> {
    this.#stopListening = this.#options.session.onChange((change) => {
      if (change.kind === 'lifted' || change.kind === 'granted') this.#ports.onChanged();
    });
    const { members, supervisor } = this.#options;
    members.report = () => ({ load: this.#ports.load(), shards: this.#keeper.held });
    members.onJoined = () => this.#ports.onChanged();
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

  /** Whether there are letters to be written. */
  get hasLetters(): boolean {
    const { outbox, remote } = this;
    return !(outbox.isEmpty && remote.isEmpty && this.#mailroom.isEmpty && this.#desk.isEmpty);
  }

  /** Whether a type that does not run here has no room at those who run it, as far as is known. */
  isFullElsewhere(segment: Pick<NewSegment, 'queue' | 'type'>): boolean {
    return this.#placement.isFullElsewhere(segment);
  }

  /** A task of ours is due that cannot run here. */
  onUnhandled(task: TaskHandle, type: string): void {
    const segment = this.#ports.table.inspect(task)?.segment;
    const shard = segment && this.shards.shardOf(segment);
    if (shard !== undefined) this.#signs.note(shard, type);
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
    this.#orphans.report(task, report);
  }

  /** Tells the executor of a task that runs elsewhere that it is to end. */
  abortElsewhere(task: TaskHandle, id: TaskId, reason: string): boolean {
    const executor = this.#elsewhere.executorOf(task);
    if (executor === undefined) return false;
    this.#mailroom.write(executor, 'aborts', { task: id, reason });
    this.#ports.onChanged();
    return true;
  }

  /** Of this node's session; undefined: it has none now. */
  get leaseId(): LeaseId | undefined {
    return this.#options.session.leaseId;
  }

  // --- ShardHolder ------------------------------------------------------------------------------------------------

  /**
   * Whether anything may be started: under a lease that lives, by a member under this lease. What others do not see they take
   * for dead, and run again what it had begun once they own its shard.
   */
  get mayStart(): boolean {
    const { session, members } = this.#options;
    return session.state === 'live' && members.self?.leaseId === session.leaseId;
  }

  home(segment: NewSegment): Home {
    return this.#placement.home(segment);
  }

  mayBeginIn(segment: SegmentRef): boolean {
    return this.#activeShard(segment) !== undefined;
  }

  epochOf(segment: SegmentRef): Revision | undefined {
    return this.#activeShard(segment)?.epoch;
  }

  stillWrites(segment: SegmentHandle): boolean {
    return this.shards.shardOf(segment) !== undefined;
  }

  startsIn(shard: ShardPlace): boolean {
    return this.mayStart && this.shards.isActive(shard);
  }

  know(): void {}

  adopted(segment: SegmentHandle, { owner }: Home): void {
    if (owner !== undefined) this.shards.adopted(segment, owner);
  }

  takeBack(segment: SegmentHandle, ref: SegmentRef): void {
    this.shards.adopted(segment, this.#activeShard(ref)!);
    this.#resume(segment);
  }

  isRun(queue: string, type: string): boolean {
    return this.#ports.handled.has(type) || this.#keeper.map.isRun(queue, type);
  }

  // --- Shards ------------------------------------------------------------------------------------------------------

  #resume(segment: SegmentHandle): void {
    const { table } = this.#ports;
    const { open, openBytes, lost } = table.resume(segment, instantOf(this.#ports.clock));
    this.#ports.wallTimes.add(segment);
    if (open > 0) this.#ports.room.occupy(openBytes, open);
    for (const task of lost) this.#elsewhere.note(task, table.executorOf(task) ?? '');
  }

  /** Asks an executor whether it runs what the shard's overlays say. */
  #probe(executor: string, tasks: readonly TaskHandle[]): void {
    const { table, incarnation } = this.#ports;
    for (const task of tasks) {
      const execution = executionOf(table, task);
      // Even of a task that ran here the report may be on its way: it goes first.
      if (executor === incarnation) void this.#orphans.onProbe(execution);
      else this.#mailroom.write(executor, 'probes', execution);
    }
    this.#ports.onChanged();
  }

  /**
   * @param what.isOpen - whether its tasks were counted as open here
   * @returns how many of its tasks were open
   */
  #release(segment: SegmentHandle, { isOpen }: { readonly isOpen: boolean }): number {
    const { table, wallTimes, room } = this.#ports;
    wallTimes.delete(segment);
    const ref = table.segmentRef(segment) as SegmentRef;
    const count = table.segmentInfo(segment)?.tasks ?? 0;
    for (let index = 0; index < count; index++) {
      const task = table.taskAt(segment, index);
      const info = table.inspect(task);
      if (info === undefined) continue;
      this.#elsewhere.forget(task);
      this.#desk.forget(task);
      const isHere = info.state === TaskState.RUNNING && table.placeOf(task) !== undefined;
      if (isHere) this.#orphans.add(task);
    }
    const released = table.release(segment);
    if (released === undefined) return 0;
    if (isOpen && released.open > 0) room.release(released.openBytes, released.open);
    for (const { index, task } of released.watched) {
      this.#ports.moveWaiters(task, taskId(ref, index));
    }
    return released.open;
  }

  /** The shard of ours that a segment is in. */
  #activeShard(ref: SegmentRef): Shard | undefined {
    for (const shard of this.shards.active()) if (isIn(ref, shard)) return shard;
    return undefined;
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
    for (const { task, number, ...end } of ends) this.remote.onEnd(task, end, number);
    for (const task of gone) this.remote.onGone(task, goneError(task));
    for (const { number, answer } of answers) this.remote.onAnswer(number, answer);
    for (const { number, tasks } of redriven) this.remote.onAnswer(number, tasks);
    for (const { task, reason } of aborts) this.#orphans.abort(task, reason);
    for (const probe of probes) void this.#orphans.onProbe(probe);
    this.#ports.onChanged();
  }

  async #redrive(shard: Shard, id: TaskId): Promise<RedriveAnswer> {
    const answer = await this.#ends.whileOurs(shard, () => this.#ports.redrive(id));
    return answer ?? 'moved';
  }
}

/** Whether a segment is in a shard. */
function isIn(ref: SegmentRef, { queue, shard }: ShardPlace): boolean {
  return ref.startsWith(`${queue}.${shard.toString(36).padStart(2, '0')}.`);
}
