// Red when nobody starts the canary, or when it tells the time until the write was acknowledged.
import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { test } from 'node:test';
import type { ChannelPayloads } from '../../../src/core/channels.js';
import { createCoordination } from '../../../src/create-coordination.js';
import { etcdStore } from '../../../src/store/etcd/index.js';
import { EtcdCluster } from '../../support/etcd/index.js';
import { freshNamespace, openEtcd } from '../../support/etcd/store.js';
import { soon, until } from '../../support/limit.js';
import type { TcpProxy } from '../../support/tcp-proxy.js';

const EACH_WAY_MS = 100;

test('a member of a store that is far away publishes how late its watches are', async (t) => {
  const etcd = await EtcdCluster.start({ hasProxies: true });
  t.after(() => etcd.close());
  const namespace = freshNamespace();
  const direct = { endpoints: etcd.endpoints, namespace, followMembers: false };
  const witness = await openEtcd(t, direct);
  (etcd.proxies[0] as TcpProxy).delayMs = EACH_WAY_MS;
  const delays: ChannelPayloads['millrace:watch:delay'][] = [];
  const listen = (message: unknown): void => void delays.push(message as (typeof delays)[number]);
  subscribe('millrace:watch:delay', listen);
  t.after(() => unsubscribe('millrace:watch:delay', listen));
  const factory = etcdStore({ endpoints: etcd.proxiedEndpoints, namespace });
  const coordination = await createCoordination(factory, { node: 'far' });
  t.after(() => coordination.close());
  await until('a delay', () => delays.length > 0);
  const [first] = delays;
  assert.equal(first?.class, 'control');
  assert.ok(first.delayMs >= 2 * EACH_WAY_MS, `${first.delayMs} ms`);
  const entry = await witness.get('y/far');
  assert.equal(entry?.leaseId, coordination.session.leaseId);
  await soon('it closes', coordination.close());
  assert.equal(await witness.get('y/far'), undefined);
});
