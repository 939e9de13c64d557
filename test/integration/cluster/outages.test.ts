/**
 * A store that is away, records in it that do not decode, and nodes that have to end: what users meet of it.
 */
import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { after, before, describe, test } from 'node:test';
import { hasCode } from '../../../src/core/errors.js';
import { defineTask, defineTasks } from '../../../src/index.js';
import { EtcdCluster } from '../../support/etcd/index.js';
import { openEtcd } from '../../support/etcd/store.js';
import { soon, until } from '../../support/limit.js';
import { fleet, inline, work } from './fleet.js';
import { place } from './runtimes.js';

describe('nodes on one etcd', () => {
  let etcd: EtcdCluster;
  before(async () => {
    etcd = await EtcdCluster.start({ electionMs: 500 });
  });
  after(() => etcd.close());

  test('the store is away: what runs goes on, submits fail in time, results wait for it', async (t) => {
    // Before the runtime is closed, whatever becomes of this test.
    t.after(async () => {
      if (!etcd.node.isRunning) await etcd.node.start();
    });
    const { start } = place(t, etcd);
    const finish: (() => void)[] = [];
    let ran = 0;
    let isBack = false;
    const held = defineTask({
      name: 'held',
      exec: 'inline',
      async run() {
        if (!isBack) await new Promise<void>((resolve) => finish.push(resolve));
        return ++ran;
      },
    });
    // Longer than the store is away.
    const runtime = await start({ tasks: defineTasks({ held }), session: { ttl: '1m' } });
    const handle = await soon('acknowledged', runtime.submit(held, {}));
    await until('it runs', () => finish.length === 1);
    await etcd.node.kill();
    // Perhaps sent before the connection was found broken: then it may be stored, and the error says so.
    const onItsWay = assert.rejects(runtime.submit(held, {}), (error) =>
      hasCode(error, 'ERR_MILLRACE_STORE_UNAVAILABLE'),
    );
    finish[0]!();
    await until('it has ended', () => ran === 1);
    const refused = runtime.submit(held, {});
    await assert.rejects(soon('refused', refused), (error) =>
      hasCode(error, 'ERR_MILLRACE_STORE_UNAVAILABLE'),
    );
    await assert.rejects(handle.result({ timeout: 1 }), (error) =>
      hasCode(error, 'ERR_MILLRACE_RESULT_TIMEOUT'),
    );
    await soon('refused too', onItsWay);
    isBack = true;
    await etcd.node.start();
    assert.equal(await soon('the result', handle.result()), 1);
    const next = await soon('acknowledged', runtime.submit(held, {}));
    await soon('its result', next.result());
  });

  test('a runtime whose etcd is gone closes within its budget', async (t) => {
    t.after(async () => {
      if (!etcd.node.isRunning) await etcd.node.start();
    });
    const { start } = place(t, etcd);
    const echo = defineTask({ name: 'echo', exec: 'inline', run: (input: number) => input });
    const runtime = await start({
      tasks: defineTasks({ echo }),
      shutdown: { soft: '1s', hard: '2s' },
    });
    const handle = await soon('acknowledged', runtime.submit(echo, 1, { delay: '1h' }));
    const result = assert.rejects(handle.result(), (error) =>
      hasCode(error, 'ERR_MILLRACE_CLOSED'),
    );
    await etcd.node.kill();
    const beganAtMs = performance.now();
    await runtime.close();
    const tookMs = performance.now() - beganAtMs;
    // Calls that are under way when it begins have 8 s.
    assert.ok(tookMs < 20_000, `${tookMs} ms`);
    await result;
  });

  test('records that do not decode are set aside, and their shards go on', async (t) => {
    const { namespace, start, input, keys } = place(t, etcd);
    const store = await openEtcd(t, { endpoints: etcd.endpoints, namespace });
    // One may be told of twice: when its shard is read, and by the watch of the shard.
    const corrupt = new Set<string>();
    const note = (told: unknown): void => void corrupt.add((told as { key: string }).key);
    subscribe('millrace:store:corrupt', note);
    t.after(() => unsubscribe('millrace:store:corrupt', note));
    const value = Buffer.from('no frame');
    const put = async (kind: string): Promise<void> => {
      // In every shard.
      for (let at = 0; at < 64; at++) {
        const shard = at.toString(36).padStart(2, '0');
        const key = `${kind}/default/${shard}/0mjuohs00/0123abcd00000001`;
        await store.txn({ compares: [], success: [{ type: 'put', key, value }] });
      }
    };
    await put('t');
    const runtime = await start();
    await until('all are told of', () => corrupt.size === 64);
    await put('i');
    await put('c');
    await until('those that come later, too', () => corrupt.size === 3 * 64);
    const handles = await Promise.all(
      Array.from({ length: 64 }, (_, i) => runtime.submit('work', input(`${i}`))),
    );
    await soon('results', Promise.all(handles.map((handle) => handle.result())));
    assert.equal((await keys('t', 'i', 'c')).length, 3 * 64, 'nothing is thrown away');
  });

  test('SIGTERM: what can end within the budget does, the rest goes on elsewhere', async (t) => {
    const nodes = fleet(t, etcd);
    const first = await nodes.join({ softMs: 1_500 });
    const producer = await nodes.producer();
    const { effects } = nodes;
    const short = await producer.submit(work, { effects, name: 'short', ms: 1_000 });
    const long = await producer.submit(inline, { effects, name: 'long', ms: 20_000 });
    await until('both run', () => nodes.seen().length === 2);
    const ending = first.end();
    const second = await nodes.join();
    assert.equal(await ending, 0);
    assert.equal((await soon('its result', short.result())).pid, first.pid);
    await until('the other one takes it', () => nodes.seen().length === 4);
    const { pid, attempt } = nodes.seen().at(-1)!;
    assert.equal(pid, second.pid);
    assert.equal(attempt, 1, 'an interruption spends no attempt');
    assert.equal(await long.cancel('enough'), 'signalled');
    assert.equal((await soon('its end', long.settled())).status, 'cancelled');
  });
});
