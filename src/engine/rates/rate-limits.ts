/**
 * All rates that hold on this node: those of its task types, of the tenants of a type, and of the tenants of all types.
 *
 * An engine without rates has none of this. With them, tasks cost no JavaScript and no store operation either: the table
 * counts what is claimed (rate-limit.ts), and nodes that share a store agree on shares of each rate (budget.ts). Of a rate by
 * task the shares follow what each node has use for; of a rate by tenant they are the same for all nodes that run it.
 */
import type { Members } from '../../coordination/members.js';
import type { Session } from '../../coordination/session.js';
import { type Clock, instantOf } from '../../core/clock.js';
import type { Random } from '../../core/random.js';
import type { RateSpec } from '../../core/rate.js';
import { BaseService } from '../../core/service.js';
import type { Store } from '../../core/store.js';
import type { TaskTable, TypeId } from '../../timing/task-table.js';
import { rateKey } from '../keys.js';
import type { TaskTypes } from '../task-types.js';
import type { Budget } from './budget.js';
import { Budgets } from './budgets.js';
import { RateLimit, type RateScope } from './rate-limit.js';

export interface RatePorts {
  readonly clock: Clock;
  readonly random: Random;
  readonly store: Store;
  readonly table: TaskTable;
  readonly types: TaskTypes;
  /** Absent: nobody shares the store. */
  readonly cluster?: { readonly session: Session; readonly members: Members };
  /** There may be something to claim. */
  onRefilled(): void;
}

/** Why a task has to wait. */
export interface RateWait {
  readonly spec: RateSpec;
  /** Undefined: this node has no share of the rate yet. */
  readonly inMs: number | undefined;
}

export class RateLimits extends BaseService {
  readonly #ports: RatePorts;
  readonly #limits: RateLimit[] = [];
  readonly #budgets: Budgets | undefined;

  /**
   * @param rate - of the runtime: of each type that has none of its own, or of each tenant
   * @returns undefined: there are none
   */
  static of(ports: RatePorts, rate: RateSpec | undefined): RateLimits | undefined {
    const limits = new RateLimits(ports, rate);
    return limits.#limits.length > 0 ? limits : undefined;
  }

  private constructor(ports: RatePorts, rate: RateSpec | undefined) {
    super();
    this.#ports = ports;
    this.#budgets = ports.cluster && new Budgets({ ...ports, ...ports.cluster });
    const ofTenants = rate?.by === 'tenant' ? rate : undefined;
    const ofTypes = rate?.by === 'task' ? rate : undefined;
    if (ofTenants) this.#add(ofTenants, { type: undefined, isOfTenants: true }, '');
    for (const [type, { name, rate: own }] of ports.types.all()) {
      const spec = own ?? ofTypes;
      if (spec !== undefined) this.#add(spec, { type, isOfTenants: spec.by === 'tenant' }, name);
    }
    if (this.#limits.length > 0) this.#shutUnshared();
  }

  /** Something was claimed, or has turned due. */
  look(): void {
    for (const limit of this.#limits) limit.look();
  }

  /** What holds a due task up; undefined: no rate does. */
  waitOf(type: TypeId, tenant: string): RateWait | undefined {
    for (const limit of this.#limits) {
      const isOfIt = limit.scope.type === undefined || limit.scope.type === type;
      if (!isOfIt || !limit.isSpent(tenant)) continue;
      return { spec: limit.spec, inMs: limit.msUntilNext(tenant) };
    }
    return undefined;
  }

  protected async onStart(): Promise<void> {
    if (this.#budgets !== undefined) return this.#budgets.start();
    for (const limit of this.#limits) limit.grant(1, true);
    this.#shutUnshared();
  }

  protected async onStop(): Promise<void> {
    for (const limit of this.#limits) limit.close();
    await this.#budgets?.stop();
  }

  /** @param name - of the task type */
  #add(spec: RateSpec, scope: RateScope, name: string): void {
    const { clock, table, onRefilled } = this.#ports;
    let budget: Budget | undefined;
    const onWant = (part: number): void => budget?.want(part);
    const limit = new RateLimit(spec, scope, { clock, table, onRefilled, onWant });
    this.#limits.push(limit);
    const kind = scope.type === undefined ? 'tenants' : spec.by;
    budget = this.#budgets?.add(
      rateKey(kind, name),
      scope.isOfTenants ? 1 : 0,
      (share, isFirst) => {
        limit.grant(share, isFirst);
        this.#shutUnshared();
      },
    );
  }

  /** A tenant that has spent nothing has credits, whatever the share: so types stand still where there is none. */
  #shutUnshared(): void {
    const { clock, types } = this.#ports;
    const without = this.#limits.filter(({ scope, share }) => scope.isOfTenants && share === 0);
    const shut = new Set(without.map(({ scope }) => scope.type));
    types.rest('unshared', (_, type) => shut.has(undefined) || shut.has(type), instantOf(clock));
  }
}
