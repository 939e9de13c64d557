import assert from 'node:assert/strict';
import { test } from 'node:test';
import { defineTasks } from '../src/core/task.js';
import { type RuntimeOptions, resolveOptions } from '../src/runtime-options.js';

const tasks = defineTasks({});

/** As a JavaScript caller would. */
function resolve(options: object): ReturnType<typeof resolveOptions> {
  return resolveOptions({ tasks, ...options } as RuntimeOptions);
}

test('threads: a minimum, a maximum, or what the machine runs at once', () => {
  assert.deepEqual(resolve({}).threads, { min: 1, max: 'auto' });
  assert.deepEqual(resolve({ threads: { min: 2, max: 3 } }).threads, { min: 2, max: 3 });
  for (const threads of [{ max: 0 }, { min: 3, max: 2 }, { max: 'all' }, { max: 1_025 }, 4]) {
    assert.throws(() => resolve({ threads }), { code: 'ERR_MILLRACE_INVALID_OPTION' });
  }
});

test('a rate of the runtime is checked as that of a task is, by its own name', () => {
  assert.equal(resolve({}).rate, undefined);
  assert.deepEqual(resolve({ rate: { limit: 10, per: '1s', by: 'tenant' } }).rate, {
    limit: 10,
    perMs: 1_000,
    by: 'tenant',
    burst: 10,
  });
  assert.throws(() => resolve({ rate: { limit: 0, per: '1s' } }), /rate.limit is 0/);
});

test('weights of tenants: positive numbers by name', () => {
  assert.equal(resolve({}).weights.size, 0);
  const { weights } = resolve({ fairness: { weights: { free: 1, pro: 4 } } });
  assert.deepEqual(
    [...weights],
    [
      ['free', 1],
      ['pro', 4],
    ],
  );
  for (const [fairness, message] of [
    [
      { weights: { free: 0 } },
      /fairness.weights.free is 0; give a number from 0.000001 to 1000000/,
    ],
    [{ weights: { free: '4' } }, /fairness.weights.free is '4'/],
    [{ weights: { free: Number.NaN } }, /fairness.weights.free is NaN/],
    [{ weights: { ['x'.repeat(201)]: 1 } }, /give tenants of 1 to 200 characters/],
    [{ weights: [1, 2] }, /give weights by tenant/],
    [{ weight: { free: 1 } }, /did you mean fairness.weights\?/],
  ] as const) {
    assert.throws(() => resolve({ fairness }), { code: 'ERR_MILLRACE_INVALID_OPTION', message });
  }
});

test('the options that the reference shows together are accepted together', () => {
  const { retention, shutdown, threads, queue } = resolve({
    threads: { min: 1, max: 'auto' },
    queue: { maxTasks: 1_000_000, maxBytes: '1GB', onFull: 'wait' },
    fairness: { weights: { free: 1, pro: 4 } },
    retention: {
      completed: { age: '1h', bytes: '256MB' },
      failed: { age: '7d', bytes: '256MB' },
    },
    shutdown: { soft: '20s', hard: '25s' },
  });
  const byDefault = resolve({});
  assert.deepEqual(
    { retention, shutdown, threads, queue },
    {
      retention: byDefault.retention,
      shutdown: byDefault.shutdown,
      threads: byDefault.threads,
      queue: byDefault.queue,
    },
  );
});

test('switches: those that exist, and no others', () => {
  assert.deepEqual([...resolve({}).off], []);
  assert.deepEqual([...resolve({ experimental: { off: ['batching'] } }).off], ['batching']);
  for (const [off, message] of [
    [['batch'], /experimental.off is 'batch'; give 'batching' or /],
    ['batching', /experimental.off is 'batching'; give a list/],
  ] as const) {
    assert.throws(() => resolve({ experimental: { off } }), {
      code: 'ERR_MILLRACE_INVALID_OPTION',
      message,
    });
  }
});

test('an option that does not exist is refused, on every level', () => {
  for (const [options, message] of [
    [{ thread: { max: 1 } }, /no option thread; did you mean threads\?/],
    [{ threads: { maximum: 1 } }, /no option threads.maximum; known are min, max/],
    [{ queue: { maxTask: 1 } }, /did you mean queue.maxTasks\?/],
    [{ payload: { bytes: 1 } }, /no option payload.bytes/],
    [{ retention: { complete: {} } }, /did you mean retention.completed\?/],
    [{ retention: { completed: { ages: 1 } } }, /did you mean retention.completed.age\?/],
    [{ retention: { failed: { aged: 1 } } }, /did you mean retention.failed.age\?/],
    [{ shutdown: { soften: 1 } }, /no option shutdown.soften/],
    [{ queue: 5 }, /queue is 5; give an object with maxTasks/],
  ] as const) {
    assert.throws(() => resolve(options), { code: 'ERR_MILLRACE_INVALID_OPTION', message });
  }
});
