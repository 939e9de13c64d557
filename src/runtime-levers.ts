/** The levers of a runtime: what healing may do to it, done by the parts that can. */
import type { Levers } from './core/levers.js';
import type { Engines } from './engines.js';

export class RuntimeLevers implements Levers {
  readonly #engines: Engines;
  /** Submits with a lower priority are refused; undefined: none is. */
  shedPriority: number | undefined;

  constructor(engines: Engines) {
    this.#engines = engines;
  }

  limitType(type: string, atMost: number | undefined): void {
    this.#engines.limitType(type, atMost ?? Number.POSITIVE_INFINITY);
  }

  shedBelow(priority: number | undefined): void {
    this.shedPriority = priority;
  }

  allowClaimsAhead(isAllowed: boolean): void {
    this.#engines.allowClaimsAhead(isAllowed);
  }
}
