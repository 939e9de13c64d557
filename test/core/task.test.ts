import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import type { StandardSchemaV1 } from '@standard-schema/spec';
import { hasCode, isMillraceError } from '../../src/core/errors.js';
import {
  type AnyTask,
  defineTask,
  defineTasks,
  isTask,
  tasksByName,
  tasksOfModule,
} from '../../src/core/task.js';

const schema: StandardSchemaV1<unknown, string> = {
  '~standard': {
    version: 1,
    vendor: 'test',
    validate: (value) =>
      typeof value === 'string' ? { value } : { issues: [{ message: 'not text' }] },
  },
};

const run = (): number => 1;

/** As a JavaScript caller would: nothing is checked before the code runs. */
const define = defineTask as unknown as (options: unknown) => AnyTask;

test('a task has every default filled in', () => {
  assert.deepEqual(defineTask({ name: 'a', run }).spec, {
    name: 'a',
    version: 1,
    schema: undefined,
    exec: 'thread',
    queue: 'default',
    concurrency: Number.POSITIVE_INFINITY,
    adaptiveConcurrency: undefined,
    concurrencyPerKey: 1,
    rate: undefined,
    retry: { attempts: 3, backoff: 'exponential', minMs: 500, maxMs: 300_000, jitter: 'full' },
    ttlMs: Number.POSITIVE_INFINITY,
    timeout: undefined,
    onLost: 'retry',
    durability: 'stored',
    isBatched: false,
  });
});

test('a task keeps what was given', () => {
  const task = defineTask({
    name: 'billing:invoice/send.v2_x-1',
    version: 7,
    input: schema,
    exec: 'inline',
    queue: 'slow',
    concurrency: 8,
    concurrencyPerKey: 2,
    rate: { limit: 5, per: '1s', by: 'tenant' },
    retry: { attempts: 5, backoff: 'linear', min: '1s', max: '1h', jitter: 'none' },
    ttl: '10m',
    timeout: { adaptive: 4, min: '2s', max: '1m', grace: 50 },
    onLost: 'fail',
    durability: 'volatile',
    run,
  });
  assert.equal(task.name, task.spec.name);
  assert.equal(task.run, run);
  assert.deepEqual(task.spec, {
    name: 'billing:invoice/send.v2_x-1',
    version: 7,
    schema,
    exec: 'inline',
    queue: 'slow',
    concurrency: 8,
    adaptiveConcurrency: undefined,
    concurrencyPerKey: 2,
    rate: { limit: 5, perMs: 1_000, by: 'tenant', burst: 5 },
    retry: { attempts: 5, backoff: 'linear', minMs: 1_000, maxMs: 3_600_000, jitter: 'none' },
    ttlMs: 600_000,
    timeout: { factor: 4, minMs: 2_000, maxMs: 60_000, graceMs: 50 },
    onLost: 'fail',
    durability: 'volatile',
    isBatched: false,
  });
});

test('an adaptive concurrency is a word, or its bounds', () => {
  for (const [concurrency, max, min] of [
    ['adaptive', 200, 1],
    [{}, 200, 1],
    [{ min: 3 }, 200, 3],
    [{ max: 1_000 }, 1_000, 1],
    [{ min: 7, max: 7 }, 7, 7],
  ] as const) {
    const { spec } = defineTask({ name: 'a', concurrency, run });
    assert.equal(spec.concurrency, max);
    assert.deepEqual(spec.adaptiveConcurrency, { min, max });
  }
});

test('a retry delay never starts above its bound', () => {
  const { retry } = defineTask({ name: 'a', retry: { min: '10m' }, run }).spec;
  assert.deepEqual([retry.minMs, retry.maxMs], [600_000, 600_000]);
});

test('a name that cannot be one is refused', () => {
  const longest = 'x'.repeat(200);
  assert.equal(define({ name: longest }).name, longest);
  const junk = ['', '.a', '-a', 'a b', 'ä', 'a\n', 'a?', `${longest}x`, 5, null, undefined, {}];
  for (const name of [...junk, Object.create(null)]) {
    assert.throws(
      () => define({ name, run }),
      (error) => hasCode(error, 'ERR_MILLRACE_INVALID_OPTION') && error.details.option === 'name',
    );
  }
});

