/** Stores on a test's etcd. */
import type { TestContext } from 'node:test';
import type { Store } from '../../../src/core/store.js';
import { type EtcdStoreOptions, etcdStore } from '../../../src/store/etcd/index.js';
import { systemClock } from '../../../src/timing/system-clock.js';

let namespaces = 0;

/** A namespace that no other test of this process uses: many tests share one server. */
export function freshNamespace(): string {
  return `test-${++namespaces}`;
}

/** Opens a store that is closed after the test. */
export async function openEtcd(t: TestContext, options: EtcdStoreOptions): Promise<Store> {
  const store = await etcdStore(options).open({ clock: systemClock });
  t.after(() => store.close());
  return store;
}
