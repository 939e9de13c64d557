/**
 * What can go wrong between a process and its store, and how often.
 *
 *   fate          the store       the caller hears
 *   ok            applies         the answer
 *   requestLost   nothing         unknown, sooner or later
 *   answerLost    applies         unknown, sooner or later
 *   late          applies, after  unknown, at its deadline: the write of a zombie
 *   refused       nothing         thrown: ERR_MILLRACE_STORE_UNAVAILABLE
 *   full          nothing         thrown: ERR_MILLRACE_STORE_FULL
 *   hang          applies or not  unknown, at its deadline
 *
 * `answerLost` and `late` find the most bugs: whoever treats *unknown* as *did not happen* writes twice, whoever
 * treats it as *happened* loses something. The list follows Temporal's fault injection and etcd's robustness tests.
 */
import { MillraceError } from '../core/errors.js';
import { knownOptions } from '../core/options.js';
import type { Random } from '../core/random.js';

/** What happens to one call. */
export type Fate = 'ok' | 'requestLost' | 'answerLost' | 'late' | 'refused' | 'full' | 'hang';

/** Probabilities from 0 to 1, drawn for every call, and times. What is absent does not happen. */
export interface StoreFaults {
  /** Of transactions and of what concerns leases. */
  readonly requestLost?: number;
  readonly answerLost?: number;
  readonly late?: number;
  readonly refused?: number;
  readonly full?: number;
  readonly hang?: number;
  /** Reads that fail with ERR_MILLRACE_STORE_UNAVAILABLE. */
  readonly readFailed?: number;
  /** Batches of a watch at which its stream is cut; it resumes where it was, if that is not compacted. */
  readonly watchCut?: number;
  /** One way, drawn evenly; milliseconds. @defaultValue none: calls are answered at once */
  readonly latency?: { readonly minMs: number; readonly maxMs: number };
  /** How long after its caller's deadline a `late` transaction may still be applied; ms. @defaultValue 10_000 */
  readonly lateMaxMs?: number;
}

/** How often something was done to a call; a test that wants a fault should see that it had one. */
export type FaultCounts = Record<
  Exclude<Fate, 'ok'> | 'readFailed' | 'watchCut' | 'partition' | 'leaseLost' | 'compaction',
  number
>;

export const NO_FAULTS: StoreFaults = {};

const TXN_FATES = ['requestLost', 'answerLost', 'late', 'refused', 'full', 'hang'] as const;
const PROBABILITIES = [...TXN_FATES, 'readFailed', 'watchCut'] as const;
const KNOWN: Readonly<Record<keyof StoreFaults, true>> = {
  requestLost: true,
  answerLost: true,
  late: true,
  refused: true,
  full: true,
  hang: true,
  readFailed: true,
  watchCut: true,
  latency: true,
  lateMaxMs: true,
};

/** @throws ERR_MILLRACE_INVALID_OPTION */
export function checkFaults(faults: StoreFaults): StoreFaults {
  knownOptions(faults, 'faults.', KNOWN);
  for (const name of PROBABILITIES) {
    const value = faults[name] ?? 0;
    if (!(value >= 0 && value <= 1)) throw badFault(name, value, 'a probability from 0 to 1');
  }
  const { latency, lateMaxMs = 0 } = faults;
  if (latency && !(latency.minMs >= 0 && latency.maxMs >= latency.minMs)) {
    throw badFault('latency', `${latency.minMs} to ${latency.maxMs}`, 'minMs from 0 on, maxMs >=');
  }
  if (!(lateMaxMs >= 0)) throw badFault('lateMaxMs', lateMaxMs, 'milliseconds from 0 on');
  return faults;
}

/** The fate of one transaction. One draw, whatever the faults. */
export function drawFate(random: Random, faults: StoreFaults): Fate {
  let draw = random.float();
  for (const fate of TXN_FATES) {
    draw -= faults[fate] ?? 0;
    if (draw < 0) return fate;
  }
  return 'ok';
}

export function drawMs(random: Random, minMs: number, maxMs: number): number {
  return minMs + random.float() * (maxMs - minMs);
}

function badFault(name: string, value: unknown, expected: string): MillraceError {
  return new MillraceError(
    'ERR_MILLRACE_INVALID_OPTION',
    `faults.${name} is ${String(value)}; give ${expected}`,
    { details: { [name]: value } },
  );
}
