/**
 * Which tasks a command is about, as options: `--state`, `--task`, `--tenant`, `--queue`.
 */
import type { ListRequest, Reading } from '../admin/control.js';
import { listRequest } from '../admin/control-api.js';
import type { TaskStatus } from '../core/states.js';
import type { TaskInspection } from '../engine/inspection.js';
import { wholeOption } from './arguments.js';
import type { Arguments } from './command.js';

const LIMIT_MAX = 1_000;

/** @throws ERR_MILLRACE_INVALID_OPTION for what is no filter */
export function requestOf(args: Arguments): ListRequest {
  const text = (name: string): object => {
    const value = args.options.get(name);
    return value === undefined ? {} : { [name === 'state' ? 'status' : name]: value };
  };
  return listRequest({
    ...text('state'),
    ...text('task'),
    ...text('tenant'),
    ...text('queue'),
    ...text('after'),
    limit: wholeOption(args, 'limit', { min: 1, max: LIMIT_MAX }) ?? 50,
  });
}

/** All tasks that fit the options, in this state; a page at a time, none of them empty. */
export async function* tasksThatFit(
  control: Reading,
  args: Arguments,
  { status, perPage }: { readonly status: TaskStatus; readonly perPage: number },
): AsyncGenerator<readonly TaskInspection[]> {
  const request = { ...requestOf(args), status, limit: perPage };
  let after: string | undefined;
  do {
    const page = await control.list({ ...request, ...(after !== undefined && { after }) });
    if (page.tasks.length > 0) yield page.tasks;
    after = page.next;
  } while (after !== undefined);
}

/** Whether the options say which tasks at all. */
export function hasFilter({ options }: Arguments): boolean {
  return ['state', 'task', 'tenant', 'queue'].some((name) => options.has(name));
}

/** Pages until one has as many tasks as were asked for: a page may be short, or empty, and not the last. */
export async function fullPage(
  control: Reading,
  request: ListRequest,
): Promise<{ readonly tasks: readonly TaskInspection[]; readonly next: string | undefined }> {
  const tasks: TaskInspection[] = [];
  let { after } = request;
  do {
    const limit = request.limit - tasks.length;
    const page = await control.list({ ...request, limit, ...(after !== undefined && { after }) });
    tasks.push(...page.tasks);
    after = page.next;
  } while (after !== undefined && tasks.length < request.limit);
  return { tasks, next: after };
}
