/**
 * NewTasks: what a user submits, as the engine takes it: options checked, the input encoded, times resolved, the context it is
 * submitted in put down.
 */
import type { Clock } from './core/clock.js';
import { encodePayload, type PayloadLimits } from './core/codec.js';
import { durationMs } from './core/durations.js';
import { MillraceError } from './core/errors.js';
import type { TaskSpec } from './core/task.js';
import {
  carrierOfSpan,
  metadataToWrite,
  type SpanIds,
  type TraceCarrier,
} from './core/task-metadata.js';
import { debounceOf } from './debounce-options.js';
import { dueTime } from './due-time.js';
import type { NewTask } from './engine/submission.js';
import type { RuntimeAdmission } from './runtime-admission.js';
import type { RuntimeLevers } from './runtime-levers.js';
import { checkSubmitOptions, type SubmitOptions } from './submit-options.js';
import type { Tracing } from './telemetry/tracing.js';

/** What is due later is no part of what its submitter does. */
const TRACED_DELAY_MS_MAX = 60_000;
/** When what was shed may come back. */
const SHED_RETRY_MS = 30_000;

export interface NewTaskPorts {
  readonly clock: Clock;
  readonly limits: PayloadLimits;
  /** No debounced submission waits longer. */
  readonly debounceMsMax: number;
  /** Undefined: tasks carry no context. */
  readonly tracing: Tracing | undefined;
  readonly levers: Pick<RuntimeLevers, 'shedPriority'>;
  readonly admission: Pick<RuntimeAdmission, 'tellRejected'>;
  /** @throws ERR_MILLRACE_CLOSED */
  requireOpen(): void;
}

/** When a task is due, and until when it may start. */
export interface NewTimes
  extends Pick<NewTask, 'dueAtMs' | 'dueMonoMs' | 'submittedAtMs' | 'expiresAtMs'> {
  /** From now on. */
  readonly delayMs: number;
  readonly isDueByDate: boolean;
}

export class NewTasks {
  readonly #ports: NewTaskPorts;

  constructor(ports: NewTaskPorts) {
    this.#ports = ports;
  }

  /**
   * @param isBulk - whether it stands for many
   * @throws what `Runtime.submit` says of options and inputs
   */
  make(spec: TaskSpec, input: unknown, options: SubmitOptions, isBulk = false): NewTask {
    const { limits, debounceMsMax, requireOpen } = this.#ports;
    requireOpen();
    const priority = checkSubmitOptions(options);
    const payload = encodePayload(input, `input of task '${spec.name}'`, limits);
    const { idempotencyKey, concurrencyKey } = options;
    const debounce = options.debounce && debounceOf(options, debounceMsMax);
    const due = debounce ? { ...options, delay: debounce.waitMs } : options;
    const { delayMs, ...times } = this.times(spec, due);
    this.#requireNotShed(spec, priority);
    return {
      type: spec.name,
      queue: spec.queue,
      tenant: options.tenant ?? '',
      priority,
      ...times,
      attempt: 0,
      losses: 0,
      version: 0,
      payload: payload.text,
      payloadBytes: payload.byteLength,
      metadata: metadataToWrite({
        key: idempotencyKey,
        trace: this.#trace(isBulk || delayMs > TRACED_DELAY_MS_MAX),
        parent: undefined,
      }),
      idempotencyKey,
      // Keys are of a queue; no name of one holds a space.
      ...(concurrencyKey !== undefined && { concurrencyKey: `${spec.queue} ${concurrencyKey}` }),
      ...(debounce && { debounce }),
    };
  }

  /** When a task is due that is submitted now. @throws for times that are none */
  times(spec: TaskSpec, options: SubmitOptions): NewTimes {
    const { clock } = this.#ports;
    const nowMs = clock.wallMs();
    const { delayMs, dueAtMs, isByDate } = dueTime(options, nowMs);
    const ttlMs = options.ttl === undefined ? spec.ttlMs : durationMs(options.ttl, 'ttl');
    return {
      delayMs,
      dueAtMs,
      dueMonoMs: clock.monoMs() + delayMs,
      isDueByDate: isByDate,
      submittedAtMs: nowMs,
      expiresAtMs: Number.isFinite(ttlMs) ? dueAtMs + ttlMs : 0,
    };
  }

  #requireNotShed({ queue }: TaskSpec, priority: number): void {
    const { levers, admission } = this.#ports;
    if (priority >= (levers.shedPriority ?? Number.NEGATIVE_INFINITY)) return;
    admission.tellRejected(queue, 'shed');
    throw shed(priority);
  }

  /** What a task carries of the context it is submitted in. */
  #trace(isLoose: boolean): TraceCarrier | SpanIds | undefined {
    const trace = this.#ports.tracing?.capture();
    if (trace === undefined || !isLoose) return trace;
    return { ...('traceparent' in trace ? trace : carrierOfSpan(trace)), isLoose };
  }
}

function shed(priority: number): MillraceError {
  return new MillraceError(
    'ERR_MILLRACE_QUEUE_FULL',
    `the runtime is degraded and takes no tasks of priority ${priority}, only from 0 up; try again later`,
    { details: { reason: 'shed', priority, retryAfterMs: SHED_RETRY_MS } },
  );
}
