/** What the parts of the bench are told. */
import type { JsonObject } from '../lib/bench.js';

export interface ScaleSettings extends JsonObject {
  readonly scale: number;
  readonly pending: readonly number[];
  readonly nodes: readonly number[];
  readonly payloadBytes: number;
  readonly inFlight: number;
  readonly warmUpMs: number;
  readonly measureMs: number;
}
