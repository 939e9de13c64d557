/**
 * What a steady flow of timers does to the garbage collector, and what that does to the timers.
 *
 * V8 makes its young generation smaller when little survives, so a contender that allocates less may collect as often
 * as one that allocates more. The figures without a suffix are therefore taken with the young generation fixed
 * (semi-spaces of 16 MiB); `@defaults` has V8's own sizes. `@payload200` has 200 bytes kept with each timer.
 */
import {
  type Contender,
  defineBench,
  type MetricSpec,
  type Part,
  type Sample,
} from '../lib/bench.js';
import { commit, millraceVersion } from '../lib/places.js';

interface Settings extends Readonly<Record<string, number>> {
  readonly scale: number;
  readonly perSecond: number;
  readonly delayMaxMs: number;
  readonly warmUpMs: number;
  readonly measureMs: number;
  readonly payloadBytes: number;
  readonly semiSpaceMiB: number;
  /** How long the figures with a suffix are measured; 0 for not at all. */
  readonly variantMs: number;
}

const STEMS: Readonly<Record<string, MetricSpec>> = {
  youngGcs: { unit: 'collections', better: 'lower', about: 'of the young generation' },
  pauseTotalMs: { unit: 'ms', better: 'lower', about: 'all pauses for collections' },
  pauseMeanMs: { unit: 'ms', better: 'lower', about: 'a pause' },
  pauseMaxMs: { unit: 'ms', better: 'lower', about: 'the longest pause' },
  allocMBps: { unit: 'MB/s', better: 'lower', about: 'allocated on the JavaScript heap' },
  latenessP50Ms: { unit: 'ms', better: 'lower', about: 'fired after its time, median' },
  latenessP99Ms: { unit: 'ms', better: 'lower', about: 'the same, 99th percentile' },
  latenessMaxMs: { unit: 'ms', better: 'lower', about: 'the latest' },
  cpuShare: { unit: 'cores', better: 'lower', about: 'CPU time of all threads over elapsed time' },
};

const SEMI_SPACE_MIB = 16;
const FIXED_YOUNG = [
  `--min-semi-space-size=${SEMI_SPACE_MIB}`,
  `--max-semi-space-size=${SEMI_SPACE_MIB}`,
];
const PLAIN: Part = { name: 'fixed', nodeFlags: FIXED_YOUNG };
const PAYLOAD: Part = { name: 'payload200', nodeFlags: FIXED_YOUNG };
const DEFAULTS: Part = { name: 'defaults' };
const VARIANTS = [PAYLOAD.name, DEFAULTS.name];

const START_SECONDS = 1;
const VARIANT_MS_MAX = 15_000;
const NO_VARIANTS = 'only measured in a full run';

export default defineBench<Settings>({
  name: 'gc',
  question: 'what does a steady flow of timers do to the garbage collector?',
  metrics: {
    ...STEMS,
    ...Object.fromEntries(
      VARIANTS.flatMap((variant) =>
        Object.entries(STEMS).map(([stem, spec]) => [`${stem}@${variant}`, spec]),
      ),
    ),
  },
  options: { seconds: 'how long each is measured (default 60, quick 5)' },
  ours: ['millrace'],
  contenders: [
    contender('millrace', millraceVersion(), 'TimerQueue; payloads in a buffer off the heap'),
    contender('setTimeout', process.version, 'distinct delays; payload as an argument'),
    contender('js-heap', checkout(), 'binary heap of objects; payloads as strings'),
    contender('js-object-wheel', checkout(), 'wheel of objects; payloads as strings'),
    contender('js-typed-wheel', checkout(), 'wheel over typed arrays; payloads in a buffer'),
  ],
  runs: ({ isQuick }) => (isQuick ? 1 : 5),
  settings: ({ isQuick, options }) => {
    const seconds = options.seconds ?? (isQuick ? 5 : 60);
    return {
      scale: seconds / 60,
      perSecond: 100_000,
      delayMaxMs: 10_000,
      warmUpMs: isQuick ? 2_000 : 5_000,
      measureMs: seconds * 1000,
      payloadBytes: 200,
      semiSpaceMiB: SEMI_SPACE_MIB,
      variantMs: isQuick ? 0 : Math.min(VARIANT_MS_MAX, seconds * 1000),
    };
  },
  seconds({ warmUpMs, measureMs, variantMs }, _contender, part) {
    const ms = part === PLAIN.name ? measureMs : variantMs;
    return ms === 0 ? 0.2 : START_SECONDS + (warmUpMs + ms) / 1000;
  },
});

function contender(name: string, version: string, structure: string): Contender<Settings> {
  return {
    name,
    version,
    durability: 'none: lost with the process',
    settings: { structure },
    parts: [PLAIN, PAYLOAD, DEFAULTS],
    run: (settings, { part }) => measure(name, settings, part),
  };
}

async function measure(name: string, settings: Settings, part: string): Promise<Sample> {
  const suffix = part === PLAIN.name ? '' : `@${part}`;
  if (suffix !== '' && settings.variantMs === 0) return notMeasured(suffix);
  const { CollectorWatch } = await import('./watch.js');
  const { driven, Sink } = await import('./driven.js');
  const { Lateness, runLoad, Tokens } = await import('./load.js');
  const load = {
    ...settings,
    measureMs: suffix === '' ? settings.measureMs : settings.variantMs,
    payloadBytes: part === PAYLOAD.name ? settings.payloadBytes : 0,
  };
  const tokens = new Tokens(load);
  const lateness = new Lateness();
  const timers = driven(name, load.payloadBytes, tokens, new Sink(lateness, tokens));
  const watch = new CollectorWatch();
  let cpuBefore = process.cpuUsage();
  let startedAt = 0;
  await runLoad(timers, load, tokens, () => {
    watch.start();
    lateness.reset();
    cpuBefore = process.cpuUsage();
    startedAt = performance.now();
  });
  const elapsedMs = performance.now() - startedAt;
  const { user, system } = process.cpuUsage(cpuBefore);
  const seen = await watch.stop();
  const values = {
    youngGcs: seen.youngGcs,
    pauseTotalMs: seen.pauseTotalMs,
    pauseMeanMs: seen.pauseMeanMs,
    pauseMaxMs: seen.pauseMaxMs,
    allocMBps: seen.allocatedBytes / 1e6 / (elapsedMs / 1000),
    latenessP50Ms: lateness.percentileMs(0.5),
    latenessP99Ms: lateness.percentileMs(0.99),
    latenessMaxMs: lateness.maxMs,
    cpuShare: (user + system) / 1000 / elapsedMs,
  };
  return {
    metrics: Object.fromEntries(
      Object.entries(values).map(([stem, value]) => [`${stem}${suffix}`, value]),
    ),
    notes: {
      [`fired${suffix}`]: lateness.count,
      [`firedEarly${suffix}`]: lateness.early,
      [`oldGcs${suffix}`]: seen.oldGcs,
    },
  };
}

function notMeasured(suffix: string): Sample {
  const names = Object.keys(STEMS).map((stem) => `${stem}${suffix}`);
  return {
    metrics: Object.fromEntries(names.map((name) => [name, null])),
    reasons: Object.fromEntries(names.map((name) => [name, NO_VARIANTS])),
  };
}

function checkout(): string {
  return commit()?.slice(0, 12) ?? 'this checkout';
}
