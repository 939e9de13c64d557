import assert from 'node:assert/strict';
import { test } from 'node:test';
import { memoryStore } from '../../src/store/index.js';
import { TtlLeases } from '../../src/tenancy/ttl-leases.js';
import { VirtualClock } from '../../src/testing/index.js';
import { FaultyStore } from '../support/faulty-store.js';

test('entries of one span share a lease for a twentieth of it, at most 500 of them', async (t) => {
  const clock = new VirtualClock();
  const store = await memoryStore().open({ clock });
  t.after(() => store.close());
  const leases = new TtlLeases(clock, store);
  const first = await leases.leaseFor(10_000);
  assert.equal(await leases.leaseFor(10_000), first);
  assert.notEqual(await leases.leaseFor(20_000), first);
  await clock.advance(501);
  const second = await leases.leaseFor(10_000);
  assert.notEqual(second, first);
  for (let i = 0; i < 499; i++) assert.equal(await leases.leaseFor(10_000), second);
  assert.notEqual(await leases.leaseFor(10_000), second);
});

test('a grant that failed is tried again by the next entry', async (t) => {
  const clock = new VirtualClock();
  const faults = new FaultyStore(await memoryStore().open({ clock }), clock);
  t.after(() => faults.close());
  const leases = new TtlLeases(clock, faults);
  faults.isCut = true;
  await assert.rejects(leases.leaseFor(10_000), { code: 'ERR_MILLRACE_STORE_UNAVAILABLE' });
  faults.isCut = false;
  assert.match(await leases.leaseFor(10_000), /./);
});
