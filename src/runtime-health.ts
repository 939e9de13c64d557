/**
 * Whether a runtime works, and whether it takes tasks now.
 */
import type { Compactor } from './coordination/compactor.js';
import type { Engines } from './engines.js';
import type { Health } from './observation.js';

/** Work that is ready, and threads that are idle, for so long are a stall. */
const STALL_MS = 5_000;

export interface RuntimeState {
  readonly stage: 'starting' | 'started' | 'closing';
  readonly engines: Engines;
  /** Undefined: the store has no quota. */
  readonly compactor: Pick<Compactor, 'pressure'> | undefined;
}

export function healthOf({ stage, engines, compactor }: RuntimeState): Health {
  const reasons: string[] = [];
  const { notTaking } = engines.stored;
  if (stage === 'closing') reasons.push('it is closing');
  else if (stage === 'starting') reasons.push('it is starting');
  else if (notTaking) reasons.push(notTaking.cause.message);
  if (compactor?.pressure === 'refuse') reasons.push('the store is full');
  const { stalledMs } = engines;
  if (stalledMs >= STALL_MS) reasons.push(stalled(stalledMs, engines.stats.ready));
  // One that closes does its work until it is done.
  const live = stage === 'closing' || notTaking?.isFinal !== true;
  return { live, ready: reasons.length === 0, reasons };
}

function stalled(stalledMs: number, ready: number): string {
  const what =
    ready === 1
      ? '1 task is ready and there is a place for it'
      : `${ready} tasks are ready and there is a place for them`;
  return `${what}, and nothing was claimed for ${Math.round(stalledMs / 1_000)} s`;
}
