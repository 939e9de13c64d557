/**
 * What of a runtime changes while it works: knobs, with the names and values that they have among the options of
 * `createRuntime`. Everything is checked before anything changes.
 */
import { type Concurrency, type ConcurrencySpec, concurrencySpec } from './core/concurrency.js';
import { invalidOption, knownOptions } from './core/options.js';
import type { TaskSpec } from './core/task.js';
import type { Engines } from './engines.js';
import type { BreakerRule, TypeBreakers } from './healing/breakers.js';
import { type BreakerOptions, breakerRule } from './healing/healing-options.js';
import { type RuntimeOptions, resolveWeights } from './runtime-options.js';

/** What `runtime.tune()` takes. What is not named stays as it is. */
export interface RuntimeTuning {
  /**
   * By task type, what takes the place of its `concurrency`, on this node: at most what its contract says. A type that is not named
   * stays as it is.
   */
  readonly concurrency?: Readonly<Record<string, Concurrency>>;
  /** `weights` takes the place of all weights before; a tenant that it does not name has the weight 1. */
  readonly fairness?: RuntimeOptions['fairness'];
  readonly healing?: { readonly rules?: { readonly breaker?: BreakerOptions } };
}

/** What has knobs. */
export interface TunedParts {
  readonly engines: Engines;
  readonly breakers: TypeBreakers | undefined;
  /** The contract of a task type. @throws ERR_MILLRACE_UNKNOWN_TASK */
  contract(name: string): TaskSpec;
}

/** @throws ERR_MILLRACE_INVALID_OPTION, _INVALID_DURATION, _UNKNOWN_TASK; nothing has changed then */
export function tuneRuntime(tuning: RuntimeTuning, parts: TunedParts): void {
  const { engines, breakers } = parts;
  const { concurrency, fairness, healing } = knownOptions<RuntimeTuning>(tuning, '', TUNING);
  const limits = concurrency === undefined ? [] : limitsOf(concurrency, parts);
  const isWeighted = knownOptions(fairness, 'fairness.', { weights: true }).weights !== undefined;
  const weights = isWeighted ? resolveWeights(fairness) : undefined;
  const { rules } = knownOptions(healing, 'healing.', { rules: true });
  const { breaker } = knownOptions(rules, 'healing.rules.', { breaker: true });
  const rule = breaker === undefined ? undefined : ruleOf(breaker, breakers);
  for (const [name, limit] of limits) engines.setConcurrency(name, limit);
  if (weights !== undefined) engines.setWeights(weights);
  if (rule !== undefined) breakers?.tune(rule);
}

const TUNING: Readonly<Record<keyof RuntimeTuning, true>> = {
  concurrency: true,
  fairness: true,
  healing: true,
};

function limitsOf(
  concurrency: Readonly<Record<string, Concurrency>>,
  { contract }: TunedParts,
): [string, ConcurrencySpec][] {
  if (typeof concurrency !== 'object' || concurrency === null || Array.isArray(concurrency)) {
    throw invalidOption('concurrency', concurrency, 'an object with limits by task name');
  }
  return Object.entries(concurrency).map(([name, given]) => {
    // The threads go by the contract, so no more than that would ever run.
    const { concurrency: most } = contract(name);
    return [name, concurrencySpec(given, `concurrency.${name}`, most)];
  });
}

function ruleOf(options: BreakerOptions, breakers: TypeBreakers | undefined): BreakerRule {
  if (breakers !== undefined) return breakerRule(options, breakers.rule);
  throw invalidOption(
    'healing.rules.breaker',
    options,
    'it to createRuntime first: this runtime has no breakers to tune',
  );
}
