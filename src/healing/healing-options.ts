/** What users say about healing, and the same checked. Everything has a default, since nobody tunes it before it is needed. */
import { type Duration, durationMs } from '../core/durations.js';
import { invalidOption, knownOptions, wholeNumber } from '../core/options.js';
import type { BreakerRule } from './breakers.js';
import type { DelayRule } from './degradation.js';

export interface HealingRules {
  /**
   * Circuit breakers, one for each task type. `false`: none.
   * @defaultValue { failures: 5, open: '10s', max: '5m', probes: 1 }
   */
  readonly breaker?:
    | false
    | {
        /** Timeouts and 503-class failures in a row that open it. @defaultValue 5 */
        readonly failures?: number;
        /** How long it stays open at first; twice as long each time a probe fails. @defaultValue '10s' */
        readonly open?: Duration;
        /** It is never open for longer at a time. @defaultValue '5m' */
        readonly max?: Duration;
        /** Successes in a row, one at a time, that close it. @defaultValue 1 */
        readonly probes?: number;
      };
  /**
   * Degrades while watches are late. `false`: never.
   * @defaultValue { above: '2s', for: '30s' }
   */
  readonly watchDelay?:
    | false
    | {
        /** @defaultValue '2s' */
        readonly above?: Duration;
        /** How long above it to degrade, and below half of it to recover. @defaultValue '30s' */
        readonly for?: Duration;
      };
}

export interface HealingOptions {
  /** What is watched for, and from when on it counts. */
  readonly rules?: HealingRules;
}

export interface ResolvedHealing {
  readonly breaker: BreakerRule | undefined;
  readonly watchDelay: DelayRule | undefined;
}

const HEALING_OPTIONS: Readonly<Record<keyof HealingOptions, true>> = { rules: true };
const RULES: Readonly<Record<keyof HealingRules, true>> = { breaker: true, watchDelay: true };
const BREAKER = { failures: true, open: true, max: true, probes: true } as const;
const DELAY = { above: true, for: true } as const;

/**
 * @param isOff - whether to do without, for measuring
 * @throws ERR_MILLRACE_INVALID_OPTION, ERR_MILLRACE_INVALID_DURATION
 */
export function resolveHealing(
  options: HealingOptions | boolean | undefined,
  isOff: boolean,
): ResolvedHealing | undefined {
  const { rules: given } =
    typeof options === 'boolean' ? {} : knownOptions(options, 'healing.', HEALING_OPTIONS);
  const rules = knownOptions(given, 'healing.rules.', RULES);
  const resolved = { breaker: breakerRule(rules.breaker), watchDelay: delayRule(rules.watchDelay) };
  return isOff || options === false ? undefined : resolved;
}

function breakerRule(rule: HealingRules['breaker']): BreakerRule | undefined {
  if (rule === false) return undefined;
  const path = 'healing.rules.breaker';
  const {
    failures = 5,
    open = '10s',
    max = '5m',
    probes = 1,
  } = knownOptions(rule, `${path}.`, BREAKER);
  const openMs = durationMs(open, `${path}.open`);
  if (openMs < 1) throw invalidOption(`${path}.open`, open, 'at least 1 ms');
  return {
    failures: wholeNumber(failures, `${path}.failures`, 1, 1_000_000),
    openMs,
    openMsMax: Math.max(openMs, durationMs(max, `${path}.max`)),
    probes: wholeNumber(probes, `${path}.probes`, 1, 1_000),
  };
}

function delayRule(rule: HealingRules['watchDelay']): DelayRule | undefined {
  if (rule === false) return undefined;
  const path = 'healing.rules.watchDelay';
  const { above = '2s', for: forTime = '30s' } = knownOptions(rule, `${path}.`, DELAY);
  return {
    aboveMs: durationMs(above, `${path}.above`),
    forMs: durationMs(forTime, `${path}.for`),
  };
}
