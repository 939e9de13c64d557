/**
 * Healing: what a runtime does by itself when something is wrong. It watches channels and pulls levers; it knows neither
 * the engine nor the threads.
 *
 *   channels --> rules (breakers, degradation) --> levers
 */
import type { Clock } from '../core/clock.js';
import type { Levers } from '../core/levers.js';
import { BaseService, type Service } from '../core/service.js';
import { TypeBreakers } from './breakers.js';
import { Degradation } from './degradation.js';
import type { ResolvedHealing } from './healing-options.js';

export class Healing extends BaseService {
  readonly #parts: readonly Service[];

  constructor(
    clock: Clock,
    levers: Levers,
    options: ResolvedHealing & { readonly incarnation: string },
  ) {
    super();
    const { incarnation, breaker, watchDelay } = options;
    this.#parts = [
      ...(breaker ? [new TypeBreakers(clock, levers, { ...breaker, incarnation })] : []),
      new Degradation(clock, levers, { incarnation, watchDelay }),
    ];
  }

  protected async onStart(): Promise<void> {
    for (const part of this.#parts) await part.start();
  }

  protected async onStop(): Promise<void> {
    for (const part of this.#parts) await part.stop();
  }
}
