/** Locks and elections next to those of etcdctl, on the same names: each waits for the other, both ways. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { type CoordinationHandle, createCoordination } from '../../../src/create-coordination.js';
import { etcdStore } from '../../../src/store/etcd/index.js';
import { EtcdCluster } from '../../support/etcd/index.js';

let etcd: EtcdCluster;
let ours: CoordinationHandle;
let other: CoordinationHandle;
before(async () => {
  etcd = await EtcdCluster.start({ electionMs: 500 });
  const store = etcdStore({ endpoints: etcd.endpoints });
  ours = await createCoordination(store, { ttl: '5s' });
  other = await createCoordination(store, { ttl: '5s' });
});
after(async () => {
  await ours?.close();
  await other?.close();
  await etcd?.close();
});

/** An etcdctl that holds what it got until it is told to end; `got` resolves with what it printed then. */
function etcdctl(...args: readonly string[]): {
  readonly child: ChildProcess;
  readonly got: Promise<string>;
  hasGot(): boolean;
} {
  const { program, options, env } = etcd.etcdctlCommand();
  const child = spawn(program, [...options, ...args], {
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let hasGot = false;
  const lines = createInterface({ input: child.stdout! });
  const got = once(lines, 'line').then(([line]) => {
    hasGot = true;
    return line as string;
  });
  return { child, got, hasGot: () => hasGot };
}

/** How many keys stand in a line. */
async function lineLength(name: string): Promise<number> {
  const keys = await etcd.etcdctl('get', '--prefix', '--keys-only', `${name}/`);
  return keys.split('\n').filter((key) => key !== '').length;
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  // The server tells of it to watchers only, and this is about those.
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 20));
}

test('etcdctl holds: ours waits, and has a higher token than its revision', async () => {
  const holder = etcdctl('lock', 'theirs');
  const key = await holder.got;
  assert.match(key, /^theirs\/[0-9a-f]+$/);
  const info = JSON.parse(await etcd.etcdctl('get', '--write-out=json', key)) as {
    readonly kvs: readonly { readonly create_revision: number }[];
  };
  let entered = false;
  const waiting = ours.locks.withLock('theirs', { timeout: '30s' }, ({ token }) => {
    entered = true;
    return token;
  });
  await until(async () => (await lineLength('theirs')) === 2);
  assert.equal(entered, false);
  holder.child.kill('SIGTERM');
  assert.ok((await waiting) > BigInt(info.kvs[0]!.create_revision));
});

test('ours holds: etcdctl waits until it is released', async () => {
  let waiter: ReturnType<typeof etcdctl> | undefined;
  await ours.locks.withLock('ours', {}, async () => {
    waiter = etcdctl('lock', 'ours');
    await until(async () => (await lineLength('ours')) === 2);
    assert.equal(waiter.hasGot(), false);
  });
  assert.match(await waiter!.got, /^ours\//);
  waiter!.child.kill('SIGTERM');
  await once(waiter!.child, 'exit');
});

test('an etcdctl that was killed holds its lock to the end of its lease, and no longer', async () => {
  const holder = etcdctl('lock', '--ttl=2', 'dead');
  await holder.got;
  holder.child.kill('SIGKILL');
  const startMs = performance.now();
  assert.equal(await ours.locks.withLock('dead', { timeout: '20s' }, () => 'in'), 'in');
  assert.ok(performance.now() - startMs < 10_000);
});

test('a line of all kinds: shards, two of ours and etcdctl, each alone inside', async () => {
  let inside = 0;
  const tokens: bigint[] = [];
  const work = async ({ token }: { readonly token: bigint }): Promise<void> => {
    assert.equal(++inside, 1);
    tokens.push(token);
    await new Promise((resolve) => setTimeout(resolve, 5));
    inside--;
  };
  const holder = etcdctl('lock', 'mixed/7');
  await holder.got;
  const all = [ours, other, ours, other, ours].map((c) =>
    c.locks.withLock('mixed', { shard: 7, timeout: '30s' }, work),
  );
  await until(async () => (await lineLength('mixed/7')) === 3);
  holder.child.kill('SIGTERM');
  await Promise.all(all);
  assert.deepEqual(
    tokens,
    [...tokens].sort((a, b) => Number(a - b)),
  );
  assert.equal(new Set(tokens).size, 5);
  await until(async () => (await lineLength('mixed')) === 0);
});

test('etcdctl leads, ours follows; ours leads, etcdctl follows', async () => {
  const first = etcdctl('elect', 'head', 'alpha');
  await first.got;
  assert.equal((await ours.elections.leader('head'))?.value, 'alpha');
  const elected = ours.elections.campaign('head', 'beta');
  await until(async () => (await lineLength('head')) === 2);
  first.child.kill('SIGTERM');
  const leadership = await elected;
  assert.equal((await other.elections.leader('head'))?.value, 'beta');
  const next = etcdctl('elect', 'head', 'gamma');
  await until(async () => (await lineLength('head')) === 2);
  assert.equal(next.hasGot(), false);
  await leadership.resign();
  await next.got;
  assert.equal((await other.elections.leader('head'))?.value, 'gamma');
  next.child.kill('SIGTERM');
  await once(next.child, 'exit');
});

test('members of two processes see each other', async () => {
  const nodes = (await ours.members.list()).map(({ node }) => node);
  assert.deepEqual(nodes.sort(), [ours.members.node, other.members.node].sort());
});
