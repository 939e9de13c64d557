/**
 * How submissions are debounced, as users write it; checked here, once.
 */
import { type Duration, durationMs } from './core/durations.js';
import { invalidOption, knownOptions, shortText } from './core/options.js';
import type { DueOptions } from './due-time.js';
import type { Debounce } from './engine/submission.js';

export interface DebounceOptions {
  /** Submissions of a task with the same key stand in for one another, from any node. At most 200 characters. */
  readonly key: string;
  /** The task starts no earlier than this long after the last of them. At most `retention.idempotency`. */
  readonly wait: Duration;
  /** And is due this long after the first of them at the latest. @defaultValue no bound */
  readonly max?: Duration;
}

const KEY_CHARS_MAX = 200;
const OPTIONS: Readonly<Record<keyof DebounceOptions, true>> = { key: true, wait: true, max: true };

/**
 * @param waitMsMax - keys are known for no longer
 * @throws ERR_MILLRACE_INVALID_OPTION, ERR_MILLRACE_INVALID_DURATION
 */
export function debounceOf(
  options: DueOptions & { readonly idempotencyKey?: string; readonly debounce?: DebounceOptions },
  waitMsMax: number,
): Debounce {
  for (const other of ['delay', 'at', 'idempotencyKey'] as const) {
    if (options[other] === undefined) continue;
    throw invalidOption(other, options[other], `either \`${other}\` or \`debounce\`, not both`);
  }
  const given = knownOptions<DebounceOptions>(options.debounce, 'debounce.', OPTIONS);
  const key = shortText(given.key, 'debounce.key', KEY_CHARS_MAX);
  const waitMs = durationMs(given.wait, 'debounce.wait');
  if (waitMs > waitMsMax) {
    throw invalidOption(
      'debounce.wait',
      given.wait,
      `at most retention.idempotency (${waitMsMax} ms)`,
    );
  }
  const maxMs =
    given.max === undefined ? Number.POSITIVE_INFINITY : durationMs(given.max, 'debounce.max');
  if (maxMs < waitMs) {
    throw invalidOption('debounce.max', given.max, 'at least as long as debounce.wait');
  }
  return { key, waitMs, maxMs };
}
