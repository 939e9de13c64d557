/**
 * What a load is: how many tasks arrive, what each does, what goes wrong meanwhile. Read from the command line, checked once.
 */
import { durationMs } from '../../core/durations.js';
import { invalidOption, oneOf } from '../../core/options.js';
import { sizeBytes } from '../../core/sizes.js';
import { wholeOption } from '../arguments.js';
import type { Arguments } from '../command.js';

/** What the handler of one task does. */
export interface Work {
  /** Keeps its thread busy for so long. */
  readonly cpuUs: number;
  /** Waits so long, with its thread free for others. */
  readonly ioMs: number;
}

export const FAULTS = ['kill', 'pause', 'leader-kill'] as const;
export type Fault = (typeof FAULTS)[number];

/** What all open loads have. */
export interface ArrivalPlan {
  /** Arrivals per second. */
  readonly rate: number;
  readonly seconds: number;
}

export interface TaskLoad extends ArrivalPlan {
  readonly payloadBytes: number;
  /** As it was given: `noop`, `cpu:200`, `io:20`, `mix`. */
  readonly work: string;
  /** Each task is due after a time spread evenly over `[0, delayMs]`. */
  readonly delayMs: number;
  /** Tasks are for so many tenants, in turn; 0: for none. */
  readonly tenants: number;
  /** Processes that run tasks. */
  readonly nodes: number;
  /** Of each node; undefined: one per core. */
  readonly threads: number | undefined;
  readonly faults: readonly Fault[];
  readonly faultEveryMs: number;
}

export interface TimerLoad extends ArrivalPlan {
  readonly delayMs: number;
}

const NOTHING: Work = { cpuUs: 0, ioMs: 0 };
/** What `mix` is made of, by shares of 20 tasks: most do next to nothing, some compute, one waits. */
const MIX: readonly Work[] = [
  ...Array.from({ length: 16 }, () => NOTHING),
  ...Array.from({ length: 3 }, () => ({ cpuUs: 200, ioMs: 0 })),
  { cpuUs: 0, ioMs: 20 },
];
const WORK_FORM = /^(cpu|io):(\d{1,7})$/;
const RATE_MAX = 1_000_000;
const SECONDS_MAX = 604_800;
const PAYLOAD_BYTES_MAX = 250_000;

/** @throws ERR_MILLRACE_INVALID_OPTION, ERR_MILLRACE_INVALID_DURATION */
export function readTaskLoad(args: Arguments): TaskLoad {
  const text = (name: string, otherwise: string): string => args.options.get(name) ?? otherwise;
  const number = (name: string, min: number, max: number, otherwise: number): number =>
    wholeOption(args, name, { min, max }) ?? otherwise;
  const work = text('work', 'noop');
  worksOf(work);
  return {
    ...readArrivals(args, { rate: 1_000 }),
    payloadBytes: readPayload(text('payload', '200')),
    work,
    delayMs: durationMs(spanOf(text('delay', '0')), '--delay'),
    tenants: number('tenants', 0, 100_000, 0),
    nodes: number('nodes', 1, 64, 1),
    threads: wholeOption(args, 'threads', { min: 1, max: 1_024 }),
    faults: text('faults', '')
      .split(',')
      .filter((name) => name !== '')
      .map((name) => oneOf(name as Fault, '--faults', FAULTS)),
    faultEveryMs: Math.max(1_000, durationMs(spanOf(text('fault-every', '30s')), '--fault-every')),
  };
}

/** @throws ERR_MILLRACE_INVALID_OPTION, ERR_MILLRACE_INVALID_DURATION */
export function readTimerLoad(args: Arguments): TimerLoad {
  const delay = spanOf(args.options.get('delay') ?? '10s');
  return { ...readArrivals(args, { rate: 100_000 }), delayMs: durationMs(delay, '--delay') };
}

/** The works that tasks have in turn. @throws ERR_MILLRACE_INVALID_OPTION */
export function worksOf(text: string): readonly Work[] {
  if (text === 'noop') return [NOTHING];
  if (text === 'mix') return MIX;
  const [, kind, amount] = WORK_FORM.exec(text) ?? [];
  if (kind === 'cpu') return [{ cpuUs: Number(amount), ioMs: 0 }];
  if (kind === 'io') return [{ cpuUs: 0, ioMs: Number(amount) }];
  throw invalidOption('--work', text, 'noop, cpu:<microseconds>, io:<milliseconds> or mix');
}

function readArrivals(args: Arguments, byDefault: { readonly rate: number }): ArrivalPlan {
  return {
    rate: wholeOption(args, 'rate', { min: 1, max: RATE_MAX }) ?? byDefault.rate,
    seconds: wholeOption(args, 'seconds', { min: 1, max: SECONDS_MAX }) ?? 60,
  };
}

/** Bytes without a unit, or a size. */
function readPayload(text: string): number {
  const bytes = sizeBytes(/^\d+$/.test(text) ? Number(text) : text, '--payload');
  if (bytes <= PAYLOAD_BYTES_MAX) return bytes;
  throw invalidOption('--payload', text, `at most ${PAYLOAD_BYTES_MAX} bytes`);
}

/** Milliseconds without a unit, or a duration. */
function spanOf(text: string): string | number {
  return /^\d+$/.test(text) ? Number(text) : text;
}
