/**
 * What of a runtime changes while it works: knobs, with the names and values that they have among the options of
 * `createRuntime`. Everything is checked before anything changes.
 */
import { invalidOption, knownOptions } from './core/options.js';
import type { Engines } from './engines.js';
import type { BreakerRule, TypeBreakers } from './healing/breakers.js';
import { type BreakerOptions, breakerRule } from './healing/healing-options.js';
import { type RuntimeOptions, resolveWeights } from './runtime-options.js';

/** What `runtime.tune()` takes. What is not named stays as it is. */
export interface RuntimeTuning {
  /** `weights` takes the place of all weights before; a tenant that it does not name has the weight 1. */
  readonly fairness?: RuntimeOptions['fairness'];
  readonly healing?: { readonly rules?: { readonly breaker?: BreakerOptions } };
}

/** @throws ERR_MILLRACE_INVALID_OPTION, ERR_MILLRACE_INVALID_DURATION; nothing has changed then */
export function tuneRuntime(
  tuning: RuntimeTuning,
  { engines, breakers }: { readonly engines: Engines; readonly breakers: TypeBreakers | undefined },
): void {
  const { fairness, healing } = knownOptions<RuntimeTuning>(tuning, '', TUNING);
  const isWeighted = knownOptions(fairness, 'fairness.', { weights: true }).weights !== undefined;
  const weights = isWeighted ? resolveWeights(fairness) : undefined;
  const { rules } = knownOptions(healing, 'healing.', { rules: true });
  const { breaker } = knownOptions(rules, 'healing.rules.', { breaker: true });
  const rule = breaker === undefined ? undefined : ruleOf(breaker, breakers);
  if (weights !== undefined) engines.setWeights(weights);
  if (rule !== undefined) breakers?.tune(rule);
}

const TUNING: Readonly<Record<keyof RuntimeTuning, true>> = { fairness: true, healing: true };

function ruleOf(options: BreakerOptions, breakers: TypeBreakers | undefined): BreakerRule {
  if (breakers !== undefined) return breakerRule(options, breakers.rule);
  throw invalidOption(
    'healing.rules.breaker',
    options,
    'it to createRuntime first: this runtime has no breakers to tune',
  );
}
