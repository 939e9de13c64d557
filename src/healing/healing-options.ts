/** What users say about healing, and the same checked. Everything has a default, since nobody tunes it before it is needed. */
import { type Duration, durationMs } from '../core/durations.js';
import { invalidOption, knownOptions, oneOf, wholeNumber } from '../core/options.js';
import { checkToken } from '../core/tokens.js';
import { ACTIONS, type Action } from './actions.js';
import type { BreakerRule } from './breakers.js';
import type { DelayRule } from './degradation.js';
import type { LimitRule } from './local-rules.js';

export interface BreakerOptions {
  /** Timeouts and 503-class failures in a row that open it. @defaultValue 5 */
  readonly failures?: number;
  /** How long it stays open at first; twice as long each time a probe fails. @defaultValue '10s' */
  readonly open?: Duration;
  /** It is never open for longer at a time. @defaultValue '5m' */
  readonly max?: Duration;
  /** Successes in a row, one at a time, that close it. @defaultValue 1 */
  readonly probes?: number;
}

export interface HealingRules {
  /**
   * Circuit breakers, one for each task type. `false`: none.
   * @defaultValue { failures: 5, open: '10s', max: '5m', probes: 1 }
   */
  readonly breaker?: false | BreakerOptions;
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
  /**
   * Degrades while more than this share of the executions fails since somebody does not answer. `false`: never.
   * @defaultValue { above: 0.15, for: '1m' }
   */
  readonly dependency?: false | LimitOptions;
  /**
   * Replaces worker threads, then all of them, then degrades, while the process uses more than this share of the cores. Off by
   * default: computing is what threads are for. `true` is { above: 0.9, for: '3m' }
   * @defaultValue false
   */
  readonly cpu?: boolean | LimitOptions;
  /**
   * Degrades while the 95th percentile of the time that due tasks wait is above this many ms. `true` is
   * { above: 2000, for: '2m' } @defaultValue false
   */
  readonly queueWait?: boolean | LimitOptions;
  /**
   * Looks for handles that are opened and never closed; a worker thread that has them is replaced, and the task type named.
   * `false`: never. `every`: between two looks; it takes 120 of them to suspect anything. @defaultValue { every: '5s' }
   */
  readonly leaks?: false | { readonly every?: Duration };
}

/** From when on a figure counts. */
export interface LimitOptions {
  readonly above?: number;
  /** How long on end. */
  readonly for?: Duration;
}

export interface HealingOptions {
  /** What is watched for, and from when on it counts. */
  readonly rules?: HealingRules;
  /** Takes alerts of Alertmanager at `POST /v1/alerts` of the `admin` server. @defaultValue none */
  readonly webhook?: {
    /** What Alertmanager sends as `Authorization: Bearer`; 32 to 1024 characters, and not that of `admin`. */
    readonly token: string;
    /** What this node is called in the label `instance`, besides its addresses with the port of `admin`. */
    readonly instances?: readonly string[];
  };
  /**
   * What rules and alerts may do. `exit` ends the process, so it has to be named.
   * @defaultValue all but `exit`
   */
  readonly actions?: readonly Action[];
  /** Only says what would be done: in the audit, the log and the metrics. @defaultValue false */
  readonly dryRun?: boolean;
  /** No restart before the runtime has been up for so long: it may just be warming up. @defaultValue '1m' */
  readonly grace?: Duration;
}

export interface ResolvedHealing {
  readonly breaker: BreakerRule | undefined;
  readonly watchDelay: DelayRule | undefined;
  readonly dependency: LimitRule | undefined;
  readonly cpu: LimitRule | undefined;
  readonly queueWait: LimitRule | undefined;
  readonly webhook: { readonly token: string; readonly instances: readonly string[] } | undefined;
  readonly leaks: { readonly everyMs: number } | undefined;
  readonly allowed: ReadonlySet<Action>;
  readonly isDryRun: boolean;
  readonly graceMs: number;
}

const HEALING_OPTIONS: Readonly<Record<keyof HealingOptions, true>> = {
  rules: true,
  webhook: true,
  actions: true,
  dryRun: true,
  grace: true,
};
const RULES: Readonly<Record<keyof HealingRules, true>> = {
  breaker: true,
  watchDelay: true,
  dependency: true,
  cpu: true,
  queueWait: true,
  leaks: true,
};
const BREAKER = { failures: true, open: true, max: true, probes: true } as const;
const BREAKER_RULE: BreakerRule = { failures: 5, openMs: 10_000, openMsMax: 300_000, probes: 1 };
const LIMIT = { above: true, for: true } as const;
const WEBHOOK = { token: true, instances: true } as const;
const LEAKS = { every: true } as const;
const DELAY = { above: true, for: true } as const;

