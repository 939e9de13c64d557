/**
 * `--wait`: what is asked of the nodes that hold tasks is answered by them, and waits in the store while there are none.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { MillraceError } from '../core/errors.js';
import { wholeOption } from './arguments.js';
import type { Arguments } from './command.js';

const SECONDS_DEFAULT = 30;
const SECONDS_MAX = 86_400;

/** @returns seconds @throws ERR_MILLRACE_INVALID_OPTION */
export function waitOf(args: Arguments): number {
  return wholeOption(args, 'wait', { min: 1, max: SECONDS_MAX }) ?? SECONDS_DEFAULT;
}

/** @throws ERR_MILLRACE_STORE_UNAVAILABLE when there is no answer in time; what was asked may still be done */
export async function answered<T>(seconds: number, answer: Promise<T>): Promise<T> {
  const stop = new AbortController();
  const late = delay(seconds * 1_000, undefined, { signal: stop.signal }).then(() => {
    throw new MillraceError(
      'ERR_MILLRACE_STORE_UNAVAILABLE',
      `no node that holds the tasks answered within ${seconds} s; what was asked stays in the store and is done when one is there: start one, or give more time with --wait`,
      { details: { seconds } },
    );
  });
  try {
    return await Promise.race([answer, late]);
  } finally {
    stop.abort();
    late.catch(() => {});
  }
}
