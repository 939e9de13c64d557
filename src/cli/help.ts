/**
 * The help texts, laid out from the facts that commands give of themselves, in at most 80 columns.
 */
import { COMMON_OPTIONS, type CommandFact, type OptionFact } from './command.js';

/** The help of the whole command line. */
export function generalHelp(commands: readonly CommandFact[]): string {
  const width = Math.max(...commands.map(({ name, usage }) => name.length + usage.length + 1));
  const list = commands.map(
    ({ name, usage, summary }) => `  ${`${name} ${usage}`.padEnd(width)}   ${summary}`,
  );
  return [
    'Usage: millrace <command> [options]',
    '',
    'A task runtime: tasks are kept in a store and run on worker threads.',
    '',
    ...list,
    '',
    "'millrace <command> --help' tells more; 'millrace --version' tells the version.",
    '',
    'Exit codes: 0 done, 1 tasks failed for good, 2 usage, 3 store, 130 interrupted.',
    '',
  ].join('\n');
}

/** The help of one command. */
export function commandHelp(command: CommandFact): string {
  const options = [...command.options, ...COMMON_OPTIONS];
  return [
    `Usage: millrace ${command.name} ${command.usage} [options]`,
    '',
    command.summary,
    '',
    'Options:',
    ...options.flatMap((option) => [
      `  --${option.name}${shownValue(option)}`,
      `      ${option.doc}`,
    ]),
    '',
    command.notes.trim(),
    '',
  ].join('\n');
}

function shownValue({ value, isValueOptional }: OptionFact): string {
  if (value === undefined) return '';
  const shown = `<${value.replaceAll(/[<>]/g, '')}>`;
  return isValueOptional ? ` [${shown}]` : ` ${shown}`;
}
