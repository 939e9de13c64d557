/**
 * A node of the fleet that is killed: `node takeover-node.js <endpoints> <namespace> <ttl ms>`. It says when it is there
 * and then does what a node does, until it is dead.
 */
import { createRuntime } from '../../src/index.js';
import { etcdStore } from '../../src/store/etcd/index.js';

const [endpoints = '', namespace = '', ttlMs = ''] = process.argv.slice(2);
await createRuntime({
  tasks: new URL('./takeover-tasks.js', import.meta.url),
  store: etcdStore({ endpoints: endpoints.split(','), namespace }),
  session: { ttl: Number(ttlMs) },
});
process.send?.('there');
process.on('disconnect', () => process.exit());