test('options that are no object are refused', () => {
  for (const options of [undefined, null, 'name', 5]) {
    assert.throws(() => define(options), { code: 'ERR_MILLRACE_INVALID_OPTION' });
  }
});

const JUNK: Readonly<Record<string, readonly unknown[]>> = {
  version: [0, -1, 1.5, '1', 2 ** 32, null],
  input: [null, 'string', {}, { '~standard': {} }, () => {}],
  exec: ['Thread', 'process', 1, null],
  queue: ['', 'Upper', 'a/b', 'x'.repeat(64), 5, null],
  concurrency: [0, -1, 1.5, '8', Infinity, 1_000_001, null, 'Adaptive', [], true, NaN],
  'concurrency.min': [0, 1.5, 201, '3', null],
  'concurrency.max': [0, 1.5, 1_000_001, Infinity, '3'],
  retry: [null, 3, 'never', true],
  'retry.attempts': [0, 1.5, '3', Infinity, 65_536, null],
  'retry.backoff': ['constant', 2, null],
  'retry.min': [-1, '5', 'soon', Infinity, null],
  'retry.max': [-1, '5', 'soon', Infinity, null],
  'retry.jitter': [true, 'half', null],
  ttl: [-1, '10', 'never', Infinity, 1e300, null],
  timeout: [0, -1, '10', 'never', Infinity, true],
  onLost: ['ignore', false, null],
  run: ['run', {}, null],
};

for (const [option, values] of Object.entries(JUNK)) {
  test(`an unusable \`${option}\` is refused with its name and the task's`, () => {
    const [field, inner] = option.split('.') as [string, string | undefined];
    for (const value of values) {
      // `null` stands for "not given" where ?? fills in a default; there it is no mistake.
      if (value === null && !['input', 'ttl', 'concurrency', 'retry', 'run'].includes(option))
        continue;
      const options = {
        name: 'mail',
        run,
        [field]: inner === undefined ? value : { [inner]: value },
      };
      assert.throws(
        () => define(options),
        (error) =>
          isMillraceError(error) &&
          /INVALID_(OPTION|DURATION)$/.test(error.code) &&
          error.message.startsWith(`task 'mail': ${option} is `),
        `${option}: ${String(value)}`,
      );
    }
  });
}

test('a schema that is a function is a schema', () => {
  const callable = Object.assign(() => {}, schema);
  assert.equal(define({ name: 'a', input: callable }).spec.schema, callable);
});

test('a contract is completed by its implementation, and stays as it was', () => {
  const contract = defineTask<{ n: number }, number>({ name: 'double', ttl: '1m' });
  assert.equal(contract.run, undefined);
  const handler = ({ n }: { n: number }): number => n * 2;
  const task = contract.implement({ run: handler });
  assert.ok(isTask(task));
  assert.equal(task.run, handler);
  assert.equal(task.spec, contract.spec);
  assert.equal(contract.run, undefined);
});

test('an implementation without a handler is refused', () => {
  const contract = defineTask({ name: 'double' }) as { implement(options: unknown): AnyTask };
  for (const implementation of [undefined, null, {}, { run: 'x' }, run]) {
    assert.throws(
      () => contract.implement(implementation),
      (error) =>
        hasCode(error, 'ERR_MILLRACE_INVALID_OPTION') &&
        error.details.option === "task 'double': run",
    );
  }
});

test('tasks are told from everything else', () => {
  assert.ok(isTask(defineTask({ name: 'a', run })));
  assert.ok(isTask(defineTask({ name: 'a' })));
  const others = [null, undefined, 'a', run, {}, { name: 'a', spec: {}, run }, defineTasks({})];
  for (const other of others) assert.ok(!isTask(other));
});

