/** `millrace show <id>`: what the store has of one task. */
import { type Arguments, ExitCode } from './command.js';
import { openReading, withAccess } from './store-access.js';
import { taskFacts } from './task-table.js';

export async function run(args: Arguments): Promise<ExitCode> {
  const [id] = args.positionals;
  const task = await withAccess(openReading(args), ({ control }) => control.inspect(id!));
  const text = args.options.has('json') ? `${JSON.stringify(task)}\n` : taskFacts(task, Date.now());
  process.stdout.write(text);
  return ExitCode.DONE;
}
