/**
 * A circuit breaker for each task type: what a handler depends on and does not answer is left alone for a while.
 *
 *              failures in a row                  its time is over
 *     CLOSED ---------------------> OPEN ---------------------------> HALF-OPEN
 *       ^                             ^                                   |
 *       |                             '------- a probe fails, longer -----|
 *       '------------------------- probes succeed ------------------------'
 *
 *     closed      as many at once as the task says
 *     open        none begins; tasks wait, and keep their attempts
 *     half-open   one at a time: the probes
 *
 * A failure counts when it says that somebody else does not answer: a timeout, a refused or broken connection, a 503. Any
 * other failure is an answer, and ends the row like a success. Results come in frames, successes told first and failures
 * after them, one event each; so a frame is looked through in its order, and the failures that a later success of the same
 * frame has made good are passed over.
 *
 * Each opening is twice as long as the one before, up to a bound, until the breaker has closed.
 */
import { type ChannelPayloads, publish } from '../core/channels.js';
import type { Clock, WakeUp } from '../core/clock.js';
import type { Levers } from '../core/levers.js';
import { BaseService } from '../core/service.js';
import { Outcome } from '../core/states.js';
import { Subscriptions } from '../core/subscriptions.js';
import { isUnavailable } from '../core/unavailable.js';

export type BreakerState = 'closed' | 'open' | 'half-open';

export interface BreakerRule {
  /** Failures in a row that open. */
  readonly failures: number;
  readonly openMs: number;
  readonly openMsMax: number;
  /** Successes in a row that close. */
  readonly probes: number;
}

interface Breaker {
  state: BreakerState;
  /** Failures in a row while closed, successes while half-open. */
  row: number;
  openMs: number;
  wakeUp: WakeUp | undefined;
}

export class TypeBreakers extends BaseService {
  readonly #clock: Clock;
  readonly #levers: Levers;
  #rule: BreakerRule;
  readonly #incarnation: string;
  readonly #events: Subscriptions;
  readonly #byType = new Map<string, Breaker>();
  /** Failures of the present frame that a later success in it has made good, by type. */
  readonly #excused = new Map<string, number>();

  constructor(
    clock: Clock,
    levers: Levers,
    options: BreakerRule & { readonly incarnation: string },
  ) {
    super();
    this.#clock = clock;
    this.#levers = levers;
    this.#rule = options;
    this.#incarnation = options.incarnation;
    this.#events = new Subscriptions(options.incarnation);
  }

  /** Of a task type; `closed` when nothing is known of it. */
  stateOf(type: string): BreakerState {
    return this.#byType.get(type)?.state ?? 'closed';
  }

  /** Types that something is known of: some task has failed, or somebody has opened it. */
  get typeCount(): number {
    return this.#byType.size;
  }

  /** Opens the breaker of a type, whatever has been counted: somebody else knows better. REQUIRES: it runs here. */
  open(type: string): void {
    const breaker = this.#breakerOf(type);
    if (breaker.state !== 'open') this.#open(type, breaker);
  }

  /** Lets probes through before the time is over. */
  probe(type: string): void {
    const breaker = this.#byType.get(type);
    if (breaker?.state === 'open') this.#halfOpen(type, breaker);
  }

  /** What opens and closes them. */
  get rule(): BreakerRule {
    return this.#rule;
  }

  /** Goes by another rule. What is open stays so until its time is over; what has been counted counts on. */
  tune(rule: BreakerRule): void {
    this.#rule = rule;
    for (const breaker of this.#byType.values()) {
      if (breaker.state === 'closed') breaker.openMs = rule.openMs;
    }
  }

  protected async onStart(): Promise<void> {
    this.#events.on('millrace:batch:reported', (report) => this.#onReported(report));
    for (const name of ['millrace:task:retry', 'millrace:task:failed'] as const) {
      this.#events.on(name, ({ type, error }) => this.#onFailure(type, error));
    }
  }

  protected async onStop(): Promise<void> {
    this.#events.close();
    for (const { wakeUp } of this.#byType.values()) wakeUp?.cancel();
  }

  #onReported({ types, outcomes }: ChannelPayloads['millrace:batch:reported']): void {
    this.#excused.clear();
    let failed: Map<string, number> | undefined;
    for (let i = 0; i < types.length; i++) {
      const type = types[i]!;
      switch (outcomes[i]) {
        case Outcome.COMPLETED:
          if (failed?.has(type)) this.#excused.set(type, failed.get(type)!);
          if (this.#byType.size > 0) this.#onSuccess(type);
          break;
        case Outcome.FAILED:
        case Outcome.FAILED_FOR_GOOD:
        case Outcome.CANCELLED:
          failed ??= new Map();
          failed.set(type, (failed.get(type) ?? 0) + 1);
      }
    }
  }

  #onSuccess(type: string): void {
    const breaker = this.#byType.get(type);
    if (breaker === undefined) return;
    if (breaker.state === 'closed') breaker.row = 0;
    else if (breaker.state === 'half-open' && ++breaker.row >= this.#rule.probes) {
      this.#close(type, breaker);
    }
  }

  #onFailure(type: string, error: unknown): void {
    const excused = this.#excused.get(type) ?? 0;
    if (excused > 0) {
      this.#excused.set(type, excused - 1);
      return;
    }
    const breaker = this.#breakerOf(type);
    if (!isUnavailable(error)) {
      if (breaker.state === 'half-open') this.#onSuccess(type);
      else breaker.row = 0;
    } else if (breaker.state === 'half-open') {
      breaker.openMs = Math.min(breaker.openMs * 2, this.#rule.openMsMax);
      this.#open(type, breaker);
    } else if (breaker.state === 'closed' && ++breaker.row >= this.#rule.failures) {
      this.#open(type, breaker);
    }
  }

  #open(type: string, breaker: Breaker): void {
    const failures = breaker.row;
    this.#move(type, breaker, { state: 'open', atMost: 0, failures });
    breaker.wakeUp = this.#clock.wakeIn(breaker.openMs, () => this.#halfOpen(type, breaker));
  }

  #halfOpen(type: string, breaker: Breaker): void {
    this.#move(type, breaker, { state: 'half-open', atMost: 1, failures: 0 });
  }

  #close(type: string, breaker: Breaker): void {
    breaker.openMs = this.#rule.openMs;
    this.#move(type, breaker, { state: 'closed', atMost: undefined, failures: 0 });
  }

  #move(
    type: string,
    breaker: Breaker,
    to: {
      readonly state: BreakerState;
      readonly atMost: number | undefined;
      readonly failures: number;
    },
  ): void {
    breaker.wakeUp?.cancel();
    breaker.wakeUp = undefined;
    breaker.state = to.state;
    breaker.row = 0;
    this.#levers.limitType(type, to.atMost);
    publish('millrace:breaker:changed', () => ({
      incarnation: this.#incarnation,
      type,
      state: to.state,
      failures: to.failures,
      openMs: to.state === 'open' ? breaker.openMs : 0,
    }));
  }

  #breakerOf(type: string): Breaker {
    let breaker = this.#byType.get(type);
    if (breaker === undefined) {
      breaker = {
        state: 'closed',
        row: 0,
        openMs: this.#rule.openMs,
        wakeUp: undefined,
      };
      this.#byType.set(type, breaker);
    }
    return breaker;
  }
}
