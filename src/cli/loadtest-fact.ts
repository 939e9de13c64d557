/**
 * What `millrace loadtest` says of itself.
 */
import { type CommandFact, STORE_OPTIONS } from './command.js';

export const LOADTEST: CommandFact = {
  name: 'loadtest',
  summary: 'Put a steady load on one mechanism and report it.',
  usage: 'locks',
  positionalsMin: 1,
  positionalsMax: 1,
  options: [
    ...STORE_OPTIONS,
    { name: 'rate', value: 'N', doc: 'Locks asked for per second; default 500.' },
    { name: 'seconds', value: 'N', doc: 'How long each contender runs; default 60.' },
    { name: 'shards', value: 'N', doc: 'Over how many shards; default 64.' },
    { name: 'sessions', value: 'N', doc: 'Processes to play, each with its own lease; default 4.' },
    { name: 'hold', value: 'ms', doc: 'How long each lock is held; default 2.' },
    { name: 'json', doc: 'Print the report as one JSON object instead of a table.' },
  ],
  notes: `
Locks are asked for at a steady rate, whether or not earlier ones were granted,
over random shards of one name. Two contenders run one after the other:

  millrace   session with renewal, a line per shard, hand-off
  naive      one polled key for all shards, on a lease nobody renews

  acquire    from asking to holding, of the locks that were granted
  timeouts   not granted within 3 s
  deadlocks  of these, locks that nobody held during the whole wait
  leaked     keys left behind 5 s after everybody had released`,
};
