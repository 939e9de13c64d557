/** What a report says of one process, put together from what it said while it ran. */
import type { PercentileFacts } from '../percentiles.js';
import type { VitalFacts, VitalSecond } from './process-vitals.js';

export interface ProcessReport {
  readonly name: string;
  /** How often it was started. */
  readonly lives: number;
  readonly gcCount: number;
  readonly gcTotalMs: number;
  readonly gcMaxMs: number;
  readonly loopDelayP99Ms: number;
  readonly loopDelayMaxMs: number;
  readonly cpuMs: number;
  readonly executions: number;
  readonly rssBytesMax: number;
  /** What memory grew by, fitted to what came after the first third of its last life. */
  readonly rssSlopeMiBPerMin: number;
  /** The same of open handles. */
  readonly handlesPerMin: number;
  /** Of its last life. */
  readonly commitMs: PercentileFacts;
  readonly watchMs: PercentileFacts;
  readonly seconds: readonly VitalSecond[];
}

/** Until compiled code, pools and caches are as large as they will be. */
const WARM_UP_SHARE = 1 / 3;
const BYTES_PER_MIB = 1_048_576;
const SECONDS_PER_MIN = 60;
const NONE: PercentileFacts = { count: 0, p50: 0, p95: 0, p99: 0, max: 0 };

/** @param lives - what each life said; its last word has the totals of that life */
export function reportOfLives(
  name: string,
  lives: readonly (readonly VitalFacts[])[],
): ProcessReport {
  const totals = lives.map((said) => said.at(-1)).filter((facts) => facts !== undefined);
  const sum = (read: (facts: VitalFacts) => number): number =>
    totals.reduce((total, facts) => total + read(facts), 0);
  const most = (read: (facts: VitalFacts) => number): number => Math.max(0, ...totals.map(read));
  const secondsOf = (said: readonly VitalFacts[]): VitalSecond[] =>
    said.flatMap((facts) => facts.seconds);
  const seconds = lives.flatMap(secondsOf);
  const last = secondsOf(lives.at(-1) ?? []);
  const steady = last.slice(Math.floor(last.length * WARM_UP_SHARE));
  return {
    name,
    lives: lives.length,
    gcCount: sum(({ gc }) => gc.count),
    gcTotalMs: sum(({ gc }) => gc.totalMs),
    gcMaxMs: most(({ gc }) => gc.maxMs),
    loopDelayP99Ms: most(({ loopDelayP99Ms }) => loopDelayP99Ms),
    loopDelayMaxMs: most(({ loopDelayMaxMs }) => loopDelayMaxMs),
    cpuMs: sum(({ cpuMs }) => cpuMs),
    executions: sum(({ executions }) => executions),
    rssBytesMax: Math.max(0, ...seconds.map(({ rssBytes }) => rssBytes)),
    rssSlopeMiBPerMin: slopePerMin(steady, ({ rssBytes }) => rssBytes / BYTES_PER_MIB),
    handlesPerMin: slopePerMin(steady, ({ handles }) => handles),
    commitMs: totals.at(-1)?.commitMs ?? NONE,
    watchMs: totals.at(-1)?.watchMs ?? NONE,
    seconds,
  };
}

/** Least squares; 0 of fewer than two. */
function slopePerMin(
  seconds: readonly VitalSecond[],
  read: (second: VitalSecond) => number,
): number {
  const mean = (values: readonly number[]): number =>
    values.reduce((total, value) => total + value, 0) / values.length;
  const xs = seconds.map(({ second }) => second);
  const ys = seconds.map(read);
  const [meanX, meanY] = [mean(xs), mean(ys)];
  let [above, below] = [0, 0];
  for (const [i, x] of xs.entries()) {
    above += (x - meanX) * (ys[i]! - meanY);
    below += (x - meanX) ** 2;
  }
  return below === 0 || xs.length < 2 ? 0 : (above / below) * SECONDS_PER_MIN;
}
