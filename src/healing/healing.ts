/**
 * Healing: what a runtime does by itself when something is wrong. It watches channels and pulls levers; it knows neither
 * the engine nor the threads.
 *
 *   channels ---------> breakers, degradation -----> levers
 *      |                         ^                     ^
 *      '--> local rules --.      |                     |
 *   alerts (webhook) -----+--> actions, with rails ----'
 */
import type { Clock } from '../core/clock.js';
import type { HealGate } from '../core/heal-gate.js';
import type { Levers } from '../core/levers.js';
import { BaseService, type Service } from '../core/service.js';
import { Actions } from './actions.js';
import { AlertDesk } from './alerts.js';
import { TypeBreakers } from './breakers.js';
import { cpuShareMeter } from './cpu-share.js';
import { Degradation } from './degradation.js';
import type { ResolvedHealing } from './healing-options.js';
import { identityOf } from './identity.js';
import { LeakWatchdog } from './leak-watchdog.js';
import { LocalRules } from './local-rules.js';
import { processCounts } from './process-counts.js';

/** Twice what Alertmanager's `repeat_interval` is mostly set to for such alerts. */
const DEGRADE_MS = 600_000;

export class Healing extends BaseService {
  readonly actions: Actions;
  /** Undefined without `webhook`. */
  readonly alerts: AlertDesk | undefined;
  /** Undefined with `rules.breaker: false`. */
  readonly breakers: TypeBreakers | undefined;
  readonly #parts: readonly Service[];

  /** @param options.port - where the webhook is served, once it is */
  constructor(
    clock: Clock,
    ports: { readonly levers: Levers; readonly gate: HealGate },
    options: ResolvedHealing & {
      readonly incarnation: string;
      readonly port: () => number | undefined;
    },
  ) {
    super();
    const { levers, gate } = ports;
    const { incarnation, breaker, watchDelay, webhook } = options;
    const breakers = breaker && new TypeBreakers(clock, levers, { ...breaker, incarnation });
    const degradation = new Degradation(clock, levers, { incarnation, watchDelay });
    this.breakers = breakers;
    this.actions = new Actions(clock, levers, gate, {
      ...options,
      degradeMs: DEGRADE_MS,
      breakers,
      degradation,
    });
    this.alerts =
      webhook &&
      new AlertDesk(this.actions, gate, {
        isHere: identityOf(webhook.instances, options.port),
        nowMs: () => clock.monoMs(),
      });
    const rules = new LocalRules(clock, this.actions, { ...options, cpuShare: cpuShareMeter() });
    const leaks =
      options.leaks &&
      new LeakWatchdog(clock, levers, this.actions, {
        ...options.leaks,
        incarnation,
        processCounts,
      });
    this.#parts = [breakers, degradation, rules, leaks].filter((part) => part !== undefined);
  }

  protected async onStart(): Promise<void> {
    for (const part of this.#parts) await part.start();
  }

  protected async onStop(): Promise<void> {
    this.actions.isEnabled = false;
    for (const part of this.#parts) await part.stop();
  }
}
