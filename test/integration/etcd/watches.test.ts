/** The watch multiplexer on a real etcd, with a proxy between that cuts. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import type { MillraceError } from '../../../src/core/errors.js';
import type { Revision, WatchBatch } from '../../../src/core/store.js';
import { EtcdCluster } from '../../support/etcd/index.js';
import { TcpProxy } from '../../support/tcp-proxy.js';
import { ALL, client, put, readEvents, write, writeMany } from './client.js';

let etcd: EtcdCluster;
before(async () => {
  etcd = await EtcdCluster.start();
});
after(() => etcd.close());

async function proxied(): Promise<{ proxy: TcpProxy; endpoint: string }> {
  const proxy = await TcpProxy.listen({ port: etcd.node.clientPort });
  return { proxy, endpoint: `http://127.0.0.1:${proxy.port}` };
}

function revisionsOf(batches: readonly WatchBatch[]): number[] {
  return batches.map(({ revision }) => revision);
}

function span(first: number, count: number): number[] {
  return Array.from({ length: count }, (_, index) => first + index);
}

test('a catch-up of 5000 keys, cut after `created` and between its batches, misses and doubles nothing', async (t) => {
  // Red with a client that resumes from a header, as etcd3 does: both headers carry the newest revision.
  const direct = client(t, etcd.node.endpoint);
  const first = await writeMany(direct, 5_000);
  const { proxy, endpoint } = await proxied();
  t.after(() => proxy.close());
  // `created` comes within the first few hundred bytes, a batch of a thousand revisions in some 30 kB.
  for (const bytes of [60, 150, 300, 20_000, 60_000, 100_000]) {
    const through = client(t, endpoint, { prefix: direct.prefix });
    proxy.cutAfterDown(bytes);
    const watch = through.watch(ALL, { startRevision: first });
    const batches = await readEvents(watch, 5_000);
    assert.deepEqual(revisionsOf(batches), span(first, 5_000), `cut after ${bytes} bytes`);
    await watch.return?.();
  }
  assert.ok(proxy.acceptedCount >= 12, `${proxy.acceptedCount} connections: nothing was cut`);
});

test('a live watch that is cut again and again misses and doubles nothing', async (t) => {
  const direct = client(t, etcd.node.endpoint);
  const { proxy, endpoint } = await proxied();
  t.after(() => proxy.close());
  const through = client(t, endpoint, { prefix: direct.prefix });
  const first = await write(direct, put('k/first'));
  const watch = through.watch(ALL, { startRevision: first });
  const reading = readEvents(watch, 2_001);
  for (let round = 0; round < 20; round++) {
    await Promise.all(span(0, 100).map((index) => write(direct, put(`k/${index}`, `${round}`))));
    proxy.cut();
  }
  assert.deepEqual(revisionsOf(await reading), span(first, 2_001));
});

test('answers larger than a message come in fragments and are joined to whole revisions', async (t) => {
  // Red with a client that does not ask for fragments (20 MB exceed its limit), or tells them one by one.
  const direct = client(t, etcd.node.endpoint);
  const value = new Uint8Array(10_000);
  const first = await write(direct, put('a'));
  const txns = 16;
  for (let txn = 0; txn < txns; txn++) {
    await write(direct, ...span(0, 120).map((index) => put(`k/${index}`, value)));
  }
  const watch = direct.watch({ from: 'k', to: 'l' }, { startRevision: first });
  const batches = await readEvents(watch, txns * 120);
  assert.deepEqual(revisionsOf(batches), span(first + 1, txns));
  for (const { events } of batches) assert.equal(events.length, 120);
});

test('a watch without permission fails alone, and a good one after it is told', async (t) => {
  // Red with a client that attaches one watch after another: the refused one would wedge all that follow.
  const guarded = await EtcdCluster.start();
  t.after(() => guarded.close());
  await guarded.enableAuth('root', { name: 'tenant', password: 'secret', prefix: '/good/' });
  const auth = { user: 'tenant', password: 'secret' };
  const good = client(t, guarded.node.endpoint, { auth, prefix: '/good/' });
  await write(good, put('a'));
  const bad = good.multiplexer.watch(ALL, '/bad/')[Symbol.asyncIterator]();
  const fine = good.watch(ALL);
  await assert.rejects(bad.next(), (error: MillraceError) => {
    assert.equal(error.code, 'ERR_MILLRACE_STORE_UNAVAILABLE');
    assert.match(error.message, /may not do this/);
    return true;
  });
  const revision = await write(good, put('b'));
  assert.equal((await fine.next()).value.revision, revision);
});

test('a watch whose history is compacted while it is away says where history begins', async (t) => {
  const direct = client(t, etcd.node.endpoint);
  const { proxy, endpoint } = await proxied();
  t.after(() => proxy.close());
  const through = client(t, endpoint, { prefix: direct.prefix });
  const first = await write(direct, put('a', '1'));
  const watch = through.watch(ALL, { startRevision: first });
  assert.equal((await watch.next()).value.revision, first);
  proxy.refuse();
  proxy.cut();
  await write(direct, put('a', '2'));
  const last = await write(direct, put('a', '3'));
  await direct.kv.compact(last);
  proxy.accept();
  await assert.rejects(watch.next(), {
    code: 'ERR_MILLRACE_COMPACTED',
    details: { revision: first + 1, compactRevision: last },
  });
});

test('a slow reader lags alone; compaction under it is told after what it had buffered', async (t) => {
  // Red without the bound: everything would be buffered, and the compaction never noticed.
  const direct = client(t, etcd.node.endpoint, { bufferBytesMax: 20_000 });
  const first = (await write(direct, put('first'))) as number;
  const from = { startRevision: (first + 1) as Revision };
  const quick = direct.watch(ALL, from);
  const slow = direct.watch(ALL, from);
  const reading = readEvents(quick, 1_000);
  for (let round = 0; round < 10; round++) {
    await Promise.all(
      span(0, 100).map((index) => write(direct, put(`k/${index}`, 'x'.repeat(100)))),
    );
  }
  assert.deepEqual(revisionsOf(await reading), span(first + 1, 1_000));
  assert.deepEqual(direct.multiplexer.counts(), { watches: 2, lagging: 1 });
  await direct.kv.compact((first + 1_000) as Revision);
  const told: number[] = [];
  await assert.rejects(
    async () => {
      for (;;) told.push((await slow.next()).value.revision);
    },
    { code: 'ERR_MILLRACE_COMPACTED' },
  );
  assert.ok(told.length > 50 && told.length < 200, `${told.length} buffered`);
  assert.deepEqual(told, span(first + 1, told.length));
});

test('a thousand watches share one stream, and come back together after a cut', async (t) => {
  const direct = client(t, etcd.node.endpoint);
  const { proxy, endpoint } = await proxied();
  t.after(() => proxy.close());
  const through = client(t, endpoint, { prefix: direct.prefix });
  const first = await write(direct, put('first'));
  const startRevision = (first + 1) as Revision;
  const watches = span(0, 1_000).map((index) =>
    through.watch({ from: `k/${index}/`, to: `k/${index}/~` }, { startRevision }),
  );
  const reading = Promise.all(watches.map((watch) => readEvents(watch, 1)));
  if (proxy.connections.size === 0) await once(proxy, 'connection');
  proxy.cut();
  for (let index = 0; index < 1_000; index += 100) {
    await write(direct, ...span(index, 100).map((key) => put(`k/${key}/x`)));
  }
  const batches = await reading;
  assert.deepEqual(
    batches.map(([batch]) => batch!.events[0]),
    batches.map(([batch], index) => ({
      type: 'put',
      entry: {
        key: `k/${index}/x`,
        value: batch!.events[0]!.type === 'put' ? batch!.events[0]!.entry.value : undefined,
        version: 1,
        createRevision: batch!.revision,
        modRevision: batch!.revision,
        leaseId: undefined,
      },
    })),
  );
  assert.ok(proxy.acceptedCount <= 4, `${proxy.acceptedCount} connections`);
});
