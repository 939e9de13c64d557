import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { seededRandom } from '../../../src/core/random.js';
import { etcdStore } from '../../../src/store/etcd/index.js';
import { Metadata } from '../../../src/tenancy/metadata.js';
import { WatchBus } from '../../../src/tenancy/watch-bus.js';
import { systemClock } from '../../../src/timing/system-clock.js';
import { EtcdCluster } from '../../support/etcd/index.js';
import { freshNamespace } from '../../support/etcd/store.js';
import { until } from '../../support/limit.js';
import { type BusUnderTest, busContract } from '../../tenancy/bus-contract.js';

const clock = systemClock;

describe('metadata on etcd', () => {
  let etcd: EtcdCluster;
  before(async () => {
    etcd = await EtcdCluster.start({ nodes: 3, electionMs: 500 });
  });
  after(() => etcd.close());

  const overEtcd = (namespace = freshNamespace()): BusUnderTest => {
    let nodes = 0;
    return {
      async join(t) {
        const store = await etcdStore({ endpoints: etcd.endpoints, namespace }).open({ clock });
        const random = seededRandom(++nodes);
        const bus = new WatchBus(clock, random.fork('bus'), store);
        const metadata = new Metadata({ clock, random, store, bus, cacheBytes: 1024 ** 2 });
        t.after(() => metadata.stop().then(() => store.close()));
        await metadata.start();
        return metadata;
      },
    };
  };

  busContract("etcd's watch", async () => overEtcd());

  test('entries are readable with etcdctl, and one with a ttl ends for everybody', async (t) => {
    const namespace = freshNamespace();
    const bus = overEtcd(namespace);
    const [a, b] = [await bus.join(t), await bus.join(t)];
    await a.put('a:b', 'plan', 'current', { seats: 5 });
    const shown = await etcd.etcdctl('get', `/${namespace}/ns:a%3Ab:plan:current`);
    assert.match(shown, /\{"seats":5\}/);
    await a.put('acme', 'x', '1', 1, { ttl: '2s' });
    assert.equal((await b.get('acme', 'x', '1'))?.value, 1);
    await until('its end', async () => (await b.get('acme', 'x', '1')) === undefined);
    assert.equal(await a.get('acme', 'x', '1', { consistency: 'linearizable' }), undefined);
  });
});
