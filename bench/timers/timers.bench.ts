/**
 * What a pending timer costs: to schedule, to cancel, to fire, to keep; and the longest pause it causes.
 *
 * The load is 1 and 5 million timers with random delays up to a minute, in random order. Contenders fill one small
 * interface (sets/timer-set.ts) and promise the same. `js-typed-wheel` is the rival that counts; `setTimeout` is what
 * programs use.
 */
import {
  type Contender,
  defineBench,
  type Part,
  type RunContext,
  type Sample,
} from '../lib/bench.js';
import { commit, millraceVersion } from '../lib/places.js';
import type { Load } from './measure.js';

interface Settings extends Readonly<Record<string, number | Readonly<Record<string, number>>>> {
  readonly scale: Readonly<Record<string, number>>;
  readonly timers: Readonly<Record<string, number>>;
  readonly spanMs: number;
  readonly idleTicks: number;
  readonly passes: number;
  /** setTimeout sleeps that long before all its timers are due. */
  readonly timeoutFireSpanMs: number;
  readonly windowTimers: number;
  readonly spreadTimers: number;
  readonly churnPerMs: number;
  readonly churnMs: number;
  /** Of 64 tasks each, in the table together. */
  readonly frames: number;
}

const SIZES = { '1M': 1_000_000, '5M': 5_000_000 };
const QUICK_5M_SCALE = 0.3;

const PARTS: readonly Part[] = Object.keys(SIZES).map((name) => ({
  name,
  nodeFlags: ['--expose-gc', '--max-old-space-size=8192'],
}));
const PACING: Part = { name: 'pacing', nodeFlags: ['--expose-gc'] };

const STEMS = {
  scheduleNs: { unit: 'ns', better: 'lower', about: 'to schedule one' },
  cancelNs: { unit: 'ns', better: 'lower', about: 'to cancel one' },
  fireNs: { unit: 'ns', better: 'lower', about: 'to fire one, advancing by milliseconds' },
  bytesPerTimer: {
    unit: 'bytes',
    better: 'lower',
    about: 'per pending timer, on and off the heap',
  },
  heapBytesPerTimer: { unit: 'bytes', better: 'lower', about: 'on the JavaScript heap' },
  idleAdvanceMaxUs: { unit: 'us', better: 'lower', about: 'longest advance that fires nothing' },
} as const;

const CANCEL_RANDOM = 'cancelRandomNs@1M';
const COMMON = [
  ...Object.keys(SIZES).flatMap((size) =>
    Object.entries(STEMS).map(([stem, spec]) => [`${stem}@${size}`, spec] as const),
  ),
  [CANCEL_RANDOM, { unit: 'ns', better: 'lower', about: 'to cancel one, in random order' }],
] as const;
const COMMON_NAMES = COMMON.map(([name]) => name);

const OWN = {
  'advanceMaxUs@window': {
    unit: 'us',
    better: 'lower',
    about: 'longest advance by 1 ms, 1 M timers due within 4 s',
  },
  'advanceMaxUs@spread5M': {
    unit: 'us',
    better: 'lower',
    about: 'longest advance by 1 ms, 5 M timers over an hour',
  },
  'advanceMaxUs@sameMs': {
    unit: 'us',
    better: 'lower',
    about: 'longest advance, 1 M timers due in one millisecond, 4096 at a time',
  },
  'sizeNs@5M': { unit: 'ns', better: 'lower', about: 'to ask how many are pending' },
  'statsNs@5M': { unit: 'ns', better: 'lower', about: 'to ask for counts and bytes' },
  'idleAdvanceNs@5M': {
    unit: 'ns',
    better: 'lower',
    about: 'mean advance by 1 ms that fires nothing, over an hour',
  },
  'nextDueNs@5M': { unit: 'ns', better: 'lower', about: 'to ask when the next is due' },
  churnBytesRatio: {
    unit: 'x',
    better: 'lower',
    about: '95 % cancelled: most bytes held over bytes needed',
  },
  emptyBytes: { unit: 'bytes', better: 'lower', about: 'held when the last one is gone' },
  frameNsPerTask: {
    unit: 'ns',
    better: 'lower',
    about: 'frame of 64 tasks in, due, worker batch out: per task',
  },
} as const;

