/**
 * A service that runs tasks. Start as many as you like, on any machines: they share the work, and what one leaves is taken over.
 *
 *   ETCD=http://localhost:2379 node dist/examples/services-on-etcd/worker.js
 *
 * Ctrl-C or SIGTERM ends it gently: what runs may end, what waits goes to the others.
 */
import { createRuntime } from 'millrace';
import { etcdStore } from 'millrace/etcd';

const endpoints = (process.env.ETCD ?? 'http://localhost:2379').split(',');
await createRuntime({
  tasks: new URL('./tasks.js', import.meta.url),
  store: etcdStore({ endpoints, namespace: 'shop' }),
  signals: true,
});
console.log('ready');
