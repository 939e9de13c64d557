/** What users say about traces, and the same checked. */
import { invalidOption, knownOptions, oneOf } from '../core/options.js';

/**
 * How an execution is related to the span its task was submitted in. `link`: a trace of its own that links to it.
 * `parent`: a part of it. `auto`: a part of it where it is the first attempt of a task that was submitted by itself and
 * waited less than a minute; else a link.
 */
export type TraceRelation = 'auto' | 'link' | 'parent';

export interface TracingOptions {
  /** @defaultValue 'auto' */
  readonly relation?: TraceRelation;
  /**
   * Keys of the baggage that may travel with tasks, at most 1 KiB together. They are stored in clear, and handlers can
   * send them on to others. @defaultValue none
   */
  readonly baggage?: readonly string[];
}

export interface ResolvedTracing {
  readonly relation: TraceRelation;
  readonly baggage: readonly string[];
}

const TRACING_OPTIONS: Readonly<Record<keyof TracingOptions, true>> = {
  relation: true,
  baggage: true,
};
/** A token of RFC 9110, which keys of baggage are. */
const KEY_FORM = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$/;

/** @throws ERR_MILLRACE_INVALID_OPTION */
export function resolveTracing(
  options: TracingOptions | boolean | undefined,
): ResolvedTracing | undefined {
  if (options === undefined || options === false) return undefined;
  const { relation = 'auto', baggage = [] } =
    options === true ? {} : knownOptions(options, 'tracing.', TRACING_OPTIONS);
  const isList = Array.isArray(baggage) && baggage.every((key) => KEY_FORM.test(key));
  if (!isList) throw invalidOption('tracing.baggage', baggage, "keys of baggage, such as ['user']");
  return { relation: oneOf(relation, 'tracing.relation', ['auto', 'link', 'parent']), baggage };
}
