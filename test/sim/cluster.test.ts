/**
 * Seeds of several nodes that share a store, in every test run; lone.test.ts has the others. `npm run sim` runs more, test/long
 * puts bugs in and sees them found.
 */
import { test } from 'node:test';
import { expectNoViolation, seedsOf } from './seeds.js';

test('of 300 seeds those with a cluster violate nothing, and reach what they are for', () =>
  expectNoViolation('cluster', seedsOf('cluster', 300), [
    ...['join', 'leave', 'leaseLost', 'compaction'].map((act) => `nemesis ${act}`),
    ...['shard claimed', 'heard that a task is gone', 'fault watchCut'],
    ...['session:fenced', 'session:lifted', 'session:lost', 'shard:released', 'shard:lost'].map(
      (what) => `millrace:${what}`,
    ),
    ...['millrace:commit:broken', 'millrace:watch:relisted', 'millrace:result:stale'],
  ]));
