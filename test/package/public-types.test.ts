/** The public face: which names each subpath exports, and the types that users see. The types fail the build. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { expectTypeOf } from 'expect-type';
import * as coordination from '../../src/create-coordination.js';
import * as metadata from '../../src/create-metadata.js';
import * as millrace from '../../src/index.js';
import * as pool from '../../src/pool/index.js';
import * as etcd from '../../src/store/etcd/index.js';
import * as testing from '../../src/testing/index.js';
import * as timing from '../../src/timing/index.js';

test('each subpath exports what is documented, and no more', () => {
  // A name added here is a promise: it stays through every 1.x.
  assert.deepEqual(Object.keys(millrace).sort(), [
    'MillraceError',
    'NonRetryableError',
    'createClient',
    'createRuntime',
    'defineTask',
    'defineTasks',
    'fileStore',
    'isMillraceError',
    'memoryStore',
  ]);
  assert.deepEqual(Object.keys(coordination).sort(), ['createCoordination']);
  assert.deepEqual(Object.keys(metadata).sort(), ['createMetadata', 'kafkaBus']);
  assert.deepEqual(Object.keys(etcd).sort(), ['etcdStore']);
  assert.deepEqual(Object.keys(pool).sort(), ['BatchPool']);
  assert.deepEqual(Object.keys(testing).sort(), [
    'VirtualClock',
    'cluster',
    'simStore',
    'testRuntime',
  ]);
  assert.deepEqual(Object.keys(timing).sort(), ['ReadyQueue', 'TimerQueue', 'createTimers']);
});

test('the input and the result of a task carry through to whoever submits it', () => {
  const double = millrace.defineTask({
    name: 'double',
    run: async (input: { readonly n: number }, ctx) => {
      expectTypeOf(ctx.signal).toEqualTypeOf<AbortSignal>();
      return input.n * 2;
    },
  });
  const contract = millrace.defineTask<{ path: string }, Uint8Array>({ name: 'fingerprint' });

  // Checked by the compiler and never called.
  const use = async (runtime: millrace.Runtime): Promise<void> => {
    const handle = await runtime.submit(double, { n: 21 }, { delay: '5s', priority: 1 });
    expectTypeOf(handle.id).toExtend<string>();
    expectTypeOf(handle.created).toEqualTypeOf<boolean>();
    expectTypeOf(await handle.result({ timeout: '30s' })).toEqualTypeOf<number>();
    const settled = await handle.settled();
    if (settled.status === 'completed') expectTypeOf(settled.value).toEqualTypeOf<number>();
    else expectTypeOf(settled.error).toEqualTypeOf<Error>();

    const other = await runtime.submit(contract, { path: '/etc/hosts' });
    expectTypeOf(await other.result()).toEqualTypeOf<Uint8Array>();

    // @ts-expect-error: the input's type is the task's
    await runtime.submit(double, { n: 'many' });
    // @ts-expect-error: a misspelt option is not swallowed
    await runtime.submit(double, { n: 1 }, { dealy: '5s' });
    // @ts-expect-error: a duration has a unit that exists
    await runtime.submit(double, { n: 1 }, { delay: '5 weeks' });
  };
  assert.equal(typeof use, 'function');
});

test('a lock carries the value of its callback through, and coordination has its parts', () => {
  // Checked by the compiler and never called.
  const use = async (runtime: millrace.Runtime): Promise<void> => {
    const value = await runtime.locks.withLock(
      'order',
      { shard: 7, timeout: '3s' },
      async (lock) => {
        expectTypeOf(lock.token).toEqualTypeOf<bigint>();
        expectTypeOf(lock.signal).toEqualTypeOf<AbortSignal>();
        expectTypeOf(lock.compare).toHaveProperty('operand');
        return 42;
      },
    );
    expectTypeOf(value).toEqualTypeOf<number>();

    const c = await coordination.createCoordination(millrace.memoryStore(), { ttl: '15s' });
    expectTypeOf(await c.locks.tryLock('order')).toEqualTypeOf<
      coordination.LockHandle | undefined
    >();
    const leadership = await c.elections.campaign('cron', 'host:1', {});
    expectTypeOf(leadership.token).toEqualTypeOf<bigint>();
    expectTypeOf(await c.members.list()).toEqualTypeOf<readonly coordination.Member[]>();
    expectTypeOf(c.session.state).toEqualTypeOf<coordination.SessionState>();
    await leadership.resign();
    await c.close();
  };
  assert.equal(typeof use, 'function');
});

test('an etcd store is described by its options and goes where any store goes', () => {
  const store = etcd.etcdStore({
    endpoints: ['https://a.example:2379', 'b.example'],
    tls: { ca: Buffer.from(''), cert: '/etc/tls/cert.pem', key: '/etc/tls/key.pem' },
    auth: { user: 'u', password: 'p' },
    namespace: 'prod',
    quota: '8GB',
  });
  expectTypeOf(store).toEqualTypeOf<millrace.StoreFactory>();
  expectTypeOf<millrace.RuntimeOptions['store']>().toEqualTypeOf<etcd.StoreFactory | undefined>();
  assert.equal(store.location, 'etcd://a.example:2379,b.example:2379/prod');
  // @ts-expect-error: endpoints are not optional
  assert.throws(() => etcd.etcdStore({}), { code: 'ERR_MILLRACE_INVALID_OPTION' });
  // @ts-expect-error: a misspelt option is not swallowed
  assert.throws(() => etcd.etcdStore({ endpoints: 'a', namspace: 'x' }), {
    message: /did you mean etcdStore\.namespace/,
  });
});

test('metadata carries the types of values and configuration keys through', () => {
  // Checked by the compiler and never called.
  const use = async (runtime: millrace.Runtime): Promise<void> => {
    const revision = await runtime.metadata.put('acme', 'plan', '1', { seats: 5 }, { ttl: '1h' });
    expectTypeOf(revision).toExtend<number>();
    const entry = await runtime.metadata.get<{ seats: number }>('acme', 'plan', '1', {
      consistency: { atLeast: revision },
    });
    expectTypeOf(entry?.value).toEqualTypeOf<{ seats: number } | undefined>();
    const key: metadata.ConfigKey<number> = { name: 'linger', default: 1 };
    expectTypeOf(await runtime.config.get(key)).toEqualTypeOf<number | undefined>();
    runtime.config.watch(key, (value) => expectTypeOf(value).toEqualTypeOf<number | undefined>());
    // @ts-expect-error: the value's type is the key's
    await runtime.config.set(key, 'many');

    const handle = await metadata.createMetadata(millrace.memoryStore(), {
      cache: { bytes: '64MB' },
      bus: metadata.kafkaBus({ brokers: 'kafka:9092' }),
    });
    expectTypeOf(handle).toExtend<metadata.MetadataApi>();
    expectTypeOf(runtime.metadata).toExtend<metadata.MetadataApi>();
    // @ts-expect-error: what belongs to the inside is not shown
    handle.readKey;
    await handle.close();
  };
  assert.equal(typeof use, 'function');
});
