/**
 * RuntimeAdmission: whether there is room for what is submitted, and who waits for it.
 *
 *   in this process      tasks and bytes that are accepted and have not ended          pool/admission.ts
 *   in the store         above 60 % of its quota submits slow down, above 80 % they are refused
 *   on other nodes       of a type that does not run here: as long as all that run it are full
 */
import { ROUND_MS } from './coordination/compactor.js';
import type { Coordination } from './coordination/coordination.js';
import { type ChannelPayloads, publish } from './core/channels.js';
import { type Clock, sleep } from './core/clock.js';
import { MillraceError } from './core/errors.js';
import { type AnyTask, hasHandler, type TaskSpec } from './core/task.js';
import type { NewTask } from './engine/submission.js';
import type { Engines } from './engines.js';
import { Admission } from './pool/admission.js';
import type { ResolvedOptions } from './runtime-options.js';

/** What a submit waits while the store fills up. */
const SLOW_MS = 100;
/** How often to look whether another node has room. */
const FULL_ELSEWHERE_MS = 100;

export type RejectReason = ChannelPayloads['millrace:tasks:rejected']['reason'];

export interface RuntimeAdmissionPorts {
  readonly clock: Clock;
  readonly engines: Engines;
  readonly coordination: Coordination;
  readonly tasks: ReadonlyMap<string, AnyTask>;
  readonly options: Pick<ResolvedOptions, 'queue'>;
  /** @throws ERR_MILLRACE_CLOSED */
  requireOpen(): void;
}

export class RuntimeAdmission {
  readonly #ports: RuntimeAdmissionPorts;
  readonly #admission: Admission;

  constructor(ports: RuntimeAdmissionPorts) {
    const { clock, engines } = ports;
    const { tasksMax, bytesMax } = ports.options.queue;
    this.#ports = ports;
    const nowMs = (): number => clock.monoMs();
    const admission = new Admission({ tasksMax, bytesMax, nowMs });
    this.#admission = admission;
    engines.onReleased((bytes, tasks) => admission.release(bytes, tasks));
    engines.onRecovered((bytes, tasks) => admission.occupy(bytes, tasks));
    engines.stored.room.here = () => ({
      room: admission.room,
      endedPerSecond: admission.releasedPerSecond,
    });
  }

  /** Submitters that wait for room. */
  get waiting(): number {
    return this.#admission.waiting;
  }

  /** Encoded inputs of open tasks. */
  get pendingBytes(): number {
    return this.#admission.pendingBytes;
  }

  /** Whether a submit is to wait before it takes room here. @throws ERR_MILLRACE_STORE_FULL */
  mustSlowDown(spec: TaskSpec): boolean {
    return this.#isFillingUp(spec) || this.#isFullElsewhere(spec);
  }

  /** While the store fills up, a while; while those who run a type are full, until one of them has room. */
  async slowDown(spec: TaskSpec, signal: AbortSignal | undefined): Promise<void> {
    const { clock, options, requireOpen } = this.#ports;
    if (this.#isFillingUp(spec)) await sleep(clock, SLOW_MS, signal);
    while (this.#isFullElsewhere(spec)) {
      if (options.queue.onFull === 'reject') {
        this.tellRejected(spec.queue, 'backpressure');
        throw fullElsewhere(spec);
      }
      await sleep(clock, FULL_ELSEWHERE_MS, signal);
      requireOpen();
    }
  }

  /** Takes room if there is any and nobody waits for it. */
  tryTake(payloadBytes: number): boolean {
    return this.#admission.tryAcquire(payloadBytes);
  }

  /** Takes room, after waiting for it where that is asked for. @throws ERR_MILLRACE_QUEUE_FULL; the signal's reason */
  async take(
    { payloadBytes, queue }: Pick<NewTask, 'payloadBytes' | 'queue'>,
    signal: AbortSignal | undefined,
    tasks = 1,
  ): Promise<void> {
    if (this.#ports.options.queue.onFull === 'wait') {
      return this.#admission.acquire(payloadBytes, tasks, signal);
    }
    this.tellRejected(queue, 'backpressure');
    throw this.#admission.full(
      'tasks',
      'try again later, or raise queue.maxTasks and queue.maxBytes',
    );
  }

  /** All of it for many tasks of a type, so many bytes together. */
  async takeMany(
    spec: TaskSpec,
    { payloadBytes, tasks }: { readonly payloadBytes: number; readonly tasks: number },
    signal: AbortSignal | undefined,
  ): Promise<void> {
    this.#ports.requireOpen();
    if (this.mustSlowDown(spec)) await this.slowDown(spec, signal);
    if (this.#admission.tryAcquire(payloadBytes, tasks)) return;
    await this.take({ payloadBytes, queue: spec.queue }, signal, tasks);
  }

  /** For a child. It waits for no room: its parent has a place, and would keep it while the child waits for one. */
  async takeForChild(spec: TaskSpec, payloadBytes: number): Promise<void> {
    if (this.#isFillingUp(spec)) await sleep(this.#ports.clock, SLOW_MS);
    this.#admission.occupy(payloadBytes, 1);
  }

  release(payloadBytes: number, tasks = 1): void {
    this.#admission.release(payloadBytes, tasks);
  }

  /** Nobody gets room any more. */
  refuseWaiters(cause: MillraceError): void {
    this.#admission.refuseWaiters(cause);
  }

  tellRejected(queue: string, reason: RejectReason): void {
    const { incarnation } = this.#ports.engines.stored;
    publish('millrace:tasks:rejected', () => ({ incarnation, queue, reason }));
  }

  /** @throws ERR_MILLRACE_STORE_FULL when new tasks would take the room that old ones need */
  #isFillingUp({ queue, durability }: TaskSpec): boolean {
    const pressure = this.#ports.coordination.compactor?.pressure ?? 'none';
    if (pressure === 'none' || durability === 'volatile') return false;
    if (pressure === 'slow') return true;
    this.tellRejected(queue, 'store');
    throw fillingUp();
  }

  /** Whether those who run a type that does not run here are full. */
  #isFullElsewhere(spec: TaskSpec): boolean {
    const task = this.#ports.tasks.get(spec.name);
    const isRunHere = task !== undefined && hasHandler(task);
    return !isRunHere && this.#ports.engines.stored.isFullElsewhere(spec);
  }
}

function fullElsewhere({ name, queue }: TaskSpec): MillraceError {
  return new MillraceError(
    'ERR_MILLRACE_QUEUE_FULL',
    `every node that runs '${name}' has its queue full; try again later, add nodes, or raise their queue.maxTasks and queue.maxBytes`,
    { details: { reason: 'elsewhere', queue, retryAfterMs: 10 * FULL_ELSEWHERE_MS } },
  );
}

/** What is stored already must be able to end, and ending writes: so new tasks are refused before the store is full. */
function fillingUp(): MillraceError {
  return new MillraceError(
    'ERR_MILLRACE_STORE_FULL',
    'the store is more than 80 % full and takes no new tasks, so that those it has can end; wait until it has room, or raise its quota',
    { details: { retryAfterMs: ROUND_MS } },
  );
}
