import assert from 'node:assert/strict';
import { test } from 'node:test';
import { defineTask, defineTasks } from '../../src/index.js';
import { testBed, within } from '../support/runtime.js';

const tasks = defineTasks({
  nothing: defineTask({ name: 'nothing', exec: 'inline', run: () => {} }),
});

test('runtimes on one store share their locks, and a runtime without locks takes no lease', async (t) => {
  const bed = testBed(tasks);
  const runtime = await bed.start();
  t.after(() => within(bed.clock, 60_000, runtime.close()));
  let leases = 0;
  const grant = bed.faults.grantLease.bind(bed.faults);
  bed.faults.grantLease = (ttlMs) => {
    leases++;
    return grant(ttlMs);
  };
  await bed.clock.advance(60_000);
  assert.equal(leases, 0);
  const value = await runtime.locks.withLock('order', { shard: 3 }, async ({ token }) => {
    assert.equal(typeof token, 'bigint');
    assert.equal(await runtime.locks.tryLock('order', { shard: 3 }), undefined);
    return 42;
  });
  assert.equal(value, 42);
  assert.equal(leases, 1);
});

test('with locks switched off, one polled key does for all shards', async (t) => {
  const bed = testBed(tasks);
  const runtime = await bed.start({ experimental: { off: ['locks'] } });
  t.after(() => within(bed.clock, 60_000, runtime.close()));
  const inside = await runtime.locks.withLock('order', { shard: 1 }, async () => {
    const other = runtime.locks.tryLock('order', { shard: 2 });
    return other;
  });
  assert.equal(inside, undefined);
  assert.ok(await runtime.locks.tryLock('order', { shard: 2 }));
});

test('a switch that does not exist is refused', async () => {
  const bed = testBed(tasks);
  await assert.rejects(bed.start({ experimental: { off: ['lock' as 'locks'] } }), {
    code: 'ERR_MILLRACE_INVALID_OPTION',
  });
});
