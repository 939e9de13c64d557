/**
 * The etcd store against real servers: certificates, users, restarts.
 */
import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { EventEmitter, once } from 'node:events';
import { cp, mkdir } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, type TestContext, test } from 'node:test';
import type { ChannelPayloads } from '../../../src/core/channels.js';
import type { MillraceError } from '../../../src/core/errors.js';
import type { Store } from '../../../src/core/store.js';
import { type EtcdStoreOptions, etcdStore } from '../../../src/store/etcd/index.js';
import { systemClock } from '../../../src/timing/system-clock.js';
import { EtcdCluster } from '../../support/etcd/index.js';
import { TcpProxy } from '../../support/tcp-proxy.js';

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

  test('servers that all refuse are STORE_UNAVAILABLE after 2 s, and named', async () => {
    const beganAt = performance.now();
    const store = etcdStore({ endpoints: ['http://127.0.0.1:1', 'http://127.0.0.1:2'] });
    await assert.rejects(store.open({ clock: systemClock }), {
      code: 'ERR_MILLRACE_STORE_UNAVAILABLE',
      message: /127\.0\.0\.1:1: .*ECONNREFUSED.*127\.0\.0\.1:2: .*ECONNREFUSED/,
    });
    assert.ok(performance.now() - beganAt < 4_000);
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
    // The server of TLS 1.3 says so after the handshake has ended on this side.
    assert.match(await refusal({ ca: tls!.authority.ca }), /wants a client certificate/);
    const { authority } = tls!;
    const expired = await authority.issue({ name: 'expired', days: -1 });
    assert.match(
      await refusal({ ca: authority.ca, ...expired }),
      /wants a client certificate|tls\.cert has expired/,
    );
    assert.match(await refusal({ ...tls!.client }), /tls\.ca does not hold the authority/);
    assert.match(await refusal({ ...good(), serverName: 'elsewhere.example' }), /another name/);
  });

  test('a server certificate that has expired is a typed error', async (t) => {
    const old = await EtcdCluster.start({
      tls: { server: (authority) => authority.issue({ name: 'server', days: -1 }) },
    });
    t.after(() => old.close());
    const store = etcdStore({ endpoints: old.endpoints, tls: { ca: old.tls!.authority.ca } });
    await assert.rejects(store.open({ clock: systemClock }), (error: MillraceError) => {
      assert.equal(error.code, 'ERR_MILLRACE_STORE_UNAVAILABLE');
      assert.equal(error.details?.reason, 'expired');
      assert.match(
        error.message,
        /127\.0\.0\.1:\d+: the server's certificate has expired; renew it/,
      );
      return true;
    });
  });

  test('a reconnect resumes the TLS session; after new certificates nothing is resumed', async (t) => {
    const proxy = await TcpProxy.listen({ port: etcd.node.clientPort });
    t.after(() => proxy.close());
    const own = path.join(etcd.folder, 'resumed');
    await mkdir(own);
    const files = {
      ca: etcd.tls!.authority.ca,
      cert: path.join(own, 'cert.pem'),
      key: path.join(own, 'key.pem'),
    };
    await cp(etcd.tls!.client.cert, files.cert);
    await cp(etcd.tls!.client.key, files.key);
    const resumed: boolean[] = [];
    const connected = new EventEmitter();
    const onConnected = (event: unknown): void => {
      const { endpoint, role, isResumed } = event as ChannelPayloads['millrace:store:connected'];
      if (role !== 'kv' || endpoint !== `127.0.0.1:${proxy.port}`) return;
      resumed.push(isResumed);
      connected.emit('kv');
    };
    subscribe('millrace:store:connected', onConnected);
    t.after(() => unsubscribe('millrace:store:connected', onConnected));
    const endpoints = `https://127.0.0.1:${proxy.port}`;
    const store = await open(t, { endpoints, tls: files, followMembers: false });
    proxy.cut();
    await store.get('a');
    assert.deepEqual(resumed, [false, true]);
    const next = await etcd.tls!.authority.issue({ name: 'next' });
    const renewed = once(connected, 'kv');
    await cp(next.cert, files.cert);
    await cp(next.key, files.key);
    await renewed;
    assert.deepEqual(resumed, [false, true, false]);
    proxy.cut();
    await store.get('a');
    assert.deepEqual(resumed, [false, true, false, true]);
  });

  test('new certificates are taken up while requests go on, and none fails', async (t) => {
    const folder = path.join(etcd.folder, 'rotated');
    const at = (name: string) => path.join(folder, name);
    const place = async (pair: { cert: string; key: string }) => {
      await cp(pair.cert, at('cert.pem'));
      await cp(pair.key, at('key.pem'));
    };
    await mkdir(folder, { recursive: true });
    await place(etcd.tls!.client);
    const files = { ca: etcd.tls!.authority.ca, cert: at('cert.pem'), key: at('key.pem') };
    const store = await open(t, { endpoints: etcd.endpoints, tls: files });
    let isOver = false;
    let done = 0;
    const load = Array.from({ length: 8 }, async () => {
      while (!isOver) {
        assert.equal((await store.txn(put('a'))).kind, 'done');
        done++;
      }
    });
    for (let rotation = 0; rotation < 3; rotation++) {
      await place(await etcd.tls!.authority.issue({ name: `client-${rotation}` }));
      // The files are looked at every two seconds; there is no event to wait for.
      await new Promise((resolve) => setTimeout(resolve, 2_200));
    }
    isOver = true;
    await Promise.all(load);
    assert.ok(done > 100, `${done} transactions`);
  });
});
