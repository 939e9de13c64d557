/**
 * What `millrace doctor` takes, and what its help says.
 */
import { type CommandFact, STORE_OPTIONS } from './command.js';

export const DOCTOR: CommandFact = {
  name: 'doctor',
  summary: 'Look for what is wrong with this machine and the store.',
  usage: '',
  positionalsMin: 0,
  positionalsMax: 0,
  options: [{ name: 'json', doc: 'Print one JSON object: { level, findings }.' }, ...STORE_OPTIONS],
  notes: `
Versions, the native core, limits, how late timers are, the store's round trip,
disk or quota, servers with known bugs, clocks of the nodes, dead letters.
It takes a second and changes nothing.

Each line is ok, warn or fail. The exit code is 1 when one is fail, and 3 when
the store cannot be reached.
`,
};
