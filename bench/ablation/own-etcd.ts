/** A row of the ablation on an etcd that is started for it. */
import type { AblationSettings } from '../../src/cli/loadtest/ablation-plan.js';
import { measureRow } from '../../src/cli/loadtest/ablation-row.js';
import type { Switch } from '../../src/runtime-options.js';
import { etcdStore } from '../../src/store/etcd/index.js';
import { EtcdCluster, NotToBeHad } from '../../test/support/etcd/index.js';
import { type Sample, Unavailable } from '../lib/bench.js';

export async function onOwnEtcd(
  off: readonly Switch[],
  settings: AblationSettings,
): Promise<Sample> {
  const etcd = await EtcdCluster.start({ tls: {} }).catch((error: unknown) => {
    throw error instanceof NotToBeHad ? new Unavailable(error.message) : error;
  });
  try {
    const { endpoints, tls } = etcd;
    const store = etcdStore({ endpoints, tls: { ca: tls!.authority.ca }, namespace: 'ablation' });
    return await measureRow(store, off, settings);
  } finally {
    await etcd.close();
  }
}
