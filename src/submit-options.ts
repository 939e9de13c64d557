/**
 * What `submit()` and `submitMany()` take beside task and input.
 */
import type { Duration } from './core/durations.js';
import { knownOptions, shortText, wholeNumber } from './core/options.js';
import type { DebounceOptions } from './debounce-options.js';
import type { DueOptions } from './due-time.js';

export interface SubmitOptions extends DueOptions {
  /** Higher starts first among tasks that are due; -32768 to 32767. @defaultValue 0 */
  readonly priority?: number;
  /** Whom the task is for; at most 200 characters. */
  readonly tenant?: string;
  /** While a task with the same name and key is known, submit gives that one (`created: false`). At most 200 characters. */
  readonly idempotencyKey?: string;
  /**
   * Of the tasks of a queue with the same one, `concurrencyPerKey` of their type run at a time, on all nodes together, in
   * the order in which they became due. At most 200 characters.
   */
  readonly concurrencyKey?: string;
  /** Of several submissions with one key, shortly after one another, the last one runs. Not with `delay`, `at`, `idempotencyKey`. */
  readonly debounce?: DebounceOptions;
  /** Overrides the task's own `ttl`. */
  readonly ttl?: Duration;
  /** Gives up waiting for room in the queue. Once accepted, the task stays; see `handle.cancel()`. */
  readonly signal?: AbortSignal;
}

export interface SubmitManyOptions<Input>
  extends Omit<SubmitOptions, 'idempotencyKey' | 'debounce'> {
  /** The idempotency key of each item: see {@link SubmitOptions.idempotencyKey}. Each is a transaction of its own then. */
  readonly idempotencyKey?: (input: Input, index: number) => string;
}

const NAME_CHARS_MAX = 200;
const SUBMIT_OPTIONS: Readonly<Record<keyof SubmitOptions, true>> = {
  delay: true,
  at: true,
  priority: true,
  tenant: true,
  idempotencyKey: true,
  concurrencyKey: true,
  debounce: true,
  ttl: true,
  signal: true,
};

/**
 * Checks all but times and `debounce`.
 *
 * @returns the priority
 * @throws ERR_MILLRACE_INVALID_OPTION
 */
export function checkSubmitOptions(options: SubmitOptions): number {
  knownOptions(options, '', SUBMIT_OPTIONS);
  const { idempotencyKey, concurrencyKey, tenant } = options;
  if (idempotencyKey !== undefined) idempotencyKeyOf(idempotencyKey);
  if (concurrencyKey !== undefined) shortText(concurrencyKey, 'concurrencyKey', NAME_CHARS_MAX);
  if (tenant !== undefined) shortText(tenant, 'tenant', NAME_CHARS_MAX);
  return wholeNumber(options.priority ?? 0, 'priority', -32_768, 32_767);
}

/** @throws ERR_MILLRACE_INVALID_OPTION */
export function idempotencyKeyOf(key: string): string {
  return shortText(key, 'idempotencyKey', NAME_CHARS_MAX);
}
