/**
 * Idleness: how long there has been work and a place for it, and nothing was claimed. Either lasts for milliseconds while all is
 * well; both for seconds is a bug or a commit that hangs, and nothing else would say so: there is no error.
 *
 * It has no timer. Whoever asks is told how long it has been since it was first asked in vain: whoever asks
 * every few seconds, as probes do, hears of a stall within that time and a little more.
 */
export class Idleness {
  /** When it was first seen that something could be claimed, monotonic; undefined: it was not, or has been since. */
  #sinceMs: number | undefined;

  /** A commit was cut. @param hasClaimed - whether it claimed something */
  noteClaim(hasClaimed: boolean): void {
    if (hasClaimed) this.#sinceMs = undefined;
  }

  /** @param canClaim - whether there is something to claim, and a place for it */
  stalledMs(canClaim: boolean, nowMs: number): number {
    if (!canClaim) this.#sinceMs = undefined;
    else this.#sinceMs ??= nowMs;
    return this.#sinceMs === undefined ? 0 : nowMs - this.#sinceMs;
  }
}
