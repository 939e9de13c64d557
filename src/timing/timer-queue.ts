import { MillraceError } from '../core/errors.js';
import { invalidOption } from '../core/options.js';
import { native } from './native.js';

export interface TimerQueueOptions {
  readonly startMs?: number;
  readonly timersMax?: number;
}

export interface TimerQueueStats {
  readonly pending: number;
  readonly bytes: number;
}

export class TimerQueue {
  readonly #timersMax: number;
  #queue: unknown;

  constructor(options: TimerQueueOptions = {}) {
    const startMs = options.startMs ?? 0;
    if (!(startMs >= 0 && startMs <= Number.MAX_SAFE_INTEGER)) {
      throw invalidOption('startMs', startMs, 'milliseconds from 0 to 2^53 - 1');
    }
    this.#timersMax = options.timersMax ?? 2 ** 26;
    this.#queue = native.create(Math.floor(startMs));
  }

  get size(): number {
    return native.size(this.#open());
  }

  schedule(dueMs: number, token: number): number {
    const queue = this.#open();
    if (native.size(queue) >= this.#timersMax) {
      throw new MillraceError('ERR_MILLRACE_QUEUE_FULL', `${this.#timersMax} timers are pending`);
    }
    if (token >>> 0 !== token) throw invalidOption('token', token, 'a whole number below 2^32');
    return native.schedule(queue, checkedMs('dueMs', dueMs), token);
  }

  scheduleBatch(dueMs: Float64Array, tokens: Uint32Array, handles?: Float64Array): number {
    for (let i = 0; i < dueMs.length; i++) {
      const handle = this.schedule(dueMs[i]!, tokens[i]!);
      if (handles !== undefined) handles[i] = handle;
    }
    return dueMs.length;
  }

  cancel(handle: number): boolean {
    return native.cancel(this.#open(), handle) === 1;
  }

  reschedule(handle: number, dueMs: number): boolean {
    return native.reschedule(this.#open(), handle, checkedMs('dueMs', dueMs)) === 1;
  }

  advance(nowMs: number, out: Uint32Array): number {
    const queue = this.#open();
    if (!(nowMs >= -Number.MAX_SAFE_INTEGER && nowMs <= Number.MAX_SAFE_INTEGER)) {
      throw invalidOption('nowMs', nowMs, 'finite milliseconds below 2^53');
    }
    return native.advance(queue, Math.floor(nowMs), out);
  }

  nextDueMs(): number {
    return native.nextDue(this.#open());
  }

  stats(): TimerQueueStats {
    const pending = this.size;
    return { pending, bytes: pending * 128 };
  }

  close(): void {
    this.#queue = undefined;
  }

  #open(): unknown {
    if (this.#queue === undefined) {
      throw new MillraceError('ERR_MILLRACE_CLOSED', 'the timer queue is closed; create another');
    }
    return this.#queue;
  }
}

function checkedMs(name: string, value: number): number {
  if (
    typeof value !== 'number' ||
    !(value >= -Number.MAX_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER)
  ) {
    throw invalidOption(name, value, 'finite milliseconds below 2^53');
  }
  return Math.ceil(value);
}
