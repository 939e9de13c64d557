/**
 * Millrace's task of the bench with what a shared service switches on: bounds that are never reached, so that only what it costs to keep
 * to them counts.
 */
import { defineTask, defineTasks } from '../../src/index.js';
import { Ledger } from './ledger.js';
import type { Item } from './queue.js';

export const featured = defineTask({
  name: 'bench.featured',
  exec: 'inline',
  concurrency: 100_000,
  rate: { limit: 1_000_000, per: '1s', by: 'tenant' },
  run: ({ id }: Item) => Ledger.inherited().run(id),
});

export default defineTasks({ featured });
