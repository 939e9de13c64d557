import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { type TestContext, test } from 'node:test';
import type { StandardSchemaV1 } from '@standard-schema/spec';
import { Config, type ConfigKey } from '../../src/tenancy/config.js';
import { gate } from '../coordination/world.js';
import { nodes } from './nodes.js';

/** A schema of whole numbers; `validate` may be asked to wait. */
function wholeNumbers(wait?: () => Promise<void>): StandardSchemaV1<unknown, number> {
  const check = (value: unknown): StandardSchemaV1.Result<number> =>
    Number.isInteger(value) ? { value: value as number } : { issues: [{ message: 'no number' }] };
  return {
    '~standard': {
      version: 1,
      vendor: 'test',
      validate: (value) => (wait === undefined ? check(value) : wait().then(() => check(value))),
    },
  };
}

const LINGER: ConfigKey<number> = { name: 'batch.lingerMs', schema: wholeNumbers(), default: 1 };

/** What was told to be invalid. */
function invalids(t: TestContext): unknown[] {
  const told: unknown[] = [];
  const listener = (message: unknown): void => {
    const { name, tenant } = message as { name: string; tenant: string | undefined };
    told.push([name, tenant]);
  };
  subscribe('millrace:config:invalid', listener);
  t.after(() => unsubscribe('millrace:config:invalid', listener));
  return told;
}

test('a value is pushed to every node, and read from memory after the first time', async (t) => {
  const w = await nodes(t);
  const [a, b] = [await w.join(), await w.join()];
  assert.equal(await b.config.get(LINGER), 1);
  await a.config.set(LINGER, 5);
  await w.clock.settle();
  b.faults.isCut = true;
  assert.equal(await b.config.get(LINGER), 5);
  b.faults.isCut = false;
  await a.config.unset(LINGER);
  await w.clock.settle();
  assert.equal(await b.config.get(LINGER), 1);
});

test("a tenant has its own value, else everybody's, else the default", async (t) => {
  const w = await nodes(t);
  const [a, b] = [await w.join(), await w.join()];
  const values = async () =>
    Promise.all([b.config.get(LINGER, { tenant: 'acme' }), b.config.get(LINGER)]);
  assert.deepEqual(await values(), [1, 1]);
  await a.config.set(LINGER, 5);
  await w.clock.settle();
  assert.deepEqual(await values(), [5, 5]);
  await a.config.set(LINGER, 7, { tenant: 'acme' });
  await w.clock.settle();
  assert.deepEqual(await values(), [7, 5]);
  await a.config.unset(LINGER, { tenant: 'acme' });
  await w.clock.settle();
  assert.deepEqual(await values(), [5, 5]);
});

test('a watcher is told the value that applies, and every change of it, and nothing twice', async (t) => {
  const w = await nodes(t);
  const [a, b] = [await w.join(), await w.join()];
  const told: unknown[] = [];
  const stop = b.config.watch(LINGER, (value) => told.push(value), { tenant: 'acme' });
  await w.clock.settle();
  await a.config.set(LINGER, 5);
  await w.clock.settle();
  await a.config.set(LINGER, 5);
  await w.clock.settle();
  await a.config.set(LINGER, 7, { tenant: 'acme' });
  await w.clock.settle();
  await a.config.set(LINGER, 6);
  await w.clock.settle();
  await a.config.unset(LINGER, { tenant: 'acme' });
  await w.clock.settle();
  stop();
  await a.config.set(LINGER, 9);
  await w.clock.settle();
  assert.deepEqual(told, [1, 5, 7, 6]);
});

test('an invalid value is refused where it is set, and where it arrives the last good one stays', async (t) => {
  const w = await nodes(t);
  const [a, b] = [await w.join(), await w.join()];
  const told = invalids(t);
  await a.config.set(LINGER, 5);
  await assert.rejects(a.config.set(LINGER, 1.5), {
    code: 'ERR_MILLRACE_INVALID_INPUT',
    message: /config 'batch\.lingerMs' does not satisfy its schema: no number/,
  });
  assert.equal(await b.config.get(LINGER), 5);
  // Another version of the program has no schema for it.
  await a.metadata.writeKeys('', [
    { key: 'ns::config:batch.lingerMs', value: Buffer.from('"x"'), ifRevision: undefined },
  ]);
  await w.clock.settle();
  assert.equal(await b.config.get(LINGER), 5);
  await a.metadata.writeKeys('', [
    { key: 'ns::config:batch.lingerMs', value: Buffer.from('{'), ifRevision: undefined },
  ]);
  await w.clock.settle();
  assert.equal(await b.config.get(LINGER), 5);
  assert.deepEqual(told, [
    ['batch.lingerMs', undefined],
    ['batch.lingerMs', undefined],
  ]);
  await a.config.set(LINGER, 6);
  await w.clock.settle();
  assert.equal(await b.config.get(LINGER), 6);
});

