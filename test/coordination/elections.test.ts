import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Leader, Leadership } from '../../src/coordination/elections.js';
import { codeOf, TTL_MS, track, world } from './world.js';

test('the first to campaign leads, the next follows when it resigns, with a higher token', async (t) => {
  const w = await world(t);
  const [a, b] = [await w.join(), await w.join()];
  const first = await a.c.elections.campaign('cron', 'alpha:1');
  const second = track(b.c.elections.campaign('cron', 'beta:2'));
  await w.clock.advance(60_000);
  assert.equal(second.state, 'open');
  assert.deepEqual(await b.c.elections.leader('cron'), { value: 'alpha:1', token: first.token });
  await first.resign();
  await first.resign();
  await w.clock.settle();
  assert.ok(second.value && second.value.token > first.token);
  assert.equal((await a.c.elections.leader('cron'))?.value, 'beta:2');
  assert.equal(first.signal.aborted, false);
});

test('keys and values are those of etcdctl elect', async (t) => {
  const w = await world(t);
  const { c } = await w.join();
  await c.elections.campaign('cron', 'grüße');
  const [entry] = await w.lockKeys();
  assert.equal(entry?.key, `l/cron/${c.session.leaseId}`);
  assert.equal(new TextDecoder().decode(entry?.value), 'grüße');
  assert.equal(entry?.leaseId, c.session.leaseId);
});

test('a leader whose session is fenced has lost before another is elected', async (t) => {
  const w = await world(t);
  const [a, b] = [await w.join(), await w.join()];
  const first = await a.c.elections.campaign('cron', 'a');
  const elected: number[] = [];
  void b.c.elections.campaign('cron', 'b').then(() => elected.push(w.clock.monoMs()));
  await w.clock.settle();
  a.faults.isCut = true;
  let lostAtMs = 0;
  first.signal.addEventListener('abort', () => {
    lostAtMs = w.clock.monoMs();
  });
  await w.clock.advance(2 * TTL_MS);
  assert.equal(codeOf(first.signal.reason), 'ERR_MILLRACE_LEASE_LOST');
  assert.equal(elected.length, 1);
  assert.ok(lostAtMs > 0 && lostAtMs < elected[0]!);
  a.faults.isCut = false;
  await w.clock.advance(TTL_MS);
  const again = track(a.c.elections.campaign('cron', 'a'));
  await w.clock.advance(1_000);
  assert.equal(again.state, 'open');
});

test('a candidate that loses its lease while it waits stands again, at the end of the line', async (t) => {
  const w = await world(t);
  const [a, b, c] = [await w.join(), await w.join(), await w.join()];
  const first = await a.c.elections.campaign('cron', 'a');
  const second = track(b.c.elections.campaign('cron', 'b'));
  await w.clock.settle();
  const third = track(c.c.elections.campaign('cron', 'c'));
  await w.clock.settle();
  await w.store.revokeLease(b.c.session.leaseId!);
  await w.clock.advance(TTL_MS);
  await first.resign();
  await w.clock.advance(100);
  assert.equal(third.state, 'done');
  assert.equal(second.state, 'open');
  await third.value!.resign();
  await w.clock.advance(100);
  assert.equal(second.state, 'done');
});

test('a candidate whose key was deleted while it waited does not lead without one', async (t) => {
  const w = await world(t);
  const [a, b] = [await w.join(), await w.join()];
  const first = await a.c.elections.campaign('cron', 'a');
  const second = track<Leadership>(b.c.elections.campaign('cron', 'b'));
  await w.clock.settle();
  const key = `l/cron/${b.c.session.leaseId}`;
  await w.store.txn({ compares: [], success: [{ type: 'delete', key }] });
  await first.resign();
  await w.clock.advance(100);
  assert.equal((await w.store.get(key))?.createRevision, Number(second.value?.token));
});

test('an aborted campaign leaves the line', async (t) => {
  const w = await world(t);
  const [a, b] = [await w.join(), await w.join()];
  await a.c.elections.campaign('cron', 'a');
  const aborter = new AbortController();
  const waiting = track(b.c.elections.campaign('cron', 'b', { signal: aborter.signal }));
  await w.clock.settle();
  assert.equal((await w.lockKeys()).length, 2);
  aborter.abort(new Error('enough'));
  await w.clock.settle();
  assert.equal((waiting.error as Error).message, 'enough');
  assert.equal((await w.lockKeys()).length, 1);
});

test('a process stands once in a line', async (t) => {
  const w = await world(t);
  const { c } = await w.join();
  const first = await c.elections.campaign('cron', 'a');
  await assert.rejects(c.elections.campaign('cron', 'b'), /campaigns for 'cron' already/);
  await first.resign();
  await (await c.elections.campaign('cron', 'b')).resign();
});

test('a campaign after a resignation without an answer waits until that one is through', async (t) => {
  const w = await world(t);
  const { c, faults } = await w.join();
  const first = await c.elections.campaign('cron', 'a');
  faults.fates.push('request lost', 'request lost');
  await first.resign();
  const second = track<Leadership>(c.elections.campaign('cron', 'b'));
  await w.clock.advance(1_000);
  assert.ok(second.value && second.value.token > first.token);
  assert.equal((await c.elections.leader('cron'))?.value, 'b');
  await w.clock.advance(2 * TTL_MS);
  assert.equal((await c.elections.leader('cron'))?.value, 'b');
});

test('observe tells of every leader, and ends with its signal', async (t) => {
  const w = await world(t);
  const [a, b] = [await w.join(), await w.join()];
  const aborter = new AbortController();
  const seen: (string | undefined)[] = [];
  const watching = (async () => {
    const leaders: AsyncIterable<Leader | undefined> = b.c.elections.observe('cron', {
      signal: aborter.signal,
    });
    for await (const leader of leaders) seen.push(leader?.value);
  })();
  await w.clock.settle();
  const first = await a.c.elections.campaign('cron', 'a');
  await w.clock.settle();
  const second = b.c.elections.campaign('cron', 'b');
  await w.clock.settle();
  await first.resign();
  await w.clock.settle();
  await (await second).resign();
  await w.clock.settle();
  aborter.abort();
  await watching;
  assert.deepEqual(seen, [undefined, 'a', 'b', undefined]);
});

test('compare refuses the transaction of a leader that was replaced', async (t) => {
  const w = await world(t);
  const { c } = await w.join();
  const first = await c.elections.campaign('cron', 'a');
  const kind = async () => (await w.store.txn({ compares: [first.compare], success: [] })).kind;
  assert.equal(await kind(), 'done');
  await first.resign();
  await c.elections.campaign('cron', 'b');
  assert.equal(await kind(), 'refused');
});