/**
 * @param isOff - whether to do without, for measuring
 * @throws ERR_MILLRACE_INVALID_OPTION, ERR_MILLRACE_INVALID_DURATION
 */
export function resolveHealing(
  options: HealingOptions | boolean | undefined,
  isOff: boolean,
): ResolvedHealing | undefined {
  const given =
    typeof options === 'boolean' ? {} : knownOptions(options, 'healing.', HEALING_OPTIONS);
  const rules = knownOptions(given.rules, 'healing.rules.', RULES);
  const { actions = ACTIONS.filter((action) => action !== 'exit'), dryRun = false } = given;
  if (!Array.isArray(actions)) {
    throw invalidOption('healing.actions', actions, "a list, such as ['degrade']");
  }
  if (typeof dryRun !== 'boolean') throw invalidOption('healing.dryRun', dryRun, 'true or false');
  const resolved = {
    breaker: rules.breaker === false ? undefined : breakerRule(rules.breaker),
    watchDelay: delayRule(rules.watchDelay),
    dependency: limitRule(rules.dependency ?? true, 'dependency', { above: 0.15, for: '1m' }),
    cpu: limitRule(rules.cpu ?? false, 'cpu', { above: 0.9, for: '3m' }),
    queueWait: limitRule(rules.queueWait ?? false, 'queueWait', { above: 2_000, for: '2m' }),
    leaks: leakRule(rules.leaks),
    webhook: webhookOf(given.webhook),
    allowed: new Set(actions.map((action) => oneOf(action, 'healing.actions', ACTIONS))),
    isDryRun: dryRun,
    graceMs: durationMs(given.grace ?? '1m', 'healing.grace'),
  };
  return isOff || options === false ? undefined : resolved;
}

/**
 * @param otherwise - what holds where nothing is said
 * @throws ERR_MILLRACE_INVALID_OPTION, ERR_MILLRACE_INVALID_DURATION
 */
export function breakerRule(
  options: BreakerOptions | undefined,
  otherwise: BreakerRule = BREAKER_RULE,
): BreakerRule {
  const path = 'healing.rules.breaker';
  const { failures, open, max, probes } = knownOptions<BreakerOptions>(
    options,
    `${path}.`,
    BREAKER,
  );
  const openMs = open === undefined ? otherwise.openMs : durationMs(open, `${path}.open`);
  if (openMs < 1) throw invalidOption(`${path}.open`, open, 'at least 1 ms');
  const openMsMax = max === undefined ? otherwise.openMsMax : durationMs(max, `${path}.max`);
  return {
    failures: wholeNumber(failures ?? otherwise.failures, `${path}.failures`, 1, 1_000_000),
    openMs,
    openMsMax: Math.max(openMs, openMsMax),
    probes: wholeNumber(probes ?? otherwise.probes, `${path}.probes`, 1, 1_000),
  };
}

function leakRule(rule: HealingRules['leaks']): ResolvedHealing['leaks'] {
  if (rule === false) return undefined;
  const path = 'healing.rules.leaks';
  const { every = '5s' } = knownOptions(rule, `${path}.`, LEAKS);
  const everyMs = durationMs(every, `${path}.every`);
  if (everyMs < 10) throw invalidOption(`${path}.every`, every, 'at least 10 ms');
  return { everyMs };
}

function limitRule(
  rule: boolean | LimitOptions,
  name: string,
  byDefault: Required<LimitOptions>,
): LimitRule | undefined {
  if (rule === false) return undefined;
  const path = `healing.rules.${name}`;
  const given = rule === true ? {} : knownOptions(rule, `${path}.`, LIMIT);
  const { above = byDefault.above, for: forTime = byDefault.for } = given;
  if (!(typeof above === 'number' && above >= 0 && Number.isFinite(above))) {
    throw invalidOption(`${path}.above`, above, 'a number from 0 up');
  }
  return { above, forMs: durationMs(forTime, `${path}.for`) };
}

function webhookOf(webhook: HealingOptions['webhook']): ResolvedHealing['webhook'] {
  if (webhook === undefined) return undefined;
  const { token, instances = [] } = knownOptions(webhook, 'healing.webhook.', WEBHOOK);
  checkToken(token, 'healing.webhook.token');
  if (!Array.isArray(instances) || instances.some((name) => typeof name !== 'string')) {
    throw invalidOption('healing.webhook.instances', instances, "names, such as ['n1:9464']");
  }
  return { token, instances };
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
