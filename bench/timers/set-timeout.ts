/**
 * The same measurements for setTimeout, as far as it allows.
 *
 * Delays are spread over the span, so there is a list for each of its milliseconds: the case of timers with distinct
 * delays, and not Node's best one, in which all have the same delay. The token goes along as an argument, with one
 * callback for all. Time cannot be advanced, so the thread sleeps until all timers are due and then lets Node fire
 * them in one go: no turn of the event loop in between, which favours setTimeout.
 */
import { CANCEL_SEED, checkFired, type Load, type Measured } from './measure.js';
import { collectGarbage, randomDues, randomOrder } from './workload.js';

export type TimeoutsMeasured = Omit<Measured, 'idleAdvanceMaxUs' | 'nextDueNs'>;

const WARM_UP_COUNT = 100_000;
const WARM_UP_SPAN_MS = 100;
const MARGIN_MS = 20;

/** @param fireSpanMs - the span of the timers that are fired: so long the thread sleeps */
export async function measureTimeouts(
  { count, spanMs, cancelsRandomly }: Load,
  fireSpanMs: number,
): Promise<TimeoutsMeasured> {
  for (const size of [WARM_UP_COUNT, count]) {
    clearAll(makeAll(randomDues(size, 1, spanMs + 1, 7), ignore));
    await fireNsOf(randomDues(WARM_UP_COUNT, 1, WARM_UP_SPAN_MS + 1, 1), WARM_UP_SPAN_MS);
  }

  const delays = randomDues(count, 1, spanMs + 1, 1);
  const timers = new Array<NodeJS.Timeout>(count);
  collectGarbage();
  const heapBefore = process.memoryUsage().heapUsed;
  let startedAt = performance.now();
  makeAll(delays, ignore, timers);
  const scheduleNs = ((performance.now() - startedAt) * 1e6) / count;
  collectGarbage();
  const heapBytes = process.memoryUsage().heapUsed - heapBefore;
  startedAt = performance.now();
  clearAll(timers);
  const cancelNs = ((performance.now() - startedAt) * 1e6) / count;

  const cancelRandomNs = cancelsRandomly ? clearRandomlyNs(delays, timers) : undefined;

  timers.length = 0;
  collectGarbage();
  const fireNs = await fireNsOf(randomDues(count, 1, fireSpanMs + 1, 1), fireSpanMs);
  return {
    scheduleNs,
    cancelNs,
    cancelRandomNs,
    fireNs,
    bytesPerTimer: heapBytes / count,
    heapBytesPerTimer: heapBytes / count,
  };
}

function makeAll(
  delays: Float64Array,
  callback: (token: number) => void,
  timers = new Array<NodeJS.Timeout>(delays.length),
): NodeJS.Timeout[] {
  for (let i = 0; i < delays.length; i++) timers[i] = setTimeout(callback, delays[i]!, i);
  return timers;
}

function clearAll(timers: readonly NodeJS.Timeout[]): void {
  for (let i = 0; i < timers.length; i++) clearTimeout(timers[i]);
}

function clearRandomlyNs(delays: Float64Array, timers: NodeJS.Timeout[]): number {
  const order = randomOrder(delays.length, CANCEL_SEED);
  timers.length = 0;
  collectGarbage();
  makeAll(delays, ignore, timers);
  const startedAt = performance.now();
  for (let i = 0; i < order.length; i++) clearTimeout(timers[order[i]!]);
  return ((performance.now() - startedAt) * 1e6) / delays.length;
}

function ignore(_token: number): void {}

/** The time from the first turn in which all are due to the last callback, per timer. */
async function fireNsOf(delays: Float64Array, spanMs: number): Promise<number> {
  const fired = { count: 0, sum: 0 };
  const startedAt = await new Promise<number>((resolve) => {
    let blockedUntil = 0;
    makeAll(delays, (token) => {
      fired.sum += token;
      if (++fired.count === delays.length) resolve(blockedUntil);
    });
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, spanMs + MARGIN_MS);
    blockedUntil = performance.now();
  });
  const ns = ((performance.now() - startedAt) * 1e6) / delays.length;
  checkFired('setTimeout', fired, delays.length);
  return ns;
}
