/**
 * What one seed does: which faults it has, how often, and what is submitted.
 *
 * Swarm testing (Groce et al., 2012; TigerBeetle's `options_swarm`): every seed leaves most classes of faults out.
 * With all of them in every run each hides the others: a process that is killed every second never gets as far as a
 * retry.
 */
import type { Random } from '../../src/core/random.js';
import { CATCH_UPS, type CatchUp, OVERLAPS, type Overlap } from '../../src/engine/cron/entry.js';
import { drawMs, type StoreFaults } from '../../src/testing/store-faults.js';

const COMMON_CLASSES = [
  'requestLost',
  'answerLost',
  'late',
  'refused',
  'full',
  'hang',
  'readFailed',
  'outage',
  'partition',
  'kill',
  'pause',
  'wallJump',
  'crash',
  'stuck',
  'echo',
  'cancel',
  'longRuns',
  'smallCommits',
  'rest',
  'redrive',
  'cron',
] as const;
/** A rival for the one lane; a process that closes and is started again. */
const LONE_CLASSES = [...COMMON_CLASSES, 'usurp', 'restart'] as const;
/** Nodes that come and go; leases that end under them; history that is gone under a watch. */
const CLUSTER_CLASSES = [
  ...COMMON_CLASSES,
  'join',
  'leave',
  'leaseLost',
  'compaction',
  'slowWatch',
  'lateRecord',
  'locks',
] as const;
export type FaultClass = (typeof LONE_CLASSES)[number] | (typeof CLUSTER_CLASSES)[number];
export const FAULT_CLASSES: readonly FaultClass[] = [
  ...new Set([...LONE_CLASSES, ...CLUSTER_CLASSES]),
];

/** Labels of what cron entries fire. */
const CRON_LABEL = 2_000_000;
const CRON_PERIODS_S = [2, 3, 5];

/** Threads of a process, at most. */
const THREADS = 4;
/** Where commits are small: more may end at once than one of them takes. */
const MANY_THREADS = 16;

/** Probability that a class takes part in a seed. */
const CLASS_SHARE = 0.35;

/** What a handler does in one of its runs. */
export type Step =
  | 'ok'
  | 'throw'
  | 'throwForGood'
  | 'snooze'
  | 'giveUp'
  /** The thread dies in the middle. */
  | 'crash'
  /** The thread dies when the work is done, before anybody hears of it. */
  | 'effectThenCrash'
  /** Never ends, and hears no signal. */
  | 'stuck';

export const TYPES = ['work', 'once', 'limited', 'inline'] as const;
export type TypeName = (typeof TYPES)[number];

/** Of every type: fixed, without jitter, so that the next start is known. */
export const RETRY_MS = 200;
export const ATTEMPTS = 3;

const TENANTS = ['', '', 'acme', 'zenith'];

export interface PlannedTask {
  /** Unique in the run; stands in the payload. */
  readonly label: number;
  readonly type: TypeName;
  /** '' without one. */
  readonly tenant: string;
  readonly delayMs: number;
  readonly priority: number;
  /** 0: never expires. */
  readonly ttlMs: number;
  readonly key: string | undefined;
  /** By run, the last one again and again. */
  readonly script: readonly Step[];
  readonly runMs: number;
  /** So long after the acknowledgement it is cancelled. */
  readonly cancelAfterMs: number | undefined;
  readonly paddingBytes: number;
}

/** What comes again and again: every node defines it when it starts. */
export interface PlannedCron {
  readonly name: string;
  readonly periodMs: number;
  readonly overlap: Overlap;
  readonly catchUp: CatchUp;
  /** Of each fire. */
  readonly task: PlannedTask;
}

/** Which classes of faults take part in a seed, beside what is drawn. */
export interface ClassLimits {
  /** No others than these. @defaultValue all may */
  readonly only?: ReadonlySet<FaultClass> | undefined;
  /** These do, whatever is drawn. @defaultValue none */
  readonly surely?: ReadonlySet<FaultClass> | undefined;
}

export interface Plan {
  readonly classes: ReadonlySet<FaultClass>;
  readonly faults: StoreFaults;
  /** How long there are faults. */
  readonly faultsMs: number;
  /** Between two acts of the nemesis. */
  readonly calmMs: { readonly minMs: number; readonly maxMs: number };
  readonly threads: number;
  /** Of the store: with few of them what is usually one commit becomes several. */
  readonly operationsMax: number;
  readonly bursts: readonly { readonly atMs: number; readonly tasks: readonly PlannedTask[] }[];
  readonly crons: readonly PlannedCron[];
}

/** A node that the run keeps alive, on a machine of its own. */
export interface Seat {
  /** Whether it has handlers; others only submit. */
  readonly isWorker: boolean;
  /** Whether it is there at the beginning. */
  readonly isTaken: boolean;
}

export interface ClusterPlan extends Plan {
  readonly ttlMs: number;
  readonly shardCount: number;
  /** The first is a worker. */
  readonly seats: readonly Seat[];
}

export function drawLonePlan(random: Random, limits: ClassLimits): Plan {
  const plan = drawPlan(random, LONE_CLASSES, limits);
  // Wall clocks jump by a day here: that is a day of fires.
  return plan.classes.has('wallJump') ? { ...plan, crons: [] } : plan;
}

export function drawClusterPlan(random: Random, limits: ClassLimits): ClusterPlan {
  const plan = drawPlan(random, CLUSTER_CLASSES, limits);
  const taken = 1 + Math.floor(random.float() * 4);
  const seats = Array.from({ length: 4 }, (_, i) => ({
    isWorker: i === 0 || random.float() < 0.75,
    isTaken: i < taken,
  }));
  return {
    ...plan,
    ttlMs: Math.round(drawMs(random, 2_000, random.float() < 0.7 ? 5_000 : 15_000)),
    shardCount: 2 + Math.floor(random.float() * 7),
    seats,
  };
}