/** A coarse slot of the wheel, aligned as it is. */
const WINDOW_FROM_MS = 65_536;
const WINDOW_MS = 4_096;
const HOUR_MS = 3_600_000;
const CHURN_CANCEL_AFTER_MS = 1_000;
const FRAME_ROUNDS = 15;
/** Seconds a process takes per million timers, and besides. */
const SECONDS = {
  millrace: [0.5, 0.2],
  'js-typed-wheel': [0.7, 0.2],
  'js-object-wheel': [3, 0.4],
  'js-heap': [5, 0.4],
  setTimeout: [6, 2.5],
} as Readonly<Record<string, readonly [number, number]>>;

export default defineBench<Settings>({
  name: 'timers',
  question: 'what does a pending timer cost?',
  metrics: { ...Object.fromEntries(COMMON), ...OWN },
  ours: ['millrace'],
  contenders: [
    {
      name: 'millrace',
      version: millraceVersion(),
      durability: 'none: lost with the process',
      settings: { calls: 'schedule, cancel and advance of TimerQueue, one timer per call' },
      parts: [...PARTS, PACING],
      run: (settings, context) =>
        context.part === PACING.name ? pacing(settings) : measured('millrace', settings, context),
    },
    {
      name: 'setTimeout',
      version: process.version,
      durability: 'none: lost with the process',
      settings: {
        delays: 'distinct: one list per millisecond',
        callback: 'one, token as argument',
      },
      metrics: COMMON_NAMES,
      parts: PARTS,
      run: timeouts,
    },
    script('js-heap', 'binary heap of objects'),
    script('js-object-wheel', 'wheel of objects in linked lists, 2 x 65536 slots of 1 ms'),
    script('js-typed-wheel', 'wheel over typed arrays, 2 x 65536 slots of 1 ms'),
  ],
  runs: ({ isQuick }) => (isQuick ? 1 : 5),
  settings: ({ isQuick }) => ({
    scale: { '1M': 1, '5M': isQuick ? QUICK_5M_SCALE : 1 },
    timers: { '1M': SIZES['1M'], '5M': SIZES['5M'] * (isQuick ? QUICK_5M_SCALE : 1) },
    spanMs: 60_000,
    idleTicks: 5_000,
    passes: isQuick ? 2 : 3,
    timeoutFireSpanMs: isQuick ? 2_000 : 60_000,
    windowTimers: 1_000_000,
    spreadTimers: SIZES['5M'] * (isQuick ? QUICK_5M_SCALE : 1),
    churnPerMs: 100,
    churnMs: isQuick ? 100_000 : 600_000,
    frames: isQuick ? 200 : 1_000,
  }),
  seconds(settings, contender, part) {
    const [perMillion, besides] = SECONDS[contender] ?? [5, 1];
    if (part === PACING.name) return 2.5 + settings.churnMs / 60_000 + 1.4 * settings.passes;
    const millions = (settings.timers[part] ?? 0) / 1e6;
    const asleep = contender === 'setTimeout' ? settings.timeoutFireSpanMs / 1000 : 0;
    const repeats = contender === 'setTimeout' ? 0.75 : (2 + settings.passes) / 4;
    return besides + asleep + millions * perMillion * repeats;
  },
  moreRatios(median) {
    const ratios: Record<string, number> = {};
    for (const size of Object.keys(SIZES)) {
      const sum = (contender: string): number =>
        ['scheduleNs', 'cancelNs', 'fireNs'].reduce(
          (total, stem) => total + (median(contender, `${stem}@${size}`) ?? Number.NaN),
          0,
        );
      const name = `scheduleNs+cancelNs+fireNs@${size}: millrace/js-typed-wheel`;
      ratios[name] = sum('millrace') / sum('js-typed-wheel');
    }
    for (const stem of ['scheduleNs', 'cancelNs', 'fireNs']) {
      const at = (size: string): number => median('millrace', `${stem}@${size}`) ?? Number.NaN;
      ratios[`${stem}: millrace@5M/millrace@1M`] = at('5M') / at('1M');
    }
    return ratios;
  },
});

