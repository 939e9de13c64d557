/**
 * What only millrace promises: no long advance, memory that follows what is pending, and next to none when empty.
 */
import { TimerQueue } from '../../src/timing/index.js';
import { checkFired, nsPer, OUT_TOKENS, TickTimes } from './measure.js';
import { randomDues, randomUint32 } from './workload.js';

/**
 * Timers spread evenly over a range, advanced one millisecond at a time from 0 to its end; firing included.
 *
 * @param passes - see {@link TickTimes}
 * @returns the longest call of `advance`, in microseconds
 */
export function advanceMaxUs(count: number, fromMs: number, toMs: number, passes: number): number {
  const out = new Uint32Array(OUT_TOKENS);
  const dues = randomDues(count, fromMs, toMs, 3);
  const tokens = new Uint32Array(count).map((_, index) => index);
  // Calls are numbered, not milliseconds: a full `out` makes it two calls for one millisecond.
  const callsMax = toMs + Math.ceil(count / OUT_TOKENS) + 1;
  const times = new TickTimes(callsMax);
  for (let pass = 0; pass < passes; pass++) {
    const queue = new TimerQueue();
    queue.scheduleBatch(dues, tokens);
    const fired = { count: 0, sum: 0 };
    let call = 0;
    for (let now = 0; now < toMs; now++) {
      for (let full = true; full; call++) {
        const startedAt = performance.now();
        const taken = queue.advance(now, out);
        times.note(call, (performance.now() - startedAt) * 1000);
        for (let i = 0; i < taken; i++) fired.sum += out[i]!;
        fired.count += taken;
        full = taken === out.length;
      }
    }
    checkFired('millrace', fired, count);
    queue.close();
  }
  return times.maxUs();
}

export interface Asked {
  readonly sizeNs: number;
  readonly statsNs: number;
  /** Of an advance by a millisecond in which nothing is due; what it moves closer is included. */
  readonly idleAdvanceNs: number;
}

const ASKED_TIMES = 100_000;
const ASKED_TICKS = 5_000;

/** What it costs to ask a queue with so many timers, spread over `spanMs`: the mean of many calls. */
export function asked(count: number, spanMs: number): Asked {
  const out = new Uint32Array(OUT_TOKENS);
  const tokens = new Uint32Array(count);
  let result: Asked | undefined;
  // Twice: the first is the warm-up.
  for (let pass = 0; pass < 2; pass++) {
    const queue = new TimerQueue();
    queue.scheduleBatch(randomDues(count, ASKED_TICKS + 1, spanMs, 6), tokens);
    let sum = 0;
    const sizeNs = nsPer(ASKED_TIMES, () => {
      for (let i = 0; i < ASKED_TIMES; i++) sum += queue.size;
    });
    const statsNs = nsPer(ASKED_TIMES, () => {
      for (let i = 0; i < ASKED_TIMES; i++) sum += queue.stats().pending;
    });
    if (sum !== 2 * ASKED_TIMES * count) throw new Error('a size was wrong');
    const idleAdvanceNs = nsPer(ASKED_TICKS, () => {
      for (let now = 1; now <= ASKED_TICKS; now++) sum += queue.advance(now, out);
    });
    if (sum !== 2 * ASKED_TIMES * count) throw new Error('millrace fired early');
    queue.close();
    result = { sizeNs, statsNs, idleAdvanceNs };
  }
  return result!;
}

export interface Churn {
  readonly perMs: number;
  /** Delays are spread over `[1, spanMs]`. */
  readonly spanMs: number;
  /** After how long 19 of 20 are cancelled. */
  readonly cancelAfterMs: number;
  readonly runMs: number;
}

export interface ChurnResult {
  /** The most bytes held after the first span, over the bytes of a new queue with what is pending at the end. */
  readonly bytesRatio: number;
  /** Bytes held when, after that, everything has been cancelled. */
  readonly emptyBytes: number;
  readonly live: number;
}

const SAMPLE_MS = 100;
const SETTLE_MS = 10_000;

/** Timers that are nearly all cancelled, as time-outs of requests are. */
export function churn({ perMs, spanMs, cancelAfterMs, runMs }: Churn): ChurnResult {
  const next = randomUint32(4);
  const out = new Uint32Array(OUT_TOKENS);
  const queue = new TimerQueue();
  // A ring of all that were scheduled within a span, the oldest of which is over.
  const ringLength = perMs * spanMs;
  const handles = new Float64Array(ringLength);
  const dues = new Float64Array(ringLength);
  let maxBytes = 0;
  for (let now = 0; now < runMs; now++) {
    while (queue.advance(now, out) === out.length);
    for (let i = 0; i < perMs; i++) {
      const at = (now * perMs + i) % ringLength;
      dues[at] = now + 1 + (next() % spanMs);
      handles[at] = queue.schedule(dues[at]!, at);
    }
    if (now >= cancelAfterMs) {
      for (let i = 0; i < perMs; i++) {
        if (next() % 20 === 0) continue;
        queue.cancel(handles[((now - cancelAfterMs) * perMs + i) % ringLength]!);
      }
    }
    if (now >= spanMs && now % SAMPLE_MS === 0) {
      maxBytes = Math.max(maxBytes, queue.stats().bytes);
    }
  }
  const live = queue.size;
  const fresh = bytesOfFresh(queue, dues, handles, runMs);
  for (const handle of handles) queue.cancel(handle);
  for (let now = runMs; now < runMs + SETTLE_MS; now++) queue.advance(now, out);
  const emptyBytes = queue.stats().bytes;
  if (queue.size !== 0) throw new Error(`millrace: ${queue.size} timers left after cancelling all`);
  queue.close();
  return { bytesRatio: maxBytes / fresh, emptyBytes, live };
}

/** What a queue needs that was only ever given the timers which are pending in this one. */
function bytesOfFresh(
  queue: TimerQueue,
  dues: Float64Array,
  handles: Float64Array,
  nowMs: number,
): number {
  const fresh = new TimerQueue({ startMs: nowMs });
  for (let at = 0; at < handles.length; at++) {
    // A reschedule to the same time tells whether it is pending, and changes nothing that is looked at later.
    if (queue.reschedule(handles[at]!, dues[at]!)) fresh.schedule(dues[at]!, at);
  }
  if (fresh.size !== queue.size) throw new Error('not every pending timer was found');
  const { bytes } = fresh.stats();
  fresh.close();
  return bytes;
}
