/**
 * Types that users see, inferred and not annotated. The compiler proves them; what is left to run is one check that
 * the hand-written schema does what its types say.
 */
import assert from 'node:assert/strict';
import type { WritableStream } from 'node:stream/web';
import { test } from 'node:test';
import type { StandardSchemaV1 } from '@standard-schema/spec';
import { expectTypeOf } from 'expect-type';
import {
  type BatchItem,
  type BatchTask,
  type Children,
  type Client,
  type Concurrency,
  defineTask,
  defineTasks,
  type ExecutionContext,
  type Runtime,
  type Task,
  type TaskContract,
  type TaskHandle,
  type Timeout,
} from '../../src/index.js';

interface Order {
  readonly id: string;
  readonly items: readonly number[];
}

/** A Standard Schema with nothing behind it: what zod, valibot and arktype give, in its smallest form. */
const orderSchema: StandardSchemaV1<unknown, Order> = {
  '~standard': {
    version: 1,
    vendor: 'by-hand',
    validate(value) {
      const { id, items } = (value ?? {}) as Partial<Order>;
      if (typeof id !== 'string') return { issues: [{ message: 'id is no text', path: ['id'] }] };
      if (!Array.isArray(items)) return { issues: [{ message: 'items are no list' }] };
      return { value: { id, items } };
    },
  },
};

/** One that makes something else of what it takes. */
const dateSchema: StandardSchemaV1<string, Date> = {
  '~standard': {
    version: 1,
    vendor: 'by-hand',
    validate: (value) => ({ value: new Date(String(value)) }),
  },
};

const parsing = defineTask({
  name: 'year',
  input: dateSchema,
  run(date) {
    expectTypeOf(date).toEqualTypeOf<Date>();
    return date.getUTCFullYear();
  },
});

const fromSchema = defineTask({
  name: 'order.sum',
  input: orderSchema,
  run(order, ctx) {
    expectTypeOf(order).toEqualTypeOf<Order>();
    expectTypeOf(ctx).toEqualTypeOf<ExecutionContext>();
    return order.items.reduce((sum, item) => sum + item, 0);
  },
});

const fromParameter = defineTask({
  name: 'shout',
  async run(text: string) {
    return { text: text.toUpperCase() };
  },
});

const withOutcomes = defineTask({
  name: 'patient',
  async run(attempt: number, ctx) {
    if (attempt < 1) return ctx.snooze('1m');
    if (attempt > 9) return ctx.cancel('enough');
    return 'done' as const;
  },
});

const together = defineTask({
  name: 'together',
  async runBatch(items: readonly BatchItem<string>[], { signal }) {
    expectTypeOf(signal).toEqualTypeOf<AbortSignal>();
    return items.map((item) => {
      if (item.input === '') return new Error('nothing');
      return item.execution.attempt > 3 ? item.cancel() : item.input.length;
    });
  },
});

const withoutInput = defineTask({ name: 'tick', run: () => undefined });

const fromContract = defineTask<Order, Uint8Array>({ name: 'order.print' }).implement({
  run: (order) => {
    expectTypeOf(order).toEqualTypeOf<Order>();
    return new Uint8Array(order.items.length);
  },
});

test('a task infers its input from its schema, or from the parameter of its handler', () => {
  expectTypeOf(fromSchema).toEqualTypeOf<Task<Order, number>>();
  expectTypeOf(fromParameter).toEqualTypeOf<Task<string, { text: string }>>();
  expectTypeOf(fromContract).toEqualTypeOf<Task<Order, Uint8Array>>();
  expectTypeOf(fromContract).toExtend<TaskContract<Order, Uint8Array>>();
});

