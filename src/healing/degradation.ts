/**
 * Degradation: doing less, on purpose and reversibly, while the store is slow.
 *
 *   watch delay above its limit for so long  -->  degraded: low priorities are shed, nothing is claimed ahead, commits linger
 *   below half of it for as long             -->  as before
 *
 * The two bounds lie apart, so that a delay around the limit does not switch back and forth. Others may degrade a runtime
 * too (an alert, a rule), each under a name and for a time: it is degraded while any of them says so, and a reason
 * whose time is over is forgotten, since the word that it has passed may be lost.
 */
import { publish } from '../core/channels.js';
import type { Clock, WakeUp } from '../core/clock.js';
import type { Levers } from '../core/levers.js';
import { BaseService } from '../core/service.js';
import { Subscriptions } from '../core/subscriptions.js';

export interface DelayRule {
  /** Of a write on its way through a watch. */
  readonly aboveMs: number;
  /** How long it must be above; and below half of it, to recover. */
  readonly forMs: number;
}

export interface DegradationOptions {
  readonly incarnation: string;
  /** Undefined: watch delays degrade nothing. */
  readonly watchDelay: DelayRule | undefined;
}

/** Submits below this priority are refused while degraded: what says of itself that it can wait. */
const SHED_BELOW = 0;
/** Of each commit while degraded: at most twenty a second, and little beside what a slow store takes. */
const LINGER_MS = 50;
/** Of the limit: below it, the delay counts as fine again. */
const RECOVERED_SHARE = 0.5;
const WATCH_DELAY = 'watch-delay';
/** Delays that are told within the time of a rule: with fewer, a short time is never seen to pass. */
const LOOKS_PER_WINDOW = 3;
const LOOK_EVERY_MS_MIN = 100;
const LOOK_EVERY_MS_MAX = 10_000;

/** One stream of watches and its delays. */
interface Delays {
  /** Above the limit without a break since then; monotonic. */
  badSinceMs: number | undefined;
  /** Below half of it without a break since then. */
  goodSinceMs: number | undefined;
}

/**
 * How often delays have to be told for a rule to work: so that some fall into its time, and not so often that one that is
 * still out would count as fine. 10 s by default.
 */
export function lookEveryMs(rule: DelayRule | undefined): number {
  if (rule === undefined) return LOOK_EVERY_MS_MAX;
  const inWindowMs = Math.min(rule.forMs / LOOKS_PER_WINDOW, LOOK_EVERY_MS_MAX);
  return Math.max(inWindowMs, rule.aboveMs * 2, LOOK_EVERY_MS_MIN);
}

export class Degradation extends BaseService {
  readonly #clock: Clock;
  readonly #levers: Levers;
  readonly #options: DegradationOptions;
  readonly #events: Subscriptions;
  readonly #byClass = new Map<string, Delays>();
  /** Why it is degraded, each with the wake-up at the end of its time. */
  readonly #reasons = new Map<string, WakeUp | undefined>();

  constructor(clock: Clock, levers: Levers, options: DegradationOptions) {
    super();
    this.#clock = clock;
    this.#levers = levers;
    this.#options = options;
    this.#events = new Subscriptions(options.incarnation);
  }

  get isDegraded(): boolean {
    return this.#reasons.size > 0;
  }

  /** Degrades, or goes on being degraded, for this reason. @param ttlMs - then it is forgotten; undefined: until lifted */
  degrade(reason: string, ttlMs?: number): void {
    const was = this.isDegraded;
    this.#reasons.get(reason)?.cancel();
    const wakeUp =
      ttlMs === undefined ? undefined : this.#clock.wakeIn(ttlMs, () => this.lift(reason));
    this.#reasons.set(reason, wakeUp);
    if (!was) this.#apply(true, reason);
  }

  /** The reason has passed. */
  lift(reason: string): void {
    if (!this.#reasons.has(reason)) return;
    this.#reasons.get(reason)?.cancel();
    this.#reasons.delete(reason);
    if (!this.isDegraded) this.#apply(false, reason);
  }

  protected async onStart(): Promise<void> {
    const rule = this.#options.watchDelay;
    if (rule === undefined) return;
    this.#events.on('millrace:watch:delay', ({ class: watchClass, delayMs }) => {
      this.#onDelay(rule, watchClass, delayMs);
    });
  }

  protected async onStop(): Promise<void> {
    this.#events.close();
    for (const wakeUp of this.#reasons.values()) wakeUp?.cancel();
    this.#reasons.clear();
  }

  #onDelay({ aboveMs, forMs }: DelayRule, watchClass: string, delayMs: number): void {
    const nowMs = this.#clock.monoMs();
    const delays = this.#byClass.get(watchClass) ?? {
      badSinceMs: undefined,
      goodSinceMs: undefined,
    };
    this.#byClass.set(watchClass, delays);
    delays.badSinceMs = delayMs > aboveMs ? (delays.badSinceMs ?? nowMs) : undefined;
    delays.goodSinceMs =
      delayMs < aboveMs * RECOVERED_SHARE ? (delays.goodSinceMs ?? nowMs) : undefined;
    const reason = `${WATCH_DELAY}-${watchClass}`;
    if (delays.badSinceMs !== undefined && nowMs - delays.badSinceMs >= forMs) {
      this.degrade(reason);
    } else if (delays.goodSinceMs !== undefined && nowMs - delays.goodSinceMs >= forMs) {
      this.lift(reason);
    }
  }

  #apply(isDegraded: boolean, reason: string): void {
    this.#levers.shedBelow(isDegraded ? SHED_BELOW : undefined);
    this.#levers.allowClaimsAhead(!isDegraded);
    this.#levers.lingerCommits(isDegraded ? LINGER_MS : 0);
    publish('millrace:runtime:degraded', () => ({
      incarnation: this.#options.incarnation,
      isDegraded,
      reason,
    }));
  }
}
