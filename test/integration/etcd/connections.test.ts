/**
 * The etcd store against real servers: certificates, users, restarts.
 */
import assert from 'node:assert/strict';
import { after, before, describe, type TestContext, test } from 'node:test';
import type { Store } from '../../../src/core/store.js';
import { type EtcdStoreOptions, etcdStore } from '../../../src/store/etcd/index.js';
import { systemClock } from '../../../src/timing/system-clock.js';
import { EtcdCluster } from '../../support/etcd/index.js';

async function open(t: TestContext, options: EtcdStoreOptions): Promise<Store> {
  const store = await etcdStore(options).open({ clock: systemClock });
  t.after(() => store.close());
  return store;
}

const put = (key: string) =>
  ({ compares: [], success: [{ type: 'put', key, value: Buffer.from('x') }] }) as const;

describe('etcd without TLS', () => {
  let etcd: EtcdCluster;
  before(async () => {
    etcd = await EtcdCluster.start({ electionMs: 500 });
  });
  after(() => etcd.close());

  test('reads wait out a restart, and writes that were not sent do too', async (t) => {
    const store = await open(t, { endpoints: etcd.endpoints });
    await store.txn(put('a'));
    await etcd.node.kill();
    const read = store.get('a');
    const write = store.txn(put('b'));
    await etcd.node.start();
    assert.ok(await read);
    const outcome = await write;
    assert.ok(outcome.kind === 'done' || outcome.kind === 'unknown');
  });

  test('a namespace sees its own keys only; the lock space sees whole keys', async (t) => {
    const { endpoints } = etcd;
    const [a, b] = [
      await open(t, { endpoints, namespace: 'a' }),
      await open(t, { endpoints, namespace: 'b' }),
    ];
    await a.txn(put('key'));
    assert.equal(await b.get('key'), undefined);
    assert.equal((await a.lockSpace!.store.get('/a/key'))?.key, '/a/key');
    assert.equal(await etcd.etcdctl('get', '--print-value-only', '/a/key'), 'x\n');
  });

  test('no server within the time is STORE_UNAVAILABLE and names it', async () => {
    const store = etcdStore({ endpoints: 'http://127.0.0.1:1' });
    await assert.rejects(store.open({ clock: systemClock }), {
      code: 'ERR_MILLRACE_STORE_UNAVAILABLE',
      message: /127\.0\.0\.1:1: .*ECONNREFUSED/,
    });
  });

  test('users: a right password works, a wrong one and a foreign key are told apart', async (t) => {
    const { endpoints } = etcd;
    await etcd.enableAuth('secret', { name: 'limited', password: 'pw', prefix: '/mine/' });
    const auth = { user: 'limited', password: 'pw' };
    const mine = await open(t, { endpoints, auth, namespace: 'mine' });
    assert.equal((await mine.txn(put('a'))).kind, 'done');
    const theirs = etcdStore({ endpoints, auth, namespace: 'theirs' });
    await assert.rejects(theirs.open({ clock: systemClock }), {
      message: /grant its role the namespace/,
    });
    const wrong = etcdStore({ endpoints, auth: { user: 'limited', password: 'no' } });
    await assert.rejects(wrong.open({ clock: systemClock }), { message: /does not know the user/ });
  });
});

describe('etcd with TLS', () => {
  let etcd: EtcdCluster;
  before(async () => {
    etcd = await EtcdCluster.start({ electionMs: 500, tls: { requiresClient: true } });
  });
  after(() => etcd.close());
  const good = () => ({ ca: etcd.tls!.authority.ca, ...etcd.tls!.client });

  test('both sides show certificates of the authority', async (t) => {
    const store = await open(t, { endpoints: etcd.endpoints, tls: good() });
    assert.equal((await store.txn(put('a'))).kind, 'done');
  });

  test('what is wrong with a certificate is said in words', async () => {
    const { endpoints, tls } = etcd;
    const refusal = async (options: EtcdStoreOptions['tls']) => {
      const store = etcdStore({ endpoints, tls: options! });
      const error = await store.open({ clock: systemClock }).then(
        () => assert.fail('it should not connect'),
        (reason: Error) => reason,
      );
      return error.message;
    };
    assert.match(await refusal({ ...tls!.client }), /tls\.ca does not hold the authority/);
    assert.match(await refusal({ ...good(), serverName: 'elsewhere.example' }), /another name/);
  });
});