function script(name: string, structure: string): Contender<Settings> {
  return {
    name,
    version: commit()?.slice(0, 12) ?? 'this checkout',
    durability: 'none: lost with the process',
    settings: { structure },
    metrics: COMMON_NAMES,
    parts: PARTS,
    run: (settings, context) => measured(name, settings, context),
  };
}

async function measured(name: string, settings: Settings, context: RunContext): Promise<Sample> {
  const { timerSetKind } = await import('./sets/kinds.js');
  const { measureSet } = await import('./measure.js');
  const kind = timerSetKind(name) as Parameters<typeof measureSet<unknown>>[0];
  const load = loadOf(settings, context.part);
  const result = await context.section(
    `all steps, ${context.part}`,
    () => measureSet(kind, load),
    () => load.count,
  );
  const { nextDueNs, cancelRandomNs, ...common } = result;
  const metrics = { ...atSize(common, context.part), ...random(cancelRandomNs) };
  return name === 'millrace' && context.part === '5M'
    ? { metrics: { ...metrics, 'nextDueNs@5M': nextDueNs } }
    : { metrics };
}

async function timeouts(settings: Settings, { part }: RunContext): Promise<Sample> {
  const { measureTimeouts } = await import('./set-timeout.js');
  const { cancelRandomNs, ...result } = await measureTimeouts(
    loadOf(settings, part),
    settings.timeoutFireSpanMs,
  );
  const idle = `idleAdvanceMaxUs@${part}`;
  return {
    metrics: { ...atSize(result, part), ...random(cancelRandomNs), [idle]: null },
    reasons: { [idle]: 'Node advances its timers itself' },
  };
}

async function pacing(settings: Settings): Promise<Sample> {
  const { advanceMaxUs, asked, churn } = await import('./pacing.js');
  const { measureFrames } = await import('./frames.js');
  const { windowTimers, spreadTimers, passes, churnPerMs, churnMs, spanMs, frames } = settings;
  const result = churn({
    perMs: churnPerMs,
    spanMs,
    cancelAfterMs: CHURN_CANCEL_AFTER_MS,
    runMs: churnMs,
  });
  const frame = measureFrames(frames, FRAME_ROUNDS);
  const { sizeNs, statsNs, idleAdvanceNs } = asked(spreadTimers, HOUR_MS);
  return {
    metrics: {
      'advanceMaxUs@window': advanceMaxUs(
        windowTimers,
        WINDOW_FROM_MS,
        WINDOW_FROM_MS + WINDOW_MS,
        passes,
      ),
      'advanceMaxUs@spread5M': advanceMaxUs(spreadTimers, 1, HOUR_MS, passes),
      'advanceMaxUs@sameMs': advanceMaxUs(windowTimers, WINDOW_FROM_MS, WINDOW_FROM_MS + 1, passes),
      'sizeNs@5M': sizeNs,
      'statsNs@5M': statsNs,
      'idleAdvanceNs@5M': idleAdvanceNs,
      churnBytesRatio: result.bytesRatio,
      emptyBytes: result.emptyBytes,
      frameNsPerTask: frame.nsPerTask,
    },
    notes: {
      churnLive: result.live,
      ...Object.fromEntries(frame.stepsNs.map(([step, ns]) => [`frame.${step}Ns`, ns])),
    },
  };
}

function loadOf(settings: Settings, part: string): Load {
  const { timers, spanMs, idleTicks, passes } = settings;
  const cancelsRandomly = CANCEL_RANDOM.endsWith(part);
  return { count: timers[part] ?? 0, spanMs, idleTicks, idlePasses: passes, cancelsRandomly };
}

function random(cancelRandomNs: number | undefined): Record<string, number> {
  return cancelRandomNs === undefined ? {} : { [CANCEL_RANDOM]: cancelRandomNs };
}

function atSize(values: Readonly<Record<string, number>>, size: string): Record<string, number> {
  return Object.fromEntries(
    Object.entries(values).map(([name, value]) => [`${name}@${size}`, value]),
  );
}
