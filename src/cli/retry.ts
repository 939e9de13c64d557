/** `millrace retry <id ...>`: lets tasks that failed for good run again. */
import { hasCode } from '../core/errors.js';
import type { TaskInspection } from '../engine/inspection.js';
import { waitOf } from './answered.js';
import { type Arguments, ExitCode } from './command.js';
import { AT_ONCE, newTally, printChosen, printTally, redriveSome } from './redriving.js';
import { openControl, openReading, withAccess } from './store-access.js';

export async function run(args: Arguments): Promise<ExitCode> {
  const ids = [...new Set(args.positionals)];
  const isJson = args.options.has('json');
  if (args.options.has('dry-run')) return dryRun(args, ids, isJson);
  const tally = newTally();
  const wait = waitOf(args);
  await withAccess(openControl(args), async ({ control }) => {
    for (let at = 0; at < ids.length; at += AT_ONCE) {
      await redriveSome(control, ids.slice(at, at + AT_ONCE), tally, wait);
    }
  });
  printTally(tally, isJson);
  return tally.gone + tally.ended > 0 ? ExitCode.FAILED : ExitCode.DONE;
}

async function dryRun(args: Arguments, ids: readonly string[], isJson: boolean): Promise<ExitCode> {
  const found: TaskInspection[] = [];
  await withAccess(openReading(args), async ({ control }) => {
    for (const id of ids) {
      try {
        found.push(await control.inspect(id));
      } catch (error) {
        if (!hasCode(error, 'ERR_MILLRACE_TASK_GONE')) throw error;
      }
    }
  });
  printChosen(
    found.filter(({ deadLetter }) => deadLetter),
    isJson,
  );
  const areAllThere = found.length === ids.length;
  return areAllThere ? ExitCode.DONE : ExitCode.FAILED;
}