test('a schema that makes something else of what it takes: the one is submitted, the other handled', () => {
  expectTypeOf(parsing).toEqualTypeOf<Task<string, number, Date>>();
  const together = defineTask({
    name: 'years',
    input: dateSchema,
    runBatch: (items) => items.map(({ input }) => input.getUTCFullYear()),
  });
  expectTypeOf(together).toEqualTypeOf<BatchTask<string, number, Date>>();
  const contract = defineTask({ name: 'month', input: dateSchema });
  expectTypeOf(contract).toEqualTypeOf<TaskContract<string, unknown, Date>>();
  contract.implement({ run: (date) => date.getUTCMonth() });
  // Checked by the compiler and never called.
  const use = async (runtime: Runtime): Promise<void> => {
    const handle = await runtime.submit(parsing, '2026-01-01');
    expectTypeOf(await handle.result()).toEqualTypeOf<number>();
    await runtime.submitMany(parsing, ['2026-01-01']);
    await runtime.cron('nightly', '0 3 * * *', parsing, '2026-01-01');
    expectTypeOf(runtime.writable(parsing)).toEqualTypeOf<WritableStream<string>>();
    for await (const letter of runtime.deadLetters(parsing)) {
      expectTypeOf(letter.input).toEqualTypeOf<string>();
    }
    // @ts-expect-error: what the handler gets is not what is submitted
    await runtime.submit(parsing, new Date());
  };
  assert.equal(typeof use, 'function');
});

test('snoozing, cancelling and the errors of items are no results', () => {
  expectTypeOf(withOutcomes).toEqualTypeOf<Task<number, 'done'>>();
  expectTypeOf(together).toEqualTypeOf<BatchTask<string, number>>();
});

test('submit takes the input of the task, and its handle gives the output', () => {
  // Checked by the compiler and never called.
  const use = async (runtime: Runtime): Promise<void> => {
    const handle = await runtime.submit(fromSchema, { id: 'a', items: [1, 2] });
    expectTypeOf(handle).toEqualTypeOf<TaskHandle<number>>();
    expectTypeOf(await handle.result()).toEqualTypeOf<number>();
    expectTypeOf(await (await runtime.submit(fromParameter, 'x')).result()).toEqualTypeOf<{
      text: string;
    }>();
    expectTypeOf(await (await runtime.submit(withOutcomes, 1)).result()).toEqualTypeOf<'done'>();
    expectTypeOf(await (await runtime.submit(withoutInput, 0)).result()).toEqualTypeOf<undefined>();
    expectTypeOf(runtime.handle(fromSchema, 'id')).toEqualTypeOf<TaskHandle<number>>();
    // By name nothing is known.
    expectTypeOf(await runtime.submit('order.sum', { any: 'thing' })).toEqualTypeOf<
      TaskHandle<unknown>
    >();

    const settled = await handle.settled();
    if (settled.status === 'completed') expectTypeOf(settled.value).toEqualTypeOf<number>();
    else expectTypeOf(settled.error).toEqualTypeOf<Error>();

    // @ts-expect-error: an input without what the schema asks for
    await runtime.submit(fromSchema, { id: 'a' });
    // @ts-expect-error: an input that the handler does not take
    await runtime.submit(fromParameter, 5);
  };
  assert.equal(typeof use, 'function');
});

test('a contract without a handler types its producers, and the handler that is written elsewhere', () => {
  const contract = defineTask<Order, { readonly total: number }>({ name: 'order.total' });
  expectTypeOf(contract).toEqualTypeOf<TaskContract<Order, { readonly total: number }>>();
  const withSchema = defineTask({ name: 'order.check', input: orderSchema });
  expectTypeOf(withSchema).toEqualTypeOf<TaskContract<Order, unknown>>();
  // Checked by the compiler and never called.
  const use = async (client: Client): Promise<void> => {
    const handle = await client.submit(contract, { id: 'a', items: [1] });
    expectTypeOf(await handle.result()).toEqualTypeOf<{ readonly total: number }>();
    await client.submit(withSchema, { id: 'a', items: [1] });
    // @ts-expect-error: not what the schema gives
    await client.submit(withSchema, { id: 5 });
    withSchema.implement({
      run: (order) => {
        expectTypeOf(order).toEqualTypeOf<Order>();
      },
    });
  };
  assert.equal(typeof use, 'function');
});

test('whatever takes many inputs takes those of the task, and gives its outputs', () => {
  // Checked by the compiler and never called.
  const use = async (runtime: Runtime): Promise<void> => {
    const orders: AsyncIterable<Order> = (async function* () {})();
    const many = await runtime.submitMany(fromSchema, orders, {
      idempotencyKey: (order) => order.id,
    });
    for await (const end of many.results()) {
      if (end.status === 'completed') expectTypeOf(end.value).toEqualTypeOf<number>();
    }
    expectTypeOf(runtime.writable(fromSchema)).toEqualTypeOf<WritableStream<Order>>();
    expectTypeOf(await runtime.trySubmit(fromSchema, { id: 'a', items: [] })).toEqualTypeOf<
      TaskHandle<number> | undefined
    >();
    for await (const letter of runtime.deadLetters(fromSchema)) {
      expectTypeOf(letter.input).toEqualTypeOf<Order>();
    }
    await runtime.cron('nightly', '0 3 * * *', fromParameter, 'text');
    // @ts-expect-error: texts are no orders
    await runtime.submitMany(fromSchema, ['a']);
    // @ts-expect-error: nor is a number a text
    await runtime.cron('nightly', '0 3 * * *', fromParameter, 5);
  };
  assert.equal(typeof use, 'function');
});

