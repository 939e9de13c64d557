/**
 * Run times out of a frame of results, read in place: the frame has been checked, and this is done for each.
 */
import { FrameKind, openFrame } from '../core/frame.js';

/** Weight of a frame's mean against the average so far. */
const NEW_SHARE = 0.3;
const RUN_MS_AT = 8;

/**
 * The moving average of run times with one more frame in it.
 *
 * @param averageMs - so far; NaN before the first frame
 */
export function meanRunMs(results: Uint8Array, averageMs: number): number {
  const frame = openFrame(results, FrameKind.RESULTS);
  if (frame.count === 0) return averageMs;
  let sumMs = 0;
  for (let i = 0; i < frame.count; i++) {
    sumMs += frame.view.getFloat64(frame.recordAt(i) + RUN_MS_AT, true);
  }
  const meanMs = sumMs / frame.count;
  return Number.isNaN(averageMs) ? meanMs : averageMs * (1 - NEW_SHARE) + meanMs * NEW_SHARE;
}
