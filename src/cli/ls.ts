/** `millrace ls`: a page of tasks. */
import { type Arguments, ExitCode } from './command.js';
import { fullPage, requestOf } from './filter-options.js';
import { openReading, withAccess } from './store-access.js';
import { taskLines } from './task-table.js';

export async function run(args: Arguments): Promise<ExitCode> {
  const request = requestOf(args);
  const page = await withAccess(openReading(args), ({ control }) => fullPage(control, request));
  if (args.options.has('json')) {
    process.stdout.write(`${JSON.stringify(page)}\n`);
    return ExitCode.DONE;
  }
  process.stdout.write(taskLines(page.tasks, Date.now()));
  if (page.tasks.length === 0) process.stderr.write('no such tasks\n');
  if (page.next !== undefined) process.stderr.write(`there are more: --after '${page.next}'\n`);
  return ExitCode.DONE;
}
