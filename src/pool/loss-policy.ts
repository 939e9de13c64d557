/**
 * What becomes of a task that had begun, and not ended, when its thread died.
 *
 * A thread takes everything on it along, so one bad handler touches tasks that did nothing wrong. Whoever has not
 * begun simply runs again. For the others the question is who did it:
 *
 *   why the thread ended             begun on it   this task                     verdict
 *   a task overran and was killed    1             it is the one                 blame: it fails with a timeout
 *   a task overran and was killed    several       any of them                   alone: again, by itself
 *   a task overran and was killed    any           began as the other one ended  again
 *   it died (exit, uncaught, memory) any           first loss                    again
 *                                                  second                        alone
 *                                                  third                         lost: it fails
 *   the pool shuts down              any           any                           lost
 *
 * A killing says which thread hung, not which of its overlapping handlers: they are suspects, nothing is counted
 * against them, and each runs again with nobody beside it. Only who is killed alone is blamed. A death says less
 * still (the exception may come from a timer that a task long ended had left), so it is counted, and only the third
 * one is final. A task that must run alone stays so.
 */
import { hasCode, type MillraceError } from '../core/errors.js';
import type { LossReason } from './sent-batch.js';

/** What is held against a task. Belongs to the task, whoever runs it. */
export interface LossRecord {
  /** Threads that died under it. */
  losses: number;
  /** It runs with nothing beside it from now on. */
  mustBeAlone: boolean;
}

export interface Death {
  readonly reason: LossReason;
  /** Tasks in the thread that had begun and not ended, over all of its batches. */
  readonly begun: number;
}

export type Verdict = 'again' | 'blame' | 'lost';

/** The native task table has this number too, since it reads losses out of the store: kLossesBeforeAlone. */
const LOSSES_BEFORE_ALONE = 2;
export const LOSSES_MAX = 3;

/**
 * Judges one task that had begun, and writes into its record.
 *
 * @param isOverdue - whether the task's own time was over
 * @param onLost - `fail`: a death is final at once, for tasks that must not run twice
 */
export function judge(
  record: LossRecord,
  { reason, begun }: Death,
  { isOverdue, onLost }: { readonly isOverdue: boolean; readonly onLost: 'retry' | 'fail' },
): Verdict {
  if (reason === 'shutdown') return 'lost';
  if (reason === 'timeout') {
    if (begun === 1 && isOverdue) return 'blame';
    if (onLost === 'fail') return isOverdue ? 'blame' : 'lost';
    if (begun > 1) record.mustBeAlone = true;
    return 'again';
  }
  record.losses++;
  if (onLost === 'fail' || record.losses >= LOSSES_MAX) return 'lost';
  if (record.losses >= LOSSES_BEFORE_ALONE) record.mustBeAlone = true;
  return 'again';
}

/** How the thread died, if that is what ended the batch. */
export function deathOf(loss: MillraceError | undefined): Death | undefined {
  if (!hasCode(loss, 'ERR_MILLRACE_TASK_LOST')) return undefined;
  const { reason, begun } = loss.details as { reason: LossReason; begun?: number };
  return { reason, begun: begun ?? 1 };
}
