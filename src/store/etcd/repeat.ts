/**
 * Reads, again: a call that changes nothing is repeated while its deadline lasts, with growing pauses; after the
 * first cut at once.
 *
 * Only for calls that change nothing, or that change the same thing however often they are made (compaction to a
 * revision, the end of a lease). A transaction that writes never comes through here.
 */
import { type Clock, sleep } from '../../core/clock.js';
import { isOverload, isWorthRepeating } from './failures.js';
import type { Message } from './protobuf.js';
import { CallFailure, type CallOptions, GrpcStatus, type Transport } from './transport.js';

const PAUSE_MIN_MS = 20;
const PAUSE_MAX_MS = 1_000;
/** An overloaded server is not helped by being asked at once. */
const OVERLOAD_PAUSE_MIN_MS = 200;

/**
 * Calls until there is an answer, a failure that would only repeat itself, or no time left.
 *
 * @param options - `deadlineMs` counts for all tries together
 * @throws CallFailure - the last one
 */
export async function callRepeating(
  transport: Transport,
  clock: Clock,
  method: string,
  request: Message,
  options: CallOptions,
): Promise<Uint8Array> {
  const endsAtMs = clock.monoMs() + options.deadlineMs;
  for (let tries = 1; ; tries++) {
    const deadlineMs = tries === 1 ? options.deadlineMs : endsAtMs - clock.monoMs();
    try {
      return await transport.call(method, request, { ...options, deadlineMs });
    } catch (thrown) {
      if (!(thrown instanceof CallFailure) || !isWorthRepeating(thrown)) throw thrown;
      // A connection that was cut says nothing about the next one, and channels pace their dialling.
      if (tries === 1 && isCut(thrown) && clock.monoMs() < endsAtMs) continue;
      const floorMs = isOverload(thrown) ? OVERLOAD_PAUSE_MIN_MS : PAUSE_MIN_MS;
      const ceilingMs = Math.min(PAUSE_MAX_MS, floorMs * 2 ** (tries - 1));
      // Half fixed, half random: callers that failed together do not come back together.
      const pauseMs = ceilingMs * (0.5 + Math.random() / 2);
      if (clock.monoMs() + pauseMs >= endsAtMs || options.signal?.aborted) throw thrown;
      await sleep(clock, pauseMs);
    }
  }
}

function isCut({ status, isFromServer }: CallFailure): boolean {
  return status === GrpcStatus.UNAVAILABLE && !isFromServer;
}
