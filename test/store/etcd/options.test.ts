import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseEndpoint } from '../../../src/store/etcd/endpoint.js';
import { type EtcdStoreOptions, etcdStore } from '../../../src/store/etcd/index.js';

const refused = { code: 'ERR_MILLRACE_INVALID_OPTION' };

test('an endpoint is a host, with a port, a scheme or both', () => {
  const place = (text: string, isTls = false) => {
    const { host, port, isTls: secure, authority } = parseEndpoint(text, isTls);
    return `${secure ? 'tls' : 'plain'} ${host} ${port} ${authority}`;
  };
  assert.equal(place('etcd-1'), 'plain etcd-1 2379 etcd-1:2379');
  assert.equal(place('etcd-1:99', true), 'tls etcd-1 99 etcd-1:99');
  assert.equal(place('https://etcd-1'), 'tls etcd-1 2379 etcd-1:2379');
  assert.equal(place('https://etcd-1:443/'), 'tls etcd-1 443 etcd-1:443');
  assert.equal(place('http://[::1]:2379'), 'plain ::1 2379 [::1]:2379');
  for (const text of [
    '',
    'http://',
    'a b',
    'http://a/path',
    'http://u:p@a',
    'a:99999',
    'ftp://a',
  ]) {
    assert.throws(() => parseEndpoint(text, false), refused, text);
  }
});

test('options that cannot work are refused before anything connects', () => {
  for (const options of [
    { endpoints: [] },
    { endpoints: 5 },
    { endpoints: ['http://a', 'https://b'] },
    { endpoints: 'http://a', tls: {} },
    { endpoints: 'a', namespace: '' },
    { endpoints: 'a', namespace: '/a' },
    { endpoints: 'a', namespace: 'a/' },
    { endpoints: 'a', namespace: 'a b' },
    { endpoints: 'a', lockPrefix: 'ä' },
    { endpoints: 'a', auth: { user: '', password: 'p' } },
    { endpoints: 'a', auth: { user: 'u' } },
    { endpoints: 'a', tls: { certificate: 'x' } },
    { endpoints: 'a', quota: 'much' },
  ]) {
    assert.throws(() => etcdStore(options as unknown as EtcdStoreOptions), refused);
  }
  assert.equal(etcdStore({ endpoints: 'a', namespace: 'a/b' }).location, 'etcd://a:2379/a/b');
});

test('no password ends up in a message', () => {
  const auth = { user: 'u', password: { secret: 'swordfish' } };
  assert.throws(
    () => etcdStore({ endpoints: 'a', auth } as unknown as EtcdStoreOptions),
    (error: Error) => !JSON.stringify({ ...error, m: error.message }).includes('swordfish'),
  );
});
