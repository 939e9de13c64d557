import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { type FollowBatch, follow } from '../../src/core/follow.js';
import { prefixRange } from '../../src/core/store.js';
import { memoryStore } from '../../src/store/index.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';
import { apply, del, put } from '../conformance/store/harness.js';

async function setup(t: TestContext) {
  const store = await memoryStore().open({ clock: new VirtualClock() });
  t.after(() => store.close());
  const stopping = new AbortController();
  const following = follow(store, prefixRange('k/'), { signal: stopping.signal });
  const next = async (): Promise<string> => {
    const { done, value } = await following.next();
    return done ? 'over' : brief(value);
  };
  return { store, stopping, next };
}

function brief({ kind, events }: FollowBatch): string {
  const words = events.map((event) =>
    event.type === 'put' ? `${event.entry.key}=${Buffer.from(event.entry.value)}` : `-${event.key}`,
  );
  return [kind, ...words].join(' ');
}

test('a range is told as it is and then as it changes', async (t) => {
  const { store, stopping, next } = await setup(t);
  await apply(store, put('k/a', '1'), put('other'));
  assert.equal(await next(), 'list k/a=1');
  await apply(store, put('k/b', '1'), del('k/a'));
  assert.equal(await next(), 'change -k/a k/b=1');
  stopping.abort();
  assert.equal(await next(), 'over');
});

test('an empty range is told too, so that a reader knows that it is up to date', async (t) => {
  const { next } = await setup(t);
  assert.equal(await next(), 'list');
});

test('after a compaction the difference is told, with what has gone', async (t) => {
  // Red with a follower that only lists again: k/gone would stay in its reader's picture for ever.
  const { store, next } = await setup(t);
  await apply(store, put('k/changed', '1'), put('k/gone', '1'), put('k/same', '1'));
  assert.equal(await next(), 'list k/changed=1 k/gone=1 k/same=1');
  await apply(store, put('k/late', '1'));
  assert.equal(await next(), 'change k/late=1');
  await apply(store, put('k/changed', '2'), put('k/passing', '1'));
  await apply(store, del('k/gone'), del('k/passing'), del('k/late'));
  await apply(store, put('k/late', '2'));
  await store.compact(await apply(store, put('k/new', '1')));
  assert.equal(await next(), 'relist k/changed=2 -k/gone k/late=2 k/new=1');
  await apply(store, put('k/same', '2'));
  assert.equal(await next(), 'change k/same=2');
});

test('a closed store ends a following with its error', async (t) => {
  const { store, next } = await setup(t);
  await next();
  const waiting = next();
  await store.close();
  await assert.rejects(waiting, { code: 'ERR_MILLRACE_CLOSED' });
});
