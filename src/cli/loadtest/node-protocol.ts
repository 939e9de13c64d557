/** What a load test and the processes that run its tasks say to one another. */
import type { VitalFacts } from './process-vitals.js';

/** The only argument of such a process, as JSON. */
export interface NodeAssignment {
  /** Options of the command line that say which store it is. */
  readonly options: readonly (readonly [name: string, value: string])[];
  readonly threads: number | undefined;
}

export type ToNode =
  | { readonly kind: 'begin'; readonly startMs: number }
  /** Close, and end. */
  | { readonly kind: 'stop' };

export type FromNode =
  | { readonly kind: 'ready' }
  | { readonly kind: 'facts'; readonly facts: VitalFacts };
