/**
 * Rules that need no Prometheus: a figure above its limit for so long asks for an action, and for the next stronger one if
 * that did not help.
 *
 *   figure, every 5 s --> above the limit? --> for so long? --> first rung --> still above a while later? --> next rung ...
 *                              | no, at once
 *                              '--> what can be lifted is lifted, and the ladder begins anew
 *
 *   rule         figure                                                         ladder
 *   dependency   share of executions that failed since somebody did not answer  degrade
 *   cpu          share of the cores that the process may use                    restart-worker, restart-pool, degrade
 *   queueWait    95th percentile of the time that due tasks waited, in ms       degrade
 */
import type { Clock, WakeUp } from '../core/clock.js';
import { BaseService } from '../core/service.js';
import { Outcome } from '../core/states.js';
import { Subscriptions } from '../core/subscriptions.js';
import { isUnavailable } from '../core/unavailable.js';
import type { Action, Actions } from './actions.js';

export interface LimitRule {
  readonly above: number;
  readonly forMs: number;
}

export interface LocalRuleOptions {
  readonly incarnation: string;
  readonly dependency: LimitRule | undefined;
  readonly cpu: LimitRule | undefined;
  readonly queueWait: LimitRule | undefined;
  /** Share of the cores that was used since the last call, 0 to 1. */
  readonly cpuShare: () => number;
}

const SAMPLE_MS = 5_000;
/** An action gets so long to help before it is repeated or the next one is tried. */
const VERIFY_MS = 60_000;
/** A share of fewer executions means nothing. */
const EXECUTIONS_MIN = 20;
const WAITS_MAX = 1_000;

interface Rule {
  readonly name: string;
  readonly limit: LimitRule;
  readonly ladder: readonly Action[];
  /** Since the last call; undefined: unknown, and then nothing changes. */
  readonly figure: () => number | undefined;
  aboveSinceMs: number | undefined;
  rung: number;
  askedAtMs: number;
}

export class LocalRules extends BaseService {
  readonly #clock: Clock;
  readonly #actions: Actions;
  readonly #events: Subscriptions;
  readonly #rules: readonly Rule[];
  #executions = 0;
  #unavailable = 0;
  #waits: number[] = [];
  #wakeUp: WakeUp | undefined;

  constructor(clock: Clock, actions: Actions, options: LocalRuleOptions) {
    super();
    this.#clock = clock;
    this.#actions = actions;
    this.#events = new Subscriptions(options.incarnation);
    const rule = (
      name: string,
      limit: LimitRule | undefined,
      ladder: readonly Action[],
      figure: Rule['figure'],
    ): Rule[] =>
      limit === undefined
        ? []
        : [{ name, limit, ladder, figure, aboveSinceMs: undefined, rung: 0, askedAtMs: 0 }];
    this.#rules = [
      ...rule('dependency', options.dependency, ['degrade'], () => this.#takeUnavailableShare()),
      ...rule('cpu', options.cpu, ['restart-worker', 'restart-pool', 'degrade'], options.cpuShare),
      ...rule('queue-wait', options.queueWait, ['degrade'], () => this.#takeWaitMs()),
    ];
  }

  protected async onStart(): Promise<void> {
    this.#events.on('millrace:batch:reported', ({ outcomes }) => {
      let executions = 0;
      for (const outcome of outcomes) if (outcome !== Outcome.NOT_STARTED) executions++;
      this.#executions += executions;
    });
    for (const name of ['millrace:task:retry', 'millrace:task:failed'] as const) {
      this.#events.on(name, ({ error }) => {
        if (isUnavailable(error)) this.#unavailable++;
      });
    }
    this.#events.on('millrace:batch:launched', ({ waitMs }) => {
      if (this.#waits.length < WAITS_MAX) this.#waits.push(waitMs);
    });
    if (this.#rules.length > 0) this.#arm();
  }

  protected async onStop(): Promise<void> {
    this.#events.close();
    this.#wakeUp?.cancel();
  }

  #arm(): void {
    this.#wakeUp = this.#clock.wakeIn(SAMPLE_MS, () => {
      for (const rule of this.#rules) this.#look(rule);
      this.#arm();
    });
  }

  #look(rule: Rule): void {
    const figure = rule.figure();
    if (figure === undefined) return;
    const nowMs = this.#clock.monoMs();
    if (figure <= rule.limit.above) {
      if (rule.rung > 0) {
        for (const action of rule.ladder) this.#actions.resolve({ action, target: rule.name });
      }
      rule.aboveSinceMs = undefined;
      rule.rung = 0;
      return;
    }
    rule.aboveSinceMs ??= nowMs;
    if (nowMs - rule.aboveSinceMs < rule.limit.forMs) return;
    if (rule.rung > 0 && nowMs - rule.askedAtMs < VERIFY_MS) return;
    rule.askedAtMs = nowMs;
    const action = rule.ladder[Math.min(rule.rung, rule.ladder.length - 1)]!;
    const reason = `${rule.name} is ${figure.toPrecision(3)}, above ${rule.limit.above}`;
    rule.rung++;
    void this.#actions.request({ action, target: rule.name, source: 'rule', reason });
  }

  #takeUnavailableShare(): number | undefined {
    const [executions, unavailable] = [this.#executions, this.#unavailable];
    if (executions < EXECUTIONS_MIN) return undefined;
    this.#executions = 0;
    this.#unavailable = 0;
    return unavailable / executions;
  }

  #takeWaitMs(): number {
    const waits = this.#waits.sort((a, b) => a - b);
    this.#waits = [];
    return waits[Math.floor(waits.length * 0.95)] ?? 0;
  }
}
