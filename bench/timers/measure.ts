/**
 * The measurements that every timer set goes through, at one size. Handles are kept as a caller would keep them.
 *
 * ```
 * schedule   all, in random order of due times, over the span; then the memory, with all pending
 * cancel     all, in the order of scheduling, as answers to requests come in; then one advance, which may tidy up
 * random     as asked for: all cancelled once more, in random order
 * fire       all, advancing a millisecond at a time over the span; the tokens are added up and checked
 * idle       all pending and none due, advancing a millisecond at a time: the longest call
 * ```
 */
import type { TimerSet, TimerSetKind } from './sets/timer-set.js';
import { collectGarbage, randomDues, randomOrder } from './workload.js';

export interface Load {
  readonly count: number;
  /** Delays are spread over `[1, spanMs]`. */
  readonly spanMs: number;
  readonly idleTicks: number;
  /** How often the idle advances are repeated, each time with new timers. See {@link TickTimes}. */
  readonly idlePasses: number;
  /** Whether to cancel in random order too. */
  readonly cancelsRandomly: boolean;
}

export interface Measured {
  readonly scheduleNs: number;
  readonly cancelNs: number;
  readonly cancelRandomNs: number | undefined;
  readonly fireNs: number;
  readonly bytesPerTimer: number;
  readonly heapBytesPerTimer: number;
  readonly idleAdvanceMaxUs: number;
  readonly nextDueNs: number;
}

const WARM_UP_COUNT = 200_000;
/** The rest is fired. */
const WARM_UP_CANCELLED = 0.9;
const NEXT_DUE_CALLS = 100_000;
export const OUT_TOKENS = 4_096;
export const CANCEL_SEED = 5;

/**
 * How long the same tick took in several passes over the same timers: the shortest time is what the work takes, the
 * rest is what else ran on the machine. The longest of those is the longest pause.
 */
export class TickTimes {
  readonly #us: Float32Array;

  constructor(ticks: number) {
    this.#us = new Float32Array(ticks).fill(Number.POSITIVE_INFINITY);
  }

