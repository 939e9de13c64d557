/**
 * What an operator may do to the tasks of a runtime, whatever node they are on: let them rest, and go on.
 */
import { invalidOption, knownOptions, shortText } from './core/options.js';
import type { Submittable } from './core/task.js';
import type { PauseTarget } from './engine/pauses.js';
import type { Engines } from './engines.js';

/** What rests: exactly one of the three. */
export interface PauseOptions {
  /** A task type: its task, contract or name. */
  readonly task?: Submittable<never, unknown> | string;
  /** All types whose contract names this queue. */
  readonly queue?: string;
  /** Whatever was submitted for this tenant. */
  readonly tenant?: string;
}

/** One thing that rests. */
export interface PausedInfo {
  readonly task?: string;
  readonly queue?: string;
  readonly tenant?: string;
  readonly since: Date;
}

const PAUSE_OPTIONS: Readonly<Record<keyof PauseOptions, true>> = {
  task: true,
  queue: true,
  tenant: true,
};
const NAME_CHARS_MAX = 200;

export class RuntimeControl {
  readonly #engines: Engines;

  constructor(engines: Engines) {
    this.#engines = engines;
  }

  get paused(): readonly PausedInfo[] {
    return this.#engines.stored.pauses.all.map(({ kind, name, sinceMs }) => ({
      [kind]: name,
      since: new Date(sinceMs),
    })) as readonly PausedInfo[];
  }

  pause(target: PauseTarget): Promise<void> {
    return this.#engines.stored.pauses.pause(target);
  }

  resume(target: PauseTarget): Promise<void> {
    return this.#engines.stored.pauses.resume(target);
  }
}

/**
 * @param nameOf - the name of a task type that is known
 * @throws ERR_MILLRACE_INVALID_OPTION
 */
export function pauseTarget(
  given: PauseOptions,
  nameOf: (task: Submittable<never, unknown> | string) => string,
): PauseTarget {
  const { task, queue, tenant } = knownOptions(given ?? {}, '', PAUSE_OPTIONS);
  const count = [task, queue, tenant].filter((one) => one !== undefined).length;
  if (count !== 1) throw invalidOption('target', given, 'one of { task }, { queue }, { tenant }');
  if (task !== undefined) return { kind: 'task', name: nameOf(task) };
  if (queue !== undefined)
    return { kind: 'queue', name: shortText(queue, 'queue', NAME_CHARS_MAX) };
  return { kind: 'tenant', name: shortText(tenant, 'tenant', NAME_CHARS_MAX) };
}
