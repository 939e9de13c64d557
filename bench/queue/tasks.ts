/** Millrace's task of the bench, for worker threads. */
import { defineTask, defineTasks } from '../../src/index.js';
import { Ledger } from './ledger.js';
import type { Item } from './queue.js';

export const noop = defineTask({
  name: 'bench.noop',
  run({ id }: Item) {
    Ledger.inherited().runInThread(id);
  },
});

export default defineTasks({ noop });
