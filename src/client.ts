/**
 * A producer: what `createClient` takes, and what it gives. It is a runtime without anything that runs.
 */
import { invalidOption, knownOptions } from './core/options.js';
import { type AnyTask, isTask, type TaskModule } from './core/task.js';
import type { Runtime } from './runtime.js';
import type { RuntimeOptions } from './runtime-options.js';

export interface ClientOptions
  extends Pick<
    RuntimeOptions,
    'store' | 'queue' | 'payload' | 'session' | 'retention' | 'tracing'
  > {
  /** The contracts to submit: a list, an object of them, or what `defineTasks` returned. Handlers are left out. */
  readonly tasks: Iterable<AnyTask> | Readonly<Record<string, AnyTask>> | TaskModule;
}

/** Hands tasks in. Comes from `createClient`. */
export type Client = Pick<
  Runtime,
  | 'tasks'
  | 'locks'
  | 'submit'
  | 'submitMany'
  | 'trySubmit'
  | 'writable'
  | 'handle'
  | 'inspect'
  | 'explain'
  | 'cron'
  | 'crons'
  | 'deadLetters'
  | 'pause'
  | 'resume'
  | 'stats'
  | 'close'
> &
  AsyncDisposable;

const CLIENT_OPTIONS: Readonly<Record<keyof ClientOptions, true>> = {
  tasks: true,
  store: true,
  queue: true,
  payload: true,
  session: true,
  retention: true,
  tracing: true,
};

/** @throws ERR_MILLRACE_INVALID_OPTION */
export function checkClientOptions(
  options: ClientOptions,
): Omit<ClientOptions, 'tasks'> & { readonly tasks: readonly AnyTask[] } {
  if (typeof options !== 'object' || options === null) {
    throw invalidOption('createClient options', options, 'an object with `tasks`');
  }
  knownOptions(options, '', CLIENT_OPTIONS);
  const tasks = listOf(options.tasks);
  const isRight = tasks.length > 0 && tasks.every(isTask);
  if (!isRight) throw invalidOption('tasks', options.tasks, 'contracts that defineTask made');
  for (const { name, spec } of tasks) {
    if (spec.durability !== 'volatile') continue;
    throw invalidOption('tasks', name, 'stored tasks: a volatile one runs where it is submitted');
  }
  return { ...options, tasks };
}

function listOf(tasks: ClientOptions['tasks']): AnyTask[] {
  if (typeof tasks !== 'object' || tasks === null) return [];
  if (Symbol.iterator in tasks) return [...tasks];
  const { tasks: module } = tasks as Partial<TaskModule>;
  const named = module !== undefined && !isTask(module) ? module : tasks;
  return Object.values(named as Record<string, AnyTask>);
}