test('two tasks of one name are refused; one task under two names is not', () => {
  const a = defineTask({ name: 'a', run });
  assert.deepEqual([...tasksByName([a, a]).values()], [a]);
  assert.throws(() => defineTasks({ one: a, two: defineTask({ name: 'a', run }) }), {
    code: 'ERR_MILLRACE_INVALID_OPTION',
    message: /'a'/,
    details: { name: 'a' },
  });
});

test('defineTasks takes tasks only', () => {
  for (const other of [{}, null, run]) {
    const tasks = { other } as unknown as Record<string, AnyTask>;
    assert.throws(() => defineTasks(tasks), { code: 'ERR_MILLRACE_INVALID_OPTION' });
  }
});

const CORE = new URL('../../src/core/task.js', import.meta.url);

/** Writes a module that has `defineTask` and `defineTasks`, and imports it. */
async function load(t: TestContext, file: string, body: string): Promise<string[]> {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-task-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, file);
  const head = file.endsWith('.cjs')
    ? `const { defineTask, defineTasks } = require(${JSON.stringify(CORE.pathname)});`
    : `import { defineTask, defineTasks } from ${JSON.stringify(CORE.href)};`;
  const make =
    'const run = () => 1; const a = defineTask({ name: "a", run }), b = defineTask({ name: "b", run });';
  writeFileSync(path, `${head}\n${make}\n${body}\n`);
  const module = (await import(pathToFileURL(path).href)) as Record<string, unknown>;
  return [...tasksOfModule(module, path).keys()].sort();
}

const MODULES: readonly [string, string, string][] = [
  ['defineTasks as default export', 'tasks.mjs', 'export default defineTasks({ a, b });'],
  ['named exports', 'tasks.mjs', 'export { a, b }; export const other = 5;'],
  ['default and named exports', 'tasks.mjs', 'export { a }; export default defineTasks({ a, b });'],
  ['tasks beside a default that is none', 'tasks.mjs', 'export { a, b }; export default 5;'],
  ['an object of tasks as default export', 'tasks.mjs', 'export default { a, b };'],
  ['CommonJS, defineTasks', 'tasks.cjs', 'module.exports = defineTasks({ a, b });'],
  ['CommonJS, an object of tasks', 'tasks.cjs', 'module.exports = { a, b };'],
  [
    'CommonJS, names that only show at run time',
    'tasks.cjs',
    'for (const [name, task] of Object.entries({ a, b })) module.exports[name] = task;',
  ],
  [
    'CommonJS made from an ES module',
    'tasks.cjs',
    'Object.defineProperty(exports, "__esModule", { value: true }); exports.default = defineTasks({ a, b });',
  ],
];

for (const [what, file, body] of MODULES) {
  test(`a tasks module may be: ${what}`, async (t) => {
    assert.deepEqual(await load(t, file, body), ['a', 'b']);
  });
}

test('a tasks module with no task says where and what it exports', async (t) => {
  const bodies: readonly [string, string][] = [
    ['tasks.mjs', ''],
    ['tasks.mjs', 'export const five = 5; export default null;'],
    ['tasks.mjs', 'export default defineTasks({});'],
    ['tasks.mjs', 'export default { tasks: 5 };'],
    ['tasks.cjs', 'module.exports = run;'],
    ['tasks.cjs', 'module.exports = null;'],
  ];
  for (const [file, body] of bodies) {
    await assert.rejects(
      load(t, file, body),
      (error) =>
        hasCode(error, 'ERR_MILLRACE_TASKS_MODULE') &&
        error.message.includes(String(error.details.location)) &&
        Array.isArray(error.details.exports),
      body,
    );
  }
});

test('an option that does not exist is refused with the one that was probably meant', () => {
  for (const [options, message] of [
    [{ concurency: 2 }, /no option task 'a': concurency; did you mean task 'a': concurrency\?/],
    [{ retry: { attempt: 2 } }, /no option task 'a': retry.attempt; did you mean .*attempts\?/],
    [{ retry: 5 }, /task 'a': retry is 5; give an object with attempts, backoff/],
  ] as const) {
    const refused = { code: 'ERR_MILLRACE_INVALID_OPTION', message };
    assert.throws(() => define({ name: 'a', run, ...options }), refused);
  }
});
