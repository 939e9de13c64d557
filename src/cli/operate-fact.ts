/**
 * What `millrace ls`, `show`, `why`, `cancel`, `retry`, `redrive` and `top` take, and what their help says.
 */
import { type CommandFact, type OptionFact, STORE_OPTIONS } from './command.js';

const JSON_OPTION: OptionFact = { name: 'json', doc: 'Print one JSON object instead of text.' };

const DRY_RUN_OPTION: OptionFact = { name: 'dry-run', doc: 'Say which, and do nothing.' };
const WAIT_OPTION: OptionFact = {
  name: 'wait',
  value: 'seconds',
  doc: 'For the nodes that hold the tasks; default 30.',
};

/** Which tasks. */
const FILTER_OPTIONS: readonly OptionFact[] = [
  { name: 'task', value: 'name', doc: 'Tasks of this type.' },
  { name: 'tenant', value: 'name', doc: 'Tasks for this tenant.' },
  { name: 'queue', value: 'name', doc: 'Tasks of this queue.' },
];

const REACH = `
A store that is in use is reached over the socket of the process that has it;
any other folder, and etcd, is opened directly.
`;

export const LS: CommandFact = {
  name: 'ls',
  summary: 'List tasks.',
  usage: '',
  positionalsMin: 0,
  positionalsMax: 0,
  options: [
    {
      name: 'state',
      value: 'pending | running | completed | failed | cancelled | expired',
      doc: 'Tasks in this state.',
    },
    ...FILTER_OPTIONS,
    { name: 'limit', value: 'N', doc: 'At most so many; default 50, at most 1000.' },
    { name: 'after', value: 'text', doc: 'Go on there: what the page before ended with.' },
    JSON_OPTION,
    ...STORE_OPTIONS,
  ],
  notes: `
Tasks come by state, queue and due time. What has completed is listed as long as
its retention lasts; its task and tenant are known while a task that was stored
with it is open.
${REACH}`,
};

export const SHOW: CommandFact = {
  name: 'show',
  summary: 'Show what the store has of one task.',
  usage: '<id>',
  positionalsMin: 1,
  positionalsMax: 1,
  options: [JSON_OPTION, ...STORE_OPTIONS],
  notes: REACH,
};

export const WHY: CommandFact = {
  name: 'why',
  summary: 'Say why a task is not running.',
  usage: '<id>',
  positionalsMin: 1,
  positionalsMax: 1,
  options: [JSON_OPTION, ...STORE_OPTIONS],
  notes: `
The process that holds the task knows most. On etcd its store is read, which
tells who that is and how busy it is.
${REACH}`,
};

export const CANCEL: CommandFact = {
  name: 'cancel',
  summary: 'Cancel tasks, by id or by filter.',
  usage: '[id ...]',
  positionalsMin: 0,
  positionalsMax: 1_000,
  options: [
    ...FILTER_OPTIONS,
    { name: 'reason', value: 'text', doc: 'What their errors say.' },
    DRY_RUN_OPTION,
    WAIT_OPTION,
    JSON_OPTION,
    ...STORE_OPTIONS,
  ],
  notes: `
Without ids, a filter says which: every pending and running task that it
fits. A pending task ends at once. A running one has its signal aborted
and decides itself. One that has ended stays as it is.
${REACH}`,
};

export const RETRY: CommandFact = {
  name: 'retry',
  summary: 'Let tasks that failed for good run again, by id.',
  usage: '<id ...>',
  positionalsMin: 1,
  positionalsMax: 1_000,
  options: [DRY_RUN_OPTION, WAIT_OPTION, JSON_OPTION, ...STORE_OPTIONS],
  notes: `
Each keeps its id and input, and has its attempts anew. One that waits or
runs already stays as it is, and so does one that has ended in another way.
${REACH}`,
};

export const REDRIVE: CommandFact = {
  name: 'redrive',
  summary: 'Let all tasks that failed for good run again, by filter.',
  usage: '',
  positionalsMin: 0,
  positionalsMax: 0,
  options: [
    ...FILTER_OPTIONS,
    {
      name: 'error',
      value: 'text',
      doc: 'Tasks whose error, or its code or cause, has this text.',
    },
    { name: 'all', doc: 'All of them, in place of a filter.' },
    { name: 'limit', value: 'N', doc: 'At most so many; default no limit.' },
    DRY_RUN_OPTION,
    WAIT_OPTION,
    JSON_OPTION,
    ...STORE_OPTIONS,
  ],
  notes: `
As retry does with single ones. What fails during the command may be missed.
${REACH}`,
};

export const TOP: CommandFact = {
  name: 'top',
  summary: 'Watch the nodes and their work.',
  usage: '',
  positionalsMin: 0,
  positionalsMax: 0,
  options: [
    { name: 'every', value: 'seconds', doc: 'From one look to the next; default 2.' },
    { name: 'json', doc: 'Print one look as a JSON object, and end.' },
    ...STORE_OPTIONS,
  ],
  notes: `
On a terminal it goes on until q or Ctrl-C; elsewhere it prints one look.
${REACH}`,
};
