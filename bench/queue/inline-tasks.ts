/** Millrace's task of the bench, on the main thread. */
import { defineTask, defineTasks } from '../../src/index.js';
import { Ledger } from './ledger.js';
import type { Item } from './queue.js';

export const noop = defineTask({
  name: 'bench.noop',
  exec: 'inline',
  run: ({ id }: Item) => Ledger.inherited().run(id),
});

export default defineTasks({ noop });
