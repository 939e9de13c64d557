// Red when nothing tells the runtime that its store is slow, or nothing that it is well again.
import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { EventEmitter, once } from 'node:events';
import { type TestContext, test } from 'node:test';
import type { ChannelPayloads } from '../../../src/core/channels.js';
import { createRuntime, defineTask, defineTasks } from '../../../src/index.js';
import { etcdStore } from '../../../src/store/etcd/index.js';
import { closing } from '../../support/closing.js';
import { EtcdCluster } from '../../support/etcd/index.js';
import { freshNamespace } from '../../support/etcd/store.js';
import type { TcpProxy } from '../../support/tcp-proxy.js';

const LIMIT_MS = 30_000;
/** Short, where the default is half a minute (test/healing/degradation.test.ts); so the delay is taken every 800 ms. */
const WATCH_DELAY = { above: '400ms', for: '800ms' } as const;
const EACH_WAY_MS = 250;
const work = defineTask({ name: 'work', exec: 'inline', run: (n: number) => n });
const tasks = defineTasks({ work });

type Degraded = ChannelPayloads['millrace:runtime:degraded'];

/** Follows what runtimes of this process say of themselves: on a busy machine one may have said it already. */
function follow(t: TestContext) {
  let last: Degraded | undefined;
  const heard = new EventEmitter();
  const listener = (said: unknown): void => {
    last = said as Degraded;
    heard.emit('change');
  };
  subscribe('millrace:runtime:degraded', listener);
  t.after(() => unsubscribe('millrace:runtime:degraded', listener));
  /** Resolves with the last change when it is of this kind. */
  return async (isDegraded: boolean): Promise<Degraded> => {
    while (last?.isDegraded !== isDegraded) await once(heard, 'change');
    return last;
  };
}

test('a slowed etcd degrades the runtime, which recovers with it', {
  timeout: LIMIT_MS,
}, async (t) => {
  const change = follow(t);
  const etcd = await EtcdCluster.start({ hasProxies: true });
  const atEnd = closing(t);
  atEnd(() => etcd.close());
  const proxy = etcd.proxies[0] as TcpProxy;
  const runtime = await createRuntime({
    tasks,
    store: etcdStore({ endpoints: etcd.proxiedEndpoints, namespace: freshNamespace() }),
    healing: { rules: { watchDelay: WATCH_DELAY } },
    shutdown: { soft: 0, hard: 0 },
  });
  atEnd(() => runtime.close());
  const low = { priority: -1 };
  await (await runtime.submit(work, 1, low)).result();

  proxy.delayMs = EACH_WAY_MS;
  assert.match((await change(true)).reason, /^watch-delay/);
  await assert.rejects(runtime.submit(work, 2, low), (error: { code: string; details: object }) => {
    assert.equal(error.code, 'ERR_MILLRACE_QUEUE_FULL');
    assert.equal((error.details as { reason: string }).reason, 'shed');
    return true;
  });
  // What does not say of itself that it can wait is done, if slowly.
  assert.equal(await (await runtime.submit(work, 3)).result(), 3);

  proxy.delayMs = 0;
  await change(false);
  assert.equal(await (await runtime.submit(work, 4, low)).result(), 4);
  // While there is a store to take leave of.
  await runtime.close();
});
