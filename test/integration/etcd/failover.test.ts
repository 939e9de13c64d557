// Red when a write is told as done that is not there, is there more than once, or is missed or told twice by a watch.
import assert from 'node:assert/strict';
import { after, before, describe, type TestContext, test } from 'node:test';
import type { Revision, Store, WatchBatch } from '../../../src/core/store.js';
import { prefixRange } from '../../../src/core/store.js';
import { apply, put, text } from '../../conformance/store/harness.js';
import { EtcdCluster } from '../../support/etcd/index.js';
import { freshNamespace, openEtcd } from '../../support/etcd/store.js';
import { soon, until } from '../../support/limit.js';

const WRITERS = 8;

describe('three nodes, writers and a watcher', () => {
  let etcd: EtcdCluster;
  before(async () => {
    etcd = await EtcdCluster.start({ nodes: 3, electionMs: 500, canPart: true });
  });
  after(() => etcd.close());

  test('the leader is killed', async (t) => {
    const load = await startLoad(t, etcd);
    const leader = await etcd.leader();
    await load.progress();
    await leader.kill();
    await load.progress();
    await leader.start();
    await load.finish();
  });

  test('a follower is killed', async (t) => {
    const load = await startLoad(t, etcd);
    const follower = await etcd.follower();
    await load.progress();
    await follower.kill();
    await load.progress();
    await follower.start();
    await load.finish();
  });

  test('the leader is alone on its side of a partition', async (t) => {
    const load = await startLoad(t, etcd);
    const leader = await etcd.leader();
    await load.progress();
    etcd.part(leader);
    await etcd.leader(leader);
    await load.progress();
    etcd.heal();
    await load.progress();
    await load.finish();
  });

  test('the leader is stopped, and goes on', async (t) => {
    const load = await startLoad(t, etcd);
    const leader = await etcd.leader();
    await load.progress();
    leader.stop();
    t.after(() => leader.cont());
    await etcd.leader(leader);
    await load.progress();
    leader.cont();
    await load.progress();
    await load.finish();
  });
});

/**
 * Writers that count by compare-and-set, each a key of its own, and a watcher of all keys. In the end every version of
 * every key must be one that its writer wrote once, and the watcher must have seen each of them, once, in order.
 */
async function startLoad(t: TestContext, etcd: EtcdCluster) {
  const namespace = freshNamespace();
  const store = await openEtcd(t, { endpoints: etcd.endpoints, namespace });
  const start = await apply(store, put('start'));
  const seen = new Map<string, number[]>();
  const stop = new AbortController();
  t.after(() => stop.abort());
  const watching = watchAll(store, (start + 1) as Revision, seen, stop.signal);
  let done = 0;
  let isOver = false;
  t.after(() => {
    isOver = true;
  });
  const writers = Array.from({ length: WRITERS }, (_, writer) =>
    (async () => {
      const key = `w/${writer}`;
      let value = 0;
      let version = 0;
      while (!isOver) {
        const attempt = `${writer}-${value++}`;
        const outcome = await store
          .txn({
            compares: [{ target: 'version', key, operator: '=', operand: version }],
            success: [put(key, attempt)],
          })
          .catch((error: { code: string }) => {
            assert.equal(error.code, 'ERR_MILLRACE_STORE_UNAVAILABLE');
            return undefined;
          });
        if (outcome?.kind === 'done') {
          version++;
          done++;
        } else if (outcome !== undefined) {
          // Nobody else writes this key: a refusal can only come from a write of ours that was told as unknown.
          const entry = await readUntilThere(store, key);
          if (entry.version === version + 1) version++;
          assert.equal(entry.version, version, `${key} was written more often than told`);
        }
      }
      return { key, version };
    })(),
  );
  return {
    /** Waits until more was written than could have been under way. */
    async progress(): Promise<void> {
      const goal = done + 10 * WRITERS;
      await until(`${goal} writes`, () => done >= goal);
    },
    async finish(): Promise<void> {
      isOver = true;
      const ends = await soon('the writers', Promise.all(writers));
      const last = await apply(store, put('w/last'));
      await until('the watcher has caught up', () => seen.has('w/last'));
      stop.abort();
      await watching;
      assert.ok(last > start);
      for (const { key, version } of ends) {
        const versions = seen.get(key) ?? [];
        const newest = versions.length;
        assert.ok(newest >= version && newest <= version + 1, `${key}: ${newest}, not ${version}`);
        assert.deepEqual(
          versions,
          Array.from({ length: newest }, (_, index) => index + 1),
          `${key}: missed or told twice`,
        );
        const entry = await store.get(key);
        assert.equal(entry?.version, newest);
        assert.match(text(entry) ?? '', /^\d+-\d+$/);
      }
    },
  };
}

async function watchAll(
  store: Store,
  startRevision: Revision,
  seen: Map<string, number[]>,
  signal: AbortSignal,
): Promise<void> {
  let newest = 0;
  for await (const batch of store.watch(prefixRange('w/'), { startRevision, signal })) {
    const { revision, events }: WatchBatch = batch;
    assert.ok(revision > newest, `revision ${revision} after ${newest}`);
    newest = revision;
    for (const event of events) {
      assert.equal(event.type, 'put');
      if (event.type !== 'put') continue;
      const versions = seen.get(event.entry.key) ?? [];
      versions.push(event.entry.version);
      seen.set(event.entry.key, versions);
    }
  }
}

async function readUntilThere(store: Store, key: string): Promise<{ readonly version: number }> {
  for (;;) {
    try {
      return (await store.get(key)) ?? { version: 0 };
    } catch (error) {
      assert.equal((error as { code: string }).code, 'ERR_MILLRACE_STORE_UNAVAILABLE');
    }
  }
}