test('children have the types of their tasks, and what joins them has them as well', () => {
  const parent = defineTask({
    name: 'parent',
    async run(texts: readonly string[], ctx) {
      const child = await ctx.submit(fromSchema, { id: 'a', items: [] });
      expectTypeOf(await child.result()).toEqualTypeOf<number>();
      const children = await ctx.submitMany(fromParameter, texts);
      expectTypeOf(children).toEqualTypeOf<Children<{ text: string }>>();
      expectTypeOf(await children.results()).toEqualTypeOf<{ text: string }[]>();
      const joining = await children.join(withOutcomes, 1);
      expectTypeOf(await joining.result()).toEqualTypeOf<'done'>();
      for (const end of await ctx.joined<number>()) {
        if (end.status === 'completed') expectTypeOf(end.value).toEqualTypeOf<number>();
      }
      // @ts-expect-error: a number is no text
      await ctx.submitMany(fromParameter, [1]);
      // @ts-expect-error: the joining task takes a number
      await children.join(withOutcomes, 'text');
    },
  });
  expectTypeOf(parent).toEqualTypeOf<Task<readonly string[], void>>();
});

test('a timeout is a word, a duration, or both in parts', () => {
  for (const timeout of [
    'adaptive',
    '30s',
    250,
    { adaptive: 3, min: '1s', max: '5m', grace: 100 },
  ] as const) {
    expectTypeOf(timeout).toExtend<Timeout>();
    assert.equal(defineTask({ name: 'a', timeout, run: () => 1 }).name, 'a');
  }
});

test('a concurrency is a number, a word, or bounds', () => {
  for (const concurrency of [8, 'adaptive', {}, { min: 2 }, { min: 2, max: 40 }] as const) {
    expectTypeOf(concurrency).toExtend<Concurrency>();
    assert.equal(defineTask({ name: 'a', concurrency, run: () => 1 }).name, 'a');
  }
});

test('a handler that does not fit the schema or the contract is an error', () => {
  // Checked by the compiler and never called.
  const use = (): void => {
    // @ts-expect-error: the schema gives an Order
    defineTask({ name: 'a', input: orderSchema, run: (text: string) => text });
    // @ts-expect-error: the contract promises a Uint8Array
    defineTask<Order, Uint8Array>({ name: 'a' }).implement({ run: () => 'text' });
    // @ts-expect-error: no such option
    defineTask({ name: 'a', retries: 3, run: () => 1 });
    // @ts-expect-error: no such unit
    defineTask({ name: 'a', ttl: '5 minutes', run: () => 1 });
    // @ts-expect-error: neither a number nor adaptive
    defineTask({ name: 'a', concurrency: 'many', run: () => 1 });
    // @ts-expect-error: no such bound
    defineTask({ name: 'a', concurrency: { start: 5 }, run: () => 1 });
    // @ts-expect-error: neither a duration nor adaptive
    defineTask({ name: 'a', timeout: 'soon', run: () => 1 });
    // @ts-expect-error: no such part of a timeout
    defineTask({ name: 'a', timeout: { limit: '5s' }, run: () => 1 });
  };
  assert.equal(typeof use, 'function');
});

test('defineTasks keeps the type of each task', () => {
  const { tasks } = defineTasks({ fromSchema, fromParameter });
  expectTypeOf(tasks.fromSchema).toEqualTypeOf<Task<Order, number>>();
  expectTypeOf(tasks.fromParameter).toEqualTypeOf<Task<string, { text: string }>>();
});

test('the schema is what its types say', async () => {
  const { validate } = orderSchema['~standard'];
  assert.deepEqual(await validate({ id: 'a', items: [1] }), { value: { id: 'a', items: [1] } });
  assert.ok((await validate({ id: 5 })).issues);
  assert.ok((await validate(null)).issues);
});
