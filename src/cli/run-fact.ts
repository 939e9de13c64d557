/**
 * What `millrace run` says of itself.
 */
import { type CommandFact, RUNTIME_OPTIONS } from './command.js';

export const RUN: CommandFact = {
  name: 'run',
  summary: 'Run your own tasks over your own input.',
  usage: '<tasks module>',
  positionalsMin: 1,
  positionalsMax: 1,
  options: [
    {
      name: 'input',
      value: '- | file.ndjson | glob',
      doc: "What to run over; default '-' (standard input).",
    },
    { name: 'task', value: 'name', doc: 'Which task, when the module has more than one.' },
    ...RUNTIME_OPTIONS,
    { name: 'json', doc: 'Print progress and summary (standard error) as JSON lines.' },
  ],
  notes: `
The tasks module is JavaScript whose default export is defineTasks({ ... }).

Input:
  -             NDJSON on standard input: each line is the input of one task
  file.ndjson   the same from a file (also .jsonl)
  glob          one task per matching file, with the input { "path": ... };
                quote it: 'logs/**/*.{log,txt}'

Results are NDJSON on standard output, in the order in which tasks end:
  {"line":7,"id":"...","status":"completed","value":...}
  {"line":8,"id":"...","status":"failed","error":{"code":...,"message":...}}
A line that does not parse is such a failure too; the others go on. For a glob
there is "path" instead of "line".`,
};
