/**
 * `millrace cancel`: ends tasks, by id or by filter. With a filter the tasks are listed first, and then cancelled: what is
 * submitted meanwhile may be missed.
 */
import type { Control, Reading } from '../admin/control.js';
import { hasCode, MillraceError } from '../core/errors.js';
import type { TaskInspection } from '../engine/inspection.js';
import { answered, waitOf } from './answered.js';
import { type Arguments, ExitCode } from './command.js';
import { hasFilter, tasksThatFit } from './filter-options.js';
import { openControl, openReading, withAccess } from './store-access.js';
import { taskLines } from './task-table.js';
import { plural } from './units.js';

const OPEN = ['pending', 'running'] as const;
/** Letters and commits are shared by what is asked for together. */
const AT_ONCE = 64;

interface Tally {
  cancelled: number;
  signalled: number;
  ended: number;
  gone: number;
}

export async function run(args: Arguments): Promise<ExitCode> {
  const ids = args.positionals;
  if (ids.length > 0 === hasFilter(args)) {
    throw new MillraceError(
      'ERR_MILLRACE_INVALID_OPTION',
      'cancel takes either ids or a filter: --task, --tenant, --queue',
    );
  }
  if (args.options.has('dry-run')) return dryRun(args, ids);
  const reason = args.options.get('reason');
  const tally: Tally = { cancelled: 0, signalled: 0, ended: 0, gone: 0 };
  const wait = waitOf(args);
  await withAccess(openControl(args), async ({ control }) => {
    for await (const some of chosen(control, args, ids)) {
      await answered(
        wait,
        Promise.all(some.map((id) => cancelOne(control, id, { reason, tally }))),
      );
    }
  });
  if (args.options.has('json')) process.stdout.write(`${JSON.stringify(tally)}\n`);
  else {
    const { cancelled, signalled, ended, gone } = tally;
    process.stdout.write(
      `${plural(cancelled, 'task')} cancelled, ${signalled} running and asked to end, ${ended} had ended, ${gone} unknown\n`,
    );
  }
  return tally.gone > 0 ? ExitCode.FAILED : ExitCode.DONE;
}

async function dryRun(args: Arguments, ids: readonly string[]): Promise<ExitCode> {
  const tasks: TaskInspection[] = [];
  await withAccess(openReading(args), async ({ control }) => {
    for await (const some of chosen(control, args, ids)) {
      tasks.push(...(await Promise.all(some.map((id) => control.inspect(id)))));
    }
  });
  if (args.options.has('json')) process.stdout.write(`${JSON.stringify({ tasks })}\n`);
  else {
    process.stdout.write(taskLines(tasks, Date.now()));
    process.stderr.write(`${plural(tasks.length, 'task')} would be cancelled\n`);
  }
  return ExitCode.DONE;
}

/** The ids, some at a time. */
async function* chosen(
  control: Reading,
  args: Arguments,
  ids: readonly string[],
): AsyncGenerator<readonly string[]> {
  for (let at = 0; at < ids.length; at += AT_ONCE) yield ids.slice(at, at + AT_ONCE);
  if (ids.length > 0) return;
  for (const status of OPEN) {
    for await (const tasks of tasksThatFit(control, args, { status, perPage: AT_ONCE })) {
      yield tasks.map(({ id }) => id);
    }
  }
}

async function cancelOne(
  control: Control,
  id: string,
  { reason, tally }: { readonly reason: string | undefined; readonly tally: Tally },
): Promise<void> {
  try {
    tally[await control.cancel(id, reason)]++;
  } catch (error) {
    if (!hasCode(error, 'ERR_MILLRACE_TASK_GONE')) throw error;
    tally.gone++;
  }
}