  note(tick: number, us: number): void {
    if (us < this.#us[tick]!) this.#us[tick] = us;
  }

  maxUs(): number {
    let longest = 0;
    for (const us of this.#us) if (us > longest && us < Number.POSITIVE_INFINITY) longest = us;
    return longest;
  }
}

export function measureSet<Handle>(kind: TimerSetKind<Handle>, load: Load): Measured {
  const { count, spanMs } = load;
  // NOTE: V8 drops compiled code when the last object of a shape it was compiled for is collected, which made the typed
  // wheel half as fast. A program has one set for long; here one that has been through everything stays meanwhile.
  for (const size of [WARM_UP_COUNT, WARM_UP_COUNT, count]) warmUp(kind, size, spanMs).close();
  const keeper = warmUp(kind, WARM_UP_COUNT, spanMs);
  const dues = randomDues(count, 1, spanMs + 1, 1);
  const handles = kind.makeHandles(count);
  const out = new Uint32Array(OUT_TOKENS);

  collectGarbage();
  const heapBefore = process.memoryUsage().heapUsed;
  let set = kind.make();
  const scheduleNs = nsPer(count, () => scheduleAll(set, dues, handles));
  collectGarbage();
  const heapBytes = Math.max(0, process.memoryUsage().heapUsed - heapBefore);
  const bytes = heapBytes + set.offHeapBytes();
  const nextDueNs = nsPer(NEXT_DUE_CALLS, () => askNextDue(set));
  const cancelNs = nsPer(count, () => {
    cancelAll(set, handles, count);
    set.advance(1, out);
  });
  if (set.size !== 0) throw new Error(`${kind.name}: ${set.size} timers left after cancelling all`);
  set.close();

  const cancelRandomNs = load.cancelsRandomly
    ? cancelRandomlyNs(kind, dues, handles, out)
    : undefined;

  collectGarbage();
  set = kind.make();
  scheduleAll(set, dues, handles);
  let fired = { count: 0, sum: 0 };
  const fireNs = nsPer(count, () => {
    fired = fireAll(set, spanMs, out);
  });
  checkFired(kind.name, fired, count);
  set.close();

  const idleAdvanceMaxUs = idleMaxUs(kind, load, handles, out);
  keeper.close();
  return {
    scheduleNs,
    cancelNs,
    cancelRandomNs,
    fireNs,
    bytesPerTimer: bytes / count,
    heapBytesPerTimer: heapBytes / count,
    idleAdvanceMaxUs,
    nextDueNs,
  };
}

/** Everything once, so that the code is compiled; and as large as it gets once, so that the memory is there. */
function warmUp<Handle>(
  kind: TimerSetKind<Handle>,
  count: number,
  spanMs: number,
): TimerSet<Handle> {
  const dues = randomDues(count, 1, spanMs + 1, 7);
  const handles = kind.makeHandles(count);
  const set = kind.make();
  scheduleAll(set, dues, handles);
  askNextDue(set);
  cancelAll(set, handles, count * WARM_UP_CANCELLED);
  fireAll(set, spanMs, new Uint32Array(OUT_TOKENS));
  if (set.size !== 0) throw new Error(`${kind.name}: ${set.size} timers left`);
  return set;
}

function scheduleAll<Handle>(
  set: TimerSet<Handle>,
  dues: Float64Array,
  handles: { [index: number]: Handle },
): void {
  for (let i = 0; i < dues.length; i++) handles[i] = set.schedule(dues[i]!, i);
}

function cancelAll<Handle>(
  set: TimerSet<Handle>,
  handles: { [index: number]: Handle },
  count: number,
): void {
  for (let i = 0; i < count; i++) set.cancel(handles[i]!);
}

/** Cancels as `cancelNs` does, but in an order that no cache foresees. */
function cancelRandomlyNs<Handle>(
  kind: TimerSetKind<Handle>,
  dues: Float64Array,
  handles: { [index: number]: Handle },
  out: Uint32Array,
): number {
  const order = randomOrder(dues.length, CANCEL_SEED);
  collectGarbage();
  const set = kind.make();
  scheduleAll(set, dues, handles);
  const ns = nsPer(dues.length, () => {
    for (let i = 0; i < order.length; i++) set.cancel(handles[order[i]!]!);
    set.advance(1, out);
  });
  if (set.size !== 0) throw new Error(`${kind.name}: ${set.size} timers left after cancelling all`);
  set.close();
  return ns;
}

function fireAll<Handle>(
  set: TimerSet<Handle>,
  untilMs: number,
  out: Uint32Array,
): { count: number; sum: number } {
  let count = 0;
  let sum = 0;
  for (let now = 1; now <= untilMs; now++) {
    for (let full = true; full; ) {
      const fired = set.advance(now, out);
      for (let i = 0; i < fired; i++) sum += out[i]!;
      count += fired;
      full = fired === out.length;
    }
  }
  return { count, sum };
}

/** Every token once: by their number and their sum. */
export function checkFired(
  name: string,
  fired: { readonly count: number; readonly sum: number },
  count: number,
): void {
  const sum = (count * (count - 1)) / 2;
  if (fired.count === count && fired.sum === sum) return;
  throw new Error(`${name} fired ${fired.count} of ${count} timers, sum of tokens ${fired.sum}`);
}

function askNextDue<Handle>(set: TimerSet<Handle>): number {
  let sum = 0;
  for (let i = 0; i < NEXT_DUE_CALLS; i++) sum += set.nextDueMs();
  return sum;
}

function idleMaxUs<Handle>(
  kind: TimerSetKind<Handle>,
  { count, spanMs, idleTicks, idlePasses }: Load,
  handles: { [index: number]: Handle },
  out: Uint32Array,
): number {
  const times = new TickTimes(idleTicks);
  // Nothing is due while it is measured, and the first timers are close behind.
  const dues = randomDues(count, idleTicks + 1, idleTicks + 1 + spanMs, 2);
  for (let pass = 0; pass < idlePasses; pass++) {
    const set = kind.make();
    scheduleAll(set, dues, handles);
    collectGarbage();
    for (let tick = 0; tick < idleTicks; tick++) {
      const startedAt = performance.now();
      const fired = set.advance(tick + 1, out);
      times.note(tick, (performance.now() - startedAt) * 1000);
      if (fired !== 0) throw new Error(`${kind.name} fired early`);
    }
    set.close();
  }
  return times.maxUs();
}

export function nsPer(count: number, work: () => void): number {
  const startedAt = performance.now();
  work();
  return ((performance.now() - startedAt) * 1e6) / count;
}
