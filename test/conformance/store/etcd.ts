/** The store's contract on real etcd servers, as many as a cluster is to have; a file of tests for each size. */
import { after, before, describe } from 'node:test';
import { etcdStore } from '../../../src/store/etcd/index.js';
import { systemClock } from '../../../src/timing/system-clock.js';
import { EtcdCluster } from '../../support/etcd/index.js';
import { storeConformance } from './suite.js';

export function etcdConformance(nodes: number): void {
  describe(`etcd with ${nodes} node${nodes === 1 ? '' : 's'}`, () => {
    let cluster: EtcdCluster;
    let namespaces = 0;
    before(async () => {
      cluster = await EtcdCluster.start({ nodes, electionMs: 500 });
    });
    after(() => cluster.close());

    storeConformance(
      'etcd store',
      async () => {
        const namespace = `conformance-${++namespaces}`;
        const store = await etcdStore({ endpoints: cluster.endpoints, namespace }).open({
          clock: systemClock,
        });
        return {
          store,
          // Its leases go by the server's clock: time passes by itself.
          advance: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
          dispose: () => store.close(),
        };
      },
      { appliesInOrderOfCalls: false },
    );
  });
}
