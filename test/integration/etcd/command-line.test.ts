/**
 * `millrace` with its tasks in a real etcd, over TLS, as a user.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setup } from '../../cli/process.js';
import { EtcdCluster } from '../../support/etcd/index.js';

test('demo keeps its tasks in etcd, and a second run finds them done', async (t) => {
  const etcd = await EtcdCluster.start({ tls: { requiresClient: true } });
  t.after(() => etcd.close());
  await etcd.enableAuth('secret', { name: 'orders', password: 'pw', prefix: '/orders/' });
  const { write, start } = setup(t);
  write({ 'files/a.txt': 'one', 'files/b.txt': 'two' });
  const hosts = etcd.endpoints.map((endpoint) => endpoint.replace('https://', '')).join();
  const { ca } = etcd.tls!.authority;
  const { cert, key } = etcd.tls!.client;
  const certificates = ['--etcd-ca', ca, '--etcd-cert', cert, '--etcd-key', key];
  const store = ['--store', `etcd://${hosts}/orders`, ...certificates, '--etcd-user', 'orders'];
  const run = (password: string) => {
    const environment = ['env', `MILLRACE_ETCD_PASSWORD=${password}`];
    const { child, outcome } = start(['demo', 'files', '--json', ...store], environment);
    child.stdin?.end();
    return outcome;
  };
  const first = await run('pw');
  assert.equal(first.code, 0, first.stderr);
  assert.notEqual(await etcd.etcdctl('get', '--prefix', '--keys-only', '/orders/'), '');
  assert.equal((await run('pw')).code, 0);
  const wrong = await run('not-the-one');
  assert.equal(wrong.code, 3, wrong.stderr);
  assert.match(wrong.stderr, /does not know the user/);
  assert.doesNotMatch(wrong.stderr, /not-the-one/);
});
