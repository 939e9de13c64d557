/** `millrace redrive`: lets all tasks that failed for good, and fit a filter, run again. */
import type { Reading } from '../admin/control.js';
import type { TaskInspection } from '../engine/inspection.js';
import { waitOf } from './answered.js';
import { usage, wholeOption } from './arguments.js';
import { type Arguments, ExitCode } from './command.js';
import { hasFilter, tasksThatFit } from './filter-options.js';
import { REDRIVE } from './operate-fact.js';
import { AT_ONCE, newTally, printChosen, printTally, redriveSome } from './redriving.js';
import { openControl, openReading, withAccess } from './store-access.js';

export async function run(args: Arguments): Promise<ExitCode> {
  const isFiltered = hasFilter(args) || args.options.has('error');
  if (isFiltered === args.options.has('all')) {
    throw usage(
      REDRIVE,
      'redrive takes either a filter (--task, --tenant, --queue, --error) or --all',
    );
  }
  const isJson = args.options.has('json');
  if (args.options.has('dry-run')) {
    const tasks = await withAccess(openReading(args), async ({ control }) => {
      const all: TaskInspection[] = [];
      for await (const some of chosen(control, args)) all.push(...some);
      return all;
    });
    printChosen(tasks, isJson);
    return ExitCode.DONE;
  }
  const tally = newTally();
  const wait = waitOf(args);
  await withAccess(openControl(args), async ({ control }) => {
    for await (const some of chosen(control, args)) {
      await redriveSome(
        control,
        some.map(({ id }) => id),
        tally,
        wait,
      );
    }
  });
  printTally(tally, isJson);
  return ExitCode.DONE;
}

/** Those that are meant, some at a time. */
async function* chosen(
  control: Reading,
  args: Arguments,
): AsyncGenerator<readonly TaskInspection[]> {
  let left =
    wholeOption(args, 'limit', { min: 1, max: Number.MAX_SAFE_INTEGER }) ??
    Number.POSITIVE_INFINITY;
  const text = args.options.get('error');
  const filter = new Map(args.options);
  // Ours is of all, and that of a page another.
  filter.delete('limit');
  const pages = tasksThatFit(
    control,
    { ...args, options: filter },
    { status: 'failed', perPage: AT_ONCE },
  );
  for await (const page of pages) {
    const some = page
      .filter(({ deadLetter, error }) => deadLetter && (text === undefined || says(error, text)))
      .slice(0, left);
    if (some.length > 0) yield some;
    left -= some.length;
    if (left === 0) return;
  }
}

/** Whether the chain of an error that was stored has a text in a message or code. */
function says(error: unknown, text: string): boolean {
  if (typeof error !== 'object' || error === null) return false;
  const { message, code, cause } = error as Readonly<Record<string, unknown>>;
  return [message, code].some((part) => String(part ?? '').includes(text)) || says(cause, text);
}