function drawPlan(random: Random, all: readonly FaultClass[], { only, surely }: ClassLimits): Plan {
  const classes = new Set(
    all.filter((name) => {
      const isDrawn = random.float() < CLASS_SHARE;
      return surely?.has(name) || (isDrawn && (only?.has(name) ?? true));
    }),
  );
  const rate = (name: FaultClass, max: number): number =>
    random.float() * max * (classes.has(name) ? 1 : 0);
  const slowest = random.float() < 0.2 ? 400 : 1 + random.float() * 20;
  const faults: StoreFaults = {
    requestLost: rate('requestLost', 0.1),
    answerLost: rate('answerLost', 0.3),
    late: rate('late', 0.1),
    refused: rate('refused', 0.1),
    full: rate('full', 0.1),
    hang: rate('hang', 0.05),
    readFailed: rate('readFailed', 0.6),
    // Most batches then come up to a second late, and other watches are ahead.
    watchCut: random.float() * (classes.has('slowWatch') ? 0.9 : 0.1),
    latency: { minMs: 0.1, maxMs: slowest },
    lateMaxMs: 100 + random.float() * 10_000,
  };
  const faultsMs = drawMs(random, 8_000, 40_000);
  const workload = random.fork('workload');
  const bursts = [];
  let label = 0;
  for (let atMs = 0; atMs < faultsMs; atMs += drawMs(workload, 50, 3_000)) {
    const size = workload.float() < 0.05 ? 300 : 1 + Math.floor(workload.float() ** 3 * 20);
    const tasks = Array.from({ length: size }, () => drawTask(workload, label++, classes, size));
    bursts.push({ atMs, tasks });
  }
  const operationsMax = classes.has('smallCommits') ? 16 + Math.floor(random.float() * 16) : 128;
  const calm = drawMs(random, 200, 4_000);
  return {
    classes,
    faults,
    faultsMs,
    calmMs: { minMs: calm / 4, maxMs: calm * 2 },
    threads:
      1 + Math.floor(random.float() * (classes.has('smallCommits') ? MANY_THREADS : THREADS)),
    operationsMax,
    bursts,
    crons: drawCrons(random.fork('crons'), classes),
  };
}

function drawCrons(random: Random, classes: ReadonlySet<FaultClass>): PlannedCron[] {
  if (!classes.has('cron')) return [];
  const oneOf = <T>(all: readonly T[]): T => all[Math.floor(random.float() * all.length)]!;
  return Array.from({ length: 1 + Math.floor(random.float() * 2) }, (_, i) => {
    const isKept = random.float() < 0.5;
    return {
      name: `cron ${i}`,
      periodMs: 1_000 * oneOf(CRON_PERIODS_S),
      overlap: isKept ? 'queue' : oneOf(OVERLAPS),
      catchUp: isKept ? 'all' : oneOf(CATCH_UPS),
      task: {
        ...drawTask(random, CRON_LABEL + i, classes, 1),
        ...{ delayMs: 0, priority: 0, ttlMs: 0, key: undefined, paddingBytes: 0 },
      },
    };
  });
}

function drawTask(
  random: Random,
  label: number,
  classes: ReadonlySet<FaultClass>,
  burst: number,
): PlannedTask {
  const chance = (probability: number): boolean => random.float() < probability;
  const type = TYPES[Math.floor(random.float() * TYPES.length)]!;
  const delayMs = chance(0.6)
    ? 0
    : chance(0.8)
      ? drawMs(random, 1, 5_000)
      : random.float() * 60_000;
  // Keyed ones take more of a transaction: a large burst of them is slow, and nothing but that.
  const key = burst < 50 && chance(0.2) ? `key ${Math.floor(random.float() * 10)}` : undefined;
  return {
    label,
    type,
    tenant: TENANTS[Math.floor(random.float() * TENANTS.length)]!,
    delayMs,
    priority: chance(0.1) ? Math.floor(random.float() * 10) : 0,
    ttlMs: chance(0.05) ? drawMs(random, 100, 10_000) : 0,
    key,
    script: drawScript(random, classes, type),
    runMs: chance(classes.has('longRuns') ? 0.5 : 0.1)
      ? random.float() * 1_500
      : random.float() * 30,
    cancelAfterMs:
      classes.has('cancel') && chance(0.15) ? random.float() * (delayMs + 100) : undefined,
    paddingBytes: chance(0.01) ? 100_000 : 0,
  };
}

function drawScript(random: Random, classes: ReadonlySet<FaultClass>, type: TypeName): Step[] {
  const draw = random.float();
  if (draw < 0.7) return ['ok'];
  if (draw < 0.78) return ['throw', 'ok'];
  if (draw < 0.8) return ['throw'];
  if (draw < 0.82) return ['throwForGood'];
  if (draw < 0.86) return ['snooze', 'ok'];
  if (draw < 0.87) return ['giveUp'];
  // Nothing on the main thread dies by itself.
  const isThread = type !== 'inline';
  if (isThread && classes.has('crash')) {
    if (draw < 0.9) return ['crash', 'ok'];
    if (draw < 0.92) return ['effectThenCrash', 'ok'];
    if (draw < 0.93) return ['crash'];
    if (draw < 0.94) return ['crash', 'crash', 'ok'];
  }
  if (type === 'limited' && classes.has('stuck') && draw < 0.97) return ['stuck', 'ok'];
  // Dead letters that are worth another try.
  if (classes.has('redrive') && draw > 0.97) return ['throwForGood', 'ok'];
  return ['ok'];
}
