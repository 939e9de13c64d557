/**
 * What users say about logs, and the same checked.
 *
 * Lines fall into three kinds. Heartbeats come all the time while everything is well, events when something happens,
 * and lines are what handlers say. Each kind has a rule, or one per level below `warn`; warnings and errors are never
 * held back.
 */
import { type Duration, durationMs } from '../core/durations.js';
import { invalidOption, knownOptions, wholeNumber } from '../core/options.js';
import type { LogLevel } from '../core/task.js';
import { KEEP_ALL, type SamplerSpec } from './samplers.js';

/** 1 in so many (1: all, 0: none); or the first ones of each period and then 1 in so many. */
export type SampleRule =
  | number
  | {
      /** Kept of each period, for each message and task type. */
      readonly first: number;
      /** @defaultValue '1s' */
      readonly per?: Duration;
      /** Of what comes beyond: 1 in so many, 0 for none. @defaultValue 100 */
      readonly every?: number;
    };

/** One rule for all levels, or one for each; a level without one keeps everything. */
export type LevelRules =
  | SampleRule
  | {
      readonly trace?: SampleRule;
      readonly debug?: SampleRule;
      readonly info?: SampleRule;
    };

export interface LogOptions {
  /**
   * What is kept of frequent lines below `warn`. A number is the rule for heartbeats.
   *
   * @defaultValue heartbeats 1 in 100; events the first 20 a second of each kind and task type, then 1 in 100; lines all
   */
  readonly sample?:
    | number
    | {
        /** Commits, locks, how late watches are. @defaultValue 100 */
        readonly heartbeats?: SampleRule;
        /** Everything else millrace says. @defaultValue { first: 20, per: '1s', every: 100 } */
        readonly events?: LevelRules;
        /** What handlers say with `ctx.log`. @defaultValue 1 */
        readonly lines?: LevelRules;
      };
  /** Names of fields whose values are replaced, besides the usual ones (`password`, `token`, `authorization` ...). */
  readonly redact?: readonly string[];
}

/** What a line is. */
export type LineKind = 'heartbeat' | 'event' | 'line';

/** Levels that may be held back. */
export type SampledLevel = 'trace' | 'debug' | 'info';

export interface ResolvedLogs {
  readonly rules: Readonly<Record<LineKind, Readonly<Record<SampledLevel, SamplerSpec>>>>;
  readonly redact: readonly string[];
}

const HEARTBEATS_EVERY = 100;
const EVENTS: SamplerSpec = { first: 20, perMs: 1_000, every: 100 };
const EVERY_MAX = 1_000_000_000;
const REDACT_NAMES_MAX = 100;
const REDACT_CHARS_MAX = 100;

const LOG_OPTIONS: Readonly<Record<keyof LogOptions, true>> = { sample: true, redact: true };
const KINDS = { heartbeats: true, events: true, lines: true } as const;
const RULE = { first: true, per: true, every: true } as const;
const LEVELS = { trace: true, debug: true, info: true } as const;

/** Keeps every line. */
export const UNSAMPLED: ResolvedLogs['rules'] = {
  heartbeat: sameFor(KEEP_ALL),
  event: sameFor(KEEP_ALL),
  line: sameFor(KEEP_ALL),
};

/** @throws ERR_MILLRACE_INVALID_OPTION, ERR_MILLRACE_INVALID_DURATION */
export function resolveLogs(options: LogOptions | undefined): ResolvedLogs {
  const { sample, redact = [] } = knownOptions(options, 'logs.', LOG_OPTIONS);
  const isNames =
    Array.isArray(redact) &&
    redact.length <= REDACT_NAMES_MAX &&
    redact.every(
      (name) => typeof name === 'string' && name.length > 0 && name.length <= REDACT_CHARS_MAX,
    );
  if (!isNames) {
    throw invalidOption('logs.redact', redact, "up to 100 names of fields, such as ['iban']");
  }
  const kinds =
    typeof sample === 'number'
      ? { heartbeats: sample }
      : knownOptions(sample, 'logs.sample.', KINDS);
  const heartbeats = sampleRule(
    kinds.heartbeats ?? HEARTBEATS_EVERY,
    typeof sample === 'number' ? 'logs.sample' : 'logs.sample.heartbeats',
  );
  return {
    rules: {
      heartbeat: sameFor(heartbeats),
      event: levelRules(kinds.events, 'logs.sample.events', EVENTS),
      line: levelRules(kinds.lines, 'logs.sample.lines', KEEP_ALL),
    },
    redact,
  };
}

/** Whether lines of a level may be held back. */
export function isSampled(level: LogLevel): level is SampledLevel {
  return Object.hasOwn(LEVELS, level);
}

function levelRules(
  rules: LevelRules | undefined,
  name: string,
  byDefault: SamplerSpec,
): Record<SampledLevel, SamplerSpec> {
  if (rules === undefined) return sameFor(byDefault);
  if (typeof rules === 'number' || (typeof rules === 'object' && rules && 'first' in rules)) {
    return sameFor(sampleRule(rules, name));
  }
  const { trace, debug, info } = knownOptions(rules, `${name}.`, LEVELS);
  return {
    trace: sampleRule(trace ?? 1, `${name}.trace`),
    debug: sampleRule(debug ?? 1, `${name}.debug`),
    info: sampleRule(info ?? 1, `${name}.info`),
  };
}

function sampleRule(rule: SampleRule, name: string): SamplerSpec {
  if (typeof rule !== 'object' || rule === null) {
    return { first: 0, perMs: 0, every: wholeNumber(rule, name, 0, EVERY_MAX) };
  }
  const { first, per = '1s', every = 100 } = knownOptions(rule, `${name}.`, RULE);
  return {
    first: wholeNumber(first, `${name}.first`, 1, EVERY_MAX),
    perMs: durationMs(per, `${name}.per`),
    every: wholeNumber(every, `${name}.every`, 0, EVERY_MAX),
  };
}

function sameFor(spec: SamplerSpec): Record<SampledLevel, SamplerSpec> {
  return { trace: spec, debug: spec, info: spec };
}
