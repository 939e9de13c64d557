// Red when something acknowledged is lost, a result is recorded twice or by a zombie, or two nodes that both live run
// one task at the same time.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { EtcdCluster } from '../../support/etcd/index.js';
import { until } from '../../support/limit.js';
import { fleet, reconcile, Workload } from './fleet.js';

describe('three nodes on three etcd servers under load', () => {
  let etcd: EtcdCluster;
  before(async () => {
    etcd = await EtcdCluster.start({ nodes: 3, electionMs: 500 });
  });
  after(() => etcd.close());

  test('a node is killed', async (t) => {
    const nodes = fleet(t, etcd);
    const [victim] = await Promise.all([nodes.join(), nodes.join(), nodes.join()]);
    const load = await Workload.start(t, nodes);
    await load.progress();
    await victim.kill();
    await until('its shards are taken over', () => nodes.isOwnedWithout(victim));
    await load.progress();
    await load.finish();
    await reconcile(nodes, load);
  });

  test('a node is stopped for longer than its lease, and goes on as a zombie', async (t) => {
    const nodes = fleet(t, etcd);
    const [victim] = await Promise.all([nodes.join(), nodes.join(), nodes.join()]);
    const load = await Workload.start(t, nodes);
    await load.progress();
    // Long enough that the zombie ends them while its successors are at them.
    await load.runLong(18, 6_000);
    victim.stop();
    await until('its shards are taken over', () => nodes.isOwnedWithout(victim));
    await load.progress();
    victim.cont();
    await load.progress();
    await load.finish();
    await reconcile(nodes, load);
  });

  test('the leader of etcd is killed', async (t) => {
    const nodes = fleet(t, etcd);
    await Promise.all([nodes.join(), nodes.join(), nodes.join()]);
    const load = await Workload.start(t, nodes);
    await load.progress();
    const leader = await etcd.leader();
    await leader.kill();
    await load.progress();
    await leader.start();
    await load.progress();
    await load.finish();
    const executions = await reconcile(nodes, load);
    const isUndisturbed = nodes.nodes.every(({ mayBeReplaced }) => !mayBeReplaced);
    if (isUndisturbed) assert.ok(executions.every((count) => count === 1));
  });

  test('all nodes are replaced one by one: nobody notices, and nothing runs twice', async (t) => {
    const nodes = fleet(t, etcd);
    const old = await Promise.all([nodes.join(), nodes.join(), nodes.join()]);
    const load = await Workload.start(t, nodes);
    for (const node of old) {
      await Promise.all([load.progress(), nodes.join()]);
      assert.equal(await node.end(), 0);
    }
    await load.progress();
    await load.finish();
    const executions = await reconcile(nodes, load);
    assert.equal(load.refused, 0);
    assert.ok(executions.every((count) => count === 1));
  });
});
