/**
 * What every sync bus promises, seen from the metadata of processes that share it: run against the store's watch, Kafka,
 * and a bus of the tests. In real time, as brokers know no other.
 */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { Metadata } from '../../src/tenancy/metadata.js';
import { soon, until } from '../support/limit.js';

export interface BusUnderTest {
  /** A process with its own bus and its own way to one store. Stopped after the test. */
  join(t: TestContext): Promise<Metadata>;
}

/** Together: a broker may take seconds to let one in. */
function joinAll<Count extends 2 | 3>(
  bus: BusUnderTest,
  t: TestContext,
  count: Count,
): Promise<Count extends 2 ? [Metadata, Metadata] : [Metadata, Metadata, Metadata]>;
function joinAll(bus: BusUnderTest, t: TestContext, count: number): Promise<Metadata[]> {
  return Promise.all(Array.from({ length: count }, () => bus.join(t)));
}

/** Everything that a watcher is told, and a way to wait for something. */
function hear(metadata: Metadata, id: string, tenant = 'acme') {
  const told: unknown[] = [];
  metadata.watch(tenant, 'x', id, (entry) => told.push(entry?.value));
  return {
    told,
    hears: (value: unknown) => until(`${id} is ${value}`, () => told.at(-1) === value),
  };
}

/** @param open - for each test anew */
export function busContract(name: string, open: () => Promise<BusUnderTest>): void {
  test(`${name}: a write is told to every process, its own included`, async (t) => {
    const bus = await open();
    const all = await joinAll(bus, t, 3);
    const heard = all.map((metadata) => hear(metadata, '1'));
    await Promise.all(heard.map(({ told }) => until('the first', () => told.length === 1)));
    await all[0].put('acme', 'x', '1', 'a');
    await Promise.all(heard.map(({ hears }) => hears('a')));
    await all[1].delete('acme', 'x', '1');
    await Promise.all(heard.map(({ hears }) => hears(undefined)));
    for (const { told } of heard) assert.deepEqual(told, [undefined, 'a', undefined]);
  });

  test(`${name}: cached values follow, of several entries in one write, too`, async (t) => {
    const bus = await open();
    const [a, b] = await joinAll(bus, t, 2);
    for (const id of ['1', '2', '3']) await b.get('acme', 'x', id);
    await a.write(
      'acme',
      ['1', '2', '3'].map((id) => ({ op: 'put', type: 'x', id, value: `v${id}` }) as const),
    );
    for (const id of ['1', '2', '3']) {
      await until(id, async () => (await b.get('acme', 'x', id))?.value === `v${id}`);
    }
  });

  test(`${name}: who comes late starts from what there is`, async (t) => {
    const bus = await open();
    const a = await bus.join(t);
    await a.put('acme', 'x', '1', 'before');
    const b = await bus.join(t);
    const { told, hears } = hear(b, '1');
    await hears('before');
    await a.put('acme', 'x', '1', 'after');
    await hears('after');
    assert.deepEqual(told, ['before', 'after']);
  });

  test(`${name}: of many quick writes to many tenants the last is what stays, and revisions only rise`, async (t) => {
    const bus = await open();
    const all = await joinAll(bus, t, 2);
    const tenants = ['t0', 't1', 't2', 't3'];
    const rising = new Map<string, number>();
    for (const tenant of tenants) {
      all[1].watch(tenant, 'x', '1', (entry) => {
        const before = rising.get(tenant) ?? 0;
        assert.ok((entry?.revision ?? 0) >= before);
        rising.set(tenant, entry?.revision ?? 0);
      });
    }
    const last = await soon(
      'writes',
      Promise.all(
        tenants.map(async (tenant, index) => {
          let revision = 0;
          for (let i = 0; i < 25; i++) {
            revision = await all[(i + index) % 2]!.put(tenant, 'x', '1', i);
          }
          return revision;
        }),
      ),
    );
    await until('all', () => tenants.every((tenant, i) => rising.get(tenant) === last[i]));
    for (const tenant of tenants) {
      for (const metadata of all) {
        await until(tenant, async () => (await metadata.get(tenant, 'x', '1'))?.value === 24);
      }
    }
  });

  test(`${name}: who has stopped hears nothing, and the others go on`, async (t) => {
    const bus = await open();
    const [a, b, c] = await joinAll(bus, t, 3);
    const [stopped, going] = [hear(b, '1'), hear(c, '1')];
    await until('both', () => stopped.told.length === 1 && going.told.length === 1);
    await b.stop();
    await a.put('acme', 'x', '1', 'after');
    await going.hears('after');
    assert.deepEqual(stopped.told, [undefined]);
  });
}
