/** `millrace why <id>`: why a task is not running. */
import { type Arguments, ExitCode } from './command.js';
import { openReading, withAccess } from './store-access.js';

export async function run(args: Arguments): Promise<ExitCode> {
  const [id] = args.positionals;
  const why = await withAccess(openReading(args), ({ control }) => control.explain(id!));
  const text = args.options.has('json') ? JSON.stringify(why) : `${why.reason}: ${why.message}`;
  process.stdout.write(`${text}\n`);
  return ExitCode.DONE;
}
