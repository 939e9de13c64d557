/**
 * Seeds of one process on a store of its own, in every test run; cluster.test.ts has the others. `npm run sim` runs more,
 * test/long puts bugs in and sees them found.
 */
import { test } from 'node:test';
import { expectNoViolation, seedsOf } from './seeds.js';

test('of 300 seeds those with one process violate nothing, and reach what they are for', () =>
  expectNoViolation('lone', seedsOf('lone', 300), [
    ...['usurp', 'restart'].map((act) => `nemesis ${act}`),
    ...['lane taken over', 'fenced'],
  ]));
