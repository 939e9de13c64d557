/**
 * RateLimit: one rate as this node keeps it. A token bucket (Turner 1986) in the task table: each claim takes a credit there, at
 * no cost in JavaScript, and this refills it on the clock.
 *
 *   credits per ms     share x limit / per          share: of the budget of all nodes (budget.ts)
 *   at most            share x burst, at least 1, and at least what comes in 50 ms: wake-ups are late at times
 *
 * Nothing ticks while the bucket is full. After a commit that claimed, credits come back in steps: when the next whole one
 * is due, and no more often than every 25 ms.
 *
 * How much of the budget this node wants is measured on the way: what it used of late with some room above it, or all of it
 * once tasks are ready and credits are gone.
 */
import type { Clock, WakeUp } from '../../core/clock.js';
import type { RateSpec } from '../../core/rate.js';
import type { TaskTable, TypeId } from '../../timing/task-table.js';

/** What a rate counts. */
export interface RateScope {
  /** Undefined: all types together. */
  readonly type: TypeId | undefined;
  readonly isOfTenants: boolean;
}

export interface RateLimitPorts {
  readonly clock: Clock;
  readonly table: TaskTable;
  /** There may be something to claim. */
  onRefilled(): void;
  /** This node has use for another part of the budget, 0 to 1. */
  onWant(part: number): void;
}

const TICK_MS_MIN = 25;
/** A bucket holds what comes in so long, or it would run over between ticks. */
const BURST_MS_MIN = 2 * TICK_MS_MIN;
const TICK_MS_MAX = 1_000;
const WANT_WINDOW_MS = 1_000;
/** What is wanted above what was used, so that growing takes no round trip. */
const WANT_ROOM = 1.25;
/** Less of the budget than that is none. */
const WANT_MIN = 0.01;

export class RateLimit {
  readonly spec: RateSpec;
  readonly scope: RateScope;
  readonly #ports: RateLimitPorts;
  #share = 0;
  #refilledAtMs = 0;
  #tick: WakeUp | undefined;
  /** Credits after the last refill; what is missing by the next one was spent. */
  #creditsThen = 0;
  #spent = 0;
  #windowFromMs = 0;
  #want = 0;
  #isClosed = false;

  constructor(spec: RateSpec, scope: RateScope, ports: RateLimitPorts) {
    this.spec = spec;
    this.scope = scope;
    this.#ports = ports;
    if (scope.isOfTenants) ports.table.addTenantCredits(scope.type, 0, 1);
    else ports.table.addCredits(scope.type!, 0, 0);
  }

  get share(): number {
    return this.#share;
  }

  /** @param isFull - whether a bucket that had no share begins full, else empty */
  grant(share: number, isFull: boolean): void {
    if (this.#isClosed) return;
    this.#refill();
    const added = isFull && this.#share === 0 ? Number.MAX_SAFE_INTEGER : 0;
    this.#share = share;
    this.#add(added);
    this.look();
    this.#ports.onRefilled();
  }

  /** Credits may have been spent, or be wanted. Cheap; to be called after commits, and when tasks turn due. */
  look(): void {
    if (this.#tick !== undefined || this.#isClosed || this.#isQuiet) return;
    const nowMs = this.#ports.clock.monoMs();
    // Full until now: what was claimed was so just now.
    this.#refilledAtMs = nowMs;
    this.#windowFromMs = nowMs;
    this.#arm();
  }

  /** Ms until something of it may begin here; undefined: this node has no share of it. */
  msUntilNext(tenant: string): number | undefined {
    if (this.#share === 0) return undefined;
    return Math.max(0, (1 - this.#creditsOf(tenant)) / this.#creditsPerMs);
  }

  /** Whether it holds up the tasks of a tenant. */
  isSpent(tenant: string): boolean {
    return this.#share === 0 || this.#creditsOf(tenant) < 1;
  }

  close(): void {
    this.#isClosed = true;
    this.#tick?.cancel();
  }

  get #creditsPerMs(): number {
    return (this.#share * this.spec.limit) / this.spec.perMs;
  }

  get #creditsMax(): number {
    if (this.#share === 0) return 0;
    return Math.max(1, this.#share * this.spec.burst, BURST_MS_MIN * this.#creditsPerMs);
  }

  get #isQuiet(): boolean {
    const { type, isOfTenants } = this.scope;
    if (isOfTenants) return !this.#ports.table.hasSpentTenants;
    const { credits, ready } = this.#ports.table.typeState(type!)!;
    return credits >= this.#creditsMax && (this.#share > 0 || ready === 0);
  }

  #creditsOf(tenant: string): number {
    const { type, isOfTenants } = this.scope;
    const { table } = this.#ports;
    return isOfTenants ? table.tenantCredits(type, tenant) : table.typeState(type!)!.credits;
  }

  #refill(): void {
    const nowMs = this.#ports.clock.monoMs();
    const elapsedMs = this.#tick === undefined ? 0 : nowMs - this.#refilledAtMs;
    this.#refilledAtMs = nowMs;
    this.#add(elapsedMs * this.#creditsPerMs);
  }

  #add(credits: number): void {
    const { type, isOfTenants } = this.scope;
    const { table } = this.#ports;
    const max = this.#creditsMax;
    if (isOfTenants) {
      // Without a share nothing of it is claimed, and so nothing is spent.
      if (max > 0) table.addTenantCredits(type, credits, max);
      return;
    }
    const before = table.typeState(type!)!.credits;
    this.#spent += Math.max(0, this.#creditsThen - before);
    table.addCredits(type!, credits, max);
    this.#creditsThen = Math.min(max, before + credits);
  }

  #arm(): void {
    this.#tick = this.#ports.clock.wakeIn(this.#msToNextTick(), () => this.#onTick());
  }

  #msToNextTick(): number {
    if (this.#share === 0) return TICK_MS_MIN;
    const { type, isOfTenants } = this.scope;
    const credits = isOfTenants ? 0 : this.#ports.table.typeState(type!)!.credits;
    const missing = credits < 1 ? 1 - credits : 1;
    return Math.min(TICK_MS_MAX, Math.max(TICK_MS_MIN, missing / this.#creditsPerMs));
  }

  #onTick(): void {
    if (!this.scope.isOfTenants) this.#measure();
    this.#refill();
    this.#tick = undefined;
    if (!this.#isQuiet || this.#want > 0) this.#arm();
    this.#ports.onRefilled();
  }

  #measure(): void {
    const { clock, table, onWant } = this.#ports;
    const { credits, ready } = table.typeState(this.scope.type!)!;
    const isShort = ready > 0 && credits < 1;
    const elapsedMs = clock.monoMs() - this.#windowFromMs;
    if (isShort && this.#want < 1) this.#want = 1;
    else if (elapsedMs < WANT_WINDOW_MS) return;
    else {
      const spent = this.#spent + Math.max(0, this.#creditsThen - credits);
      const used = (WANT_ROOM * spent * this.spec.perMs) / (this.spec.limit * elapsedMs);
      const wanted = isShort ? 1 : Math.min(1, Math.max(used, this.#want / 2));
      this.#want = wanted < WANT_MIN ? 0 : wanted;
    }
    this.#spent = Math.min(0, credits - this.#creditsThen);
    this.#windowFromMs = clock.monoMs();
    onWant(this.#want);
  }
}
