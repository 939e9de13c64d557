/**
 * What the main thread and the sentinel share: messages, and a few bytes of memory per lease.
 *
 *   [0] i32  progress: when the main thread last said that it lives, ms of the process clock, modulo 2^32
 *   [4] i32  sequence: odd while the sentinel writes what follows
 *   [8] f64  sentAtMs of the newest answered renewal, process clock; 0: none yet
 *   [16] f64 its ttlMs
 *
 * The memory goes each way without the other thread's help: the sentinel sees progress while the main thread is busy,
 * and the main thread sees a renewal before it has come to read its messages.
 *
 * The process clock is `process.hrtime`: the same monotonic clock in every thread. `performance.now()` is not, since
 * it counts from the start of the thread; and the difference of two `performance.timeOrigin` is a difference of wall
 * clocks, wrong by whatever NTP did between the starts of the two threads.
 */
import type { LeaseId, LeaseRenewal } from '../../core/store.js';
import type { TlsOptions } from './tls-identity.js';
import type { AuthOptions } from './tokens.js';

/** How the sentinel connects; what structured clone can carry. */
export interface SentinelConnection {
  readonly endpoints: readonly string[];
  readonly tls?: TlsOptions;
  readonly auth?: AuthOptions;
}

export type ToSentinel =
  | {
      readonly type: 'keep';
      /** Names the keeping; never used twice. */
      readonly number: number;
      readonly leaseId: LeaseId;
      readonly everyMs: number;
      readonly hangLimitMs: number;
      readonly memory: SharedArrayBuffer;
    }
  | { readonly type: 'renew' | 'stop'; readonly number: number }
  | { readonly type: 'close' };

export type FromSentinel =
  /** Which renewal is in the memory. */
  | { readonly type: 'renewed'; readonly number: number }
  | { readonly type: 'lost'; readonly number: number; readonly message: string };

const PROGRESS = 0;
const SEQUENCE = 1;
const SENT_AT = 1;
const TTL = 2;
const MEMORY_BYTES = 24;

/** Milliseconds of the clock that all threads of this process share. */
export function processMs(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1_000 + nanoseconds / 1e6;
}

export class LeaseMemory {
  readonly buffer: SharedArrayBuffer;
  readonly #words: Int32Array;
  readonly #doubles: Float64Array;

  constructor(buffer: SharedArrayBuffer = new SharedArrayBuffer(MEMORY_BYTES)) {
    this.buffer = buffer;
    this.#words = new Int32Array(buffer);
    this.#doubles = new Float64Array(buffer);
  }

  /** Main thread. */
  noteProgress(nowMs: number): void {
    Atomics.store(this.#words, PROGRESS, nowMs | 0);
  }

  /** Sentinel. Right for up to 24 days. */
  progressAgeMs(nowMs: number): number {
    return Math.max(0, ((nowMs | 0) - Atomics.load(this.#words, PROGRESS)) | 0);
  }

  /** Sentinel. */
  noteRenewal({ sentAtMs, ttlMs }: LeaseRenewal): void {
    Atomics.add(this.#words, SEQUENCE, 1);
    this.#doubles[SENT_AT] = sentAtMs;
    this.#doubles[TTL] = ttlMs;
    Atomics.add(this.#words, SEQUENCE, 1);
  }

  /** Main thread. On the process clock. */
  renewal(): LeaseRenewal | undefined {
    for (;;) {
      const before = Atomics.load(this.#words, SEQUENCE);
      const renewal = { sentAtMs: this.#doubles[SENT_AT]!, ttlMs: this.#doubles[TTL]! };
      if (before % 2 === 0 && Atomics.load(this.#words, SEQUENCE) === before) {
        return before === 0 ? undefined : renewal;
      }
    }
  }
}
