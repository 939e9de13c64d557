/**
 * What `millrace demo` says of itself.
 */
import { type CommandFact, RUNTIME_OPTIONS } from './command.js';

export const DEMO: CommandFact = {
  name: 'demo',
  summary: 'Fingerprint every file below a folder, one task per file.',
  usage: '[folder]',
  positionalsMin: 0,
  positionalsMax: 1,
  options: [
    ...RUNTIME_OPTIONS,
    { name: 'json', doc: 'Print the summary as one JSON object instead of a table.' },
  ],
  notes: `
Each file becomes a task: SHA-256 and gzip size, on worker threads. Some tasks
are delayed, some fail at their first attempt and are retried; which ones, the
file's path decides. Without a folder it takes the node_modules of millrace's
own repository when run there, else the current folder.

A file is known by path, size and modification time for 30 days: a second run
finds it done. Ctrl-C lets running tasks finish (a second one exits at once);
after that, or after kill -9, the same command goes on where it stopped.`,
};
