import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Writer } from '../../../src/store/etcd/protobuf.js';
import { type ConnectOptions, shareTransport } from '../../../src/store/etcd/shared-transport.js';
import { systemClock } from '../../../src/timing/system-clock.js';
import { fakeServer } from './fake-server.js';

const EMPTY = new Writer(8).finish();
const KV = { role: 'kv', deadlineMs: 5_000 } as const;

function optionsFor(authority: string): ConnectOptions {
  return {
    endpoints: [authority],
    tls: undefined,
    auth: undefined,
    followMembers: false,
    sharesConnections: true,
    keepsTlsSessions: true,
  };
}

test('stores on the same endpoints share a connection until the last one lets go', async (t) => {
  const server = await fakeServer(t);
  const options = optionsFor(server.endpoint.authority);
  const users = [1, 2, 3].map(() => shareTransport(systemClock, options));
  await Promise.all(users.map(({ transport }) => transport.call('/test/A', EMPTY, KV)));
  assert.equal(server.sessions.length, 1);
  await users[0]!.release();
  await users[1]!.release();
  await users[2]!.transport.call('/test/A', EMPTY, KV);
  await users[2]!.release();
  await assert.rejects(users[2]!.transport.call('/test/A', EMPTY, KV));
  // Whoever comes after the last one begins anew.
  const next = shareTransport(systemClock, options);
  await next.transport.call('/test/A', EMPTY, KV);
  await next.release();
  assert.equal(server.sessions.length, 2);
});

test('another user never shares', async (t) => {
  const server = await fakeServer(t);
  const options = optionsFor(server.endpoint.authority);
  const user = (password: string) =>
    shareTransport(systemClock, { ...options, auth: { user: 'u', password } });
  const [a, b, c] = [user('one'), user('two'), user('one')];
  assert.notEqual(a.transport, b.transport);
  assert.equal(a.transport, c.transport);
  await Promise.all([a, b, c].map(({ release }) => release()));
});

test('without sharing each call has a connection of its own', async (t) => {
  const server = await fakeServer(t);
  const { transport, release } = shareTransport(systemClock, {
    ...optionsFor(server.endpoint.authority),
    sharesConnections: false,
  });
  for (let call = 0; call < 3; call++) await transport.call('/test/A', EMPTY, KV);
  assert.equal(server.sessions.length, 3);
  await release();
});
