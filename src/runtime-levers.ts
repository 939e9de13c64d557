/** The levers of a runtime: what healing may do to it, done by the parts that can. */
import type { Levers } from './core/levers.js';
import type { Engine } from './engine/engine.js';

export class RuntimeLevers implements Levers {
  readonly #engine: Engine;
  /** Submits with a lower priority are refused; undefined: none is. */
  shedPriority: number | undefined;

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  limitType(type: string, atMost: number | undefined): void {
    this.#engine.limitType(type, atMost ?? Number.POSITIVE_INFINITY);
  }

  shedBelow(priority: number | undefined): void {
    this.shedPriority = priority;
  }

  allowClaimsAhead(isAllowed: boolean): void {
    this.#engine.allowClaimsAhead(isAllowed);
  }
}
