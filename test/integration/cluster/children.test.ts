/** Children, parents and joining tasks on different nodes of a real etcd. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { fanOut, leader, total } from '../../fixtures/workers/children.js';
import { EtcdCluster } from '../../support/etcd/index.js';
import { soon, until } from '../../support/limit.js';
import { place } from './runtimes.js';

const tasks = new URL('../../fixtures/workers/children.js', import.meta.url);

describe('children on a cluster', () => {
  let etcd: EtcdCluster;
  before(async () => {
    etcd = await EtcdCluster.start({ electionMs: 500 });
  });
  after(() => etcd.close());

  test('a joining task hears of children on every node', async (t) => {
    const { start } = place(t, etcd);
    const [a, b] = await soon('start', Promise.all([start({ tasks }), start({ tasks })]));
    const parents = await Promise.all(
      Array.from({ length: 20 }, (_, i) => (i % 2 ? a : b).submit(fanOut, 10)),
    );
    for (const parent of parents) {
      const id = await soon('the parent', parent.result());
      const joined = soon('the joining task', a.handle(total, id).result());
      assert.deepEqual(await joined, { joined: 10, sum: 385 });
    }
  });

  test('children go with a parent that is cancelled, whichever nodes they are on', async (t) => {
    const { start } = place(t, etcd);
    const [a, b] = await soon('start', Promise.all([start({ tasks }), start({ tasks })]));
    const parent = await a.submit(leader, '1h');
    const children = async () =>
      (await a.operations.list({ task: 'leaf', limit: 10 })).tasks.filter(
        (task) => task.parent === parent.id,
      );
    await until('its children are there', async () => (await children()).length === 3);
    const ids = (await children()).map(({ id }) => id);
    await soon('the cancel', b.handle(leader, parent.id).cancel('enough'));
    assert.equal((await soon('the end', parent.settled())).status, 'cancelled');
    for (const id of ids) {
      const end = await soon('the end of a child', b.handle('leaf', id).settled());
      assert.equal(end.status, 'cancelled');
    }
  });
});