test("a node that finds only an invalid value has the default, and a tenant everybody's", async (t) => {
  const w = await nodes(t);
  const [a, b] = [await w.join(), await w.join()];
  const name = 'limit';
  await a.config.set(name, 'many', { tenant: 'acme' });
  const key = { name, schema: wholeNumbers(), default: 3 };
  assert.equal(await b.config.get(key, { tenant: 'acme' }), 3);
  await a.config.set(name, 4);
  await w.clock.settle();
  assert.equal(await b.config.get(key, { tenant: 'acme' }), 4);
});

test('of two values that are checked at once the newer one counts', async (t) => {
  const w = await nodes(t);
  const [a, b] = [await w.join(), await w.join()];
  const slow = gate();
  let checks = 0;
  const key = {
    name: 'slow',
    schema: wholeNumbers(() => (++checks === 1 ? slow.opened : Promise.resolve())),
  };
  await a.config.set('slow', 1);
  const first = b.config.get(key);
  await w.clock.settle();
  await a.config.set('slow', 2);
  await w.clock.settle();
  slow.open();
  assert.equal(await first, 2);
  await w.clock.settle();
  assert.equal(await b.config.get(key), 2);
});

test('a knob follows its configuration through a compaction and an outage', async (t) => {
  const w = await nodes(t);
  const [a, b] = [await w.join(), await w.join()];
  let lingerMs = 0;
  b.config.watch(LINGER, (value) => {
    lingerMs = value ?? 0;
  });
  await w.clock.settle();
  assert.equal(lingerMs, 1);
  const letGo = b.holdWatch();
  for (const value of [5, 6, 7]) await a.config.set(LINGER, value);
  await w.store.compact((await w.store.range({ from: 'a', to: 'b' })).revision);
  letGo();
  await w.clock.advance(3_000);
  assert.equal(lingerMs, 7);
});

test('before the store was ever read its silence is an error; the watch goes on trying', async (t) => {
  const w = await nodes(t);
  const { config, faults } = await w.join();
  faults.isCut = true;
  await assert.rejects(config.get(LINGER), { code: 'ERR_MILLRACE_STORE_UNAVAILABLE' });
  faults.isCut = false;
  await w.clock.advance(5_000);
  assert.equal(await config.get(LINGER), 1);
});

test('a name has one definition', async (t) => {
  const w = await nodes(t);
  const { config } = await w.join();
  assert.equal(config.define(LINGER), LINGER);
  assert.equal(await config.get('batch.lingerMs'), 1);
  const bad = { code: 'ERR_MILLRACE_INVALID_OPTION' };
  assert.throws(() => config.define({ name: 'batch.lingerMs', default: 2 }), bad);
  assert.throws(() => config.define({ name: '' }), bad);
  assert.throws(() => config.define({ name: 'x', schema: {} as never }), bad);
  await assert.rejects(config.get('x', { tennant: 'acme' } as object), /did you mean tenant/);
});

test('of very many values that nobody watches the ones asked for last are followed', async (t) => {
  const w = await nodes(t);
  const { metadata } = await w.join();
  const config = new Config(metadata, 10);
  const told: unknown[] = [];
  config.watch(LINGER, (value) => told.push(value), { tenant: 'watched' });
  for (let i = 0; i < 100; i++) assert.equal(await config.get(LINGER, { tenant: `t${i}` }), 1);
  assert.ok(metadata.stats().watched <= 12, `${metadata.stats().watched} are followed`);
  await config.set(LINGER, 5, { tenant: 'watched' });
  await config.set(LINGER, 6, { tenant: 't0' });
  await w.clock.settle();
  assert.deepEqual(told, [1, 5]);
  assert.equal(await config.get(LINGER, { tenant: 't0' }), 6);
});
