import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Fifo } from '../../src/core/fifo.js';

type Step = { readonly push: number } | { readonly shift: number } | 'takeAll';

test('a queue does what an array does', () => {
  // Runs of steps long enough to pass the point where the spent half is dropped.
  const step: fc.Arbitrary<Step> = fc.oneof(
    { weight: 6, arbitrary: fc.record({ push: fc.nat(1_500) }) },
    { weight: 6, arbitrary: fc.record({ shift: fc.nat(1_500) }) },
    { weight: 1, arbitrary: fc.constant('takeAll' as const) },
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
      const queue = new Fifo<number>();
      let model: number[] = [];
      let next = 0;
      for (const todo of steps) {
        if (todo === 'takeAll') {
          assert.deepEqual(queue.takeAll(), model);
          model = [];
        } else if ('push' in todo) {
          for (let i = 0; i < todo.push; i++) {
            queue.push(next);
            model.push(next++);
          }
        } else {
          for (let i = 0; i < todo.shift; i++) assert.equal(queue.shift(), model[i]);
          model = model.slice(todo.shift);
        }
        assert.equal(queue.length, model.length);
        assert.equal(queue.peek(), model[0]);
      }
    }),
    { numRuns: 200 },
  );
});

test('an empty queue gives undefined, and goes on working', () => {
  const queue = new Fifo<string>();
  assert.equal(queue.shift(), undefined);
  assert.equal(queue.peek(), undefined);
  assert.deepEqual(queue.takeAll(), []);
  assert.equal(queue.length, 0);
  queue.push('a');
  assert.equal(queue.shift(), 'a');
  assert.equal(queue.shift(), undefined);
});

test('shift stays cheap at any length', () => {
  const queue = new Fifo<number>();
  const count = 300_000;
  for (let i = 0; i < count; i++) queue.push(i);
  const startedAt = process.hrtime.bigint();
  for (let i = 0; i < count; i++) queue.shift();
  const elapsedMs = Number(process.hrtime.bigint() - startedAt) / 1e6;
  // About 5 ms here; moving every element each time takes tens of seconds.
  assert.ok(elapsedMs < 2_000, `${elapsedMs} ms`);
});
