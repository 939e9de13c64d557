import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { Compare, LeaseId, Revision, Store } from '../../src/core/store.js';
import { encodeLetter } from '../../src/engine/letters.js';
import { Reaper } from '../../src/engine/reaper.js';
import { memoryStore } from '../../src/store/index.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';

const GONE_AFTER_MS = 600_000;
const TASK = 'default.00.0mg2x9k1f.7c4k2m9p00000001.0f' as never;

async function setup(t: TestContext) {
  const clock = new VirtualClock();
  const store = await memoryStore().open({ clock });
  const there = new Set<string>();
  const world = {
    clock,
    store,
    there,
    mandate: { target: 'version', key: 'm/x', operator: '=', operand: 0 } as Compare | undefined,
    put: (key: string, value: Uint8Array = Buffer.from('x')) =>
      store.txn({ compares: [], success: [{ type: 'put', key, value }] }),
    async keys(): Promise<string[]> {
      const { entries } = await store.range({ from: '!', to: '~' });
      return entries.map(({ key }) => key).filter((key) => !key.startsWith('m/'));
    },
    start(): Reaper {
      const reaper = new Reaper({
        clock,
        store,
        members: {
          list: async () =>
            [...there].map((node) => ({
              node,
              record: {},
              joinedAt: 1 as Revision,
              leaseId: '1' as LeaseId,
            })),
        },
        mandate: () => world.mandate,
        goneAfterMs: GONE_AFTER_MS,
      });
      void reaper.start();
      t.after(() => reaper.stop());
      return reaper;
    },
  };
  t.after(() => store.close());
  return world;
}

const subscribe = (from: string) => encodeLetter({ kind: 'subscribe', from, tasks: [TASK] });
const cancel = (from: string) => encodeLetter({ kind: 'cancel', from, number: 1, task: TASK });

async function leaveThings(store: { put: (key: string, value?: Uint8Array) => unknown }) {
  await store.put('h/deadnode');
  await store.put('h/livenode');
  await store.put('r/deadnode/livenode00000001');
  await store.put('r/livenode/deadnode00000002');
  await store.put('c/default/00/deadnode00000001', subscribe('deadnode'));
  await store.put('c/default/01/deadnode00000002', cancel('deadnode'));
  await store.put('c/default/01/livenode00000001', subscribe('livenode'));
  await store.put('i/default/00/0mg2x9k1f/deadnode00000001');
}

const LEFT = [
  'c/default/01/deadnode00000002',
  'c/default/01/livenode00000001',
  'h/livenode',
  'i/default/00/0mg2x9k1f/deadnode00000001',
  'r/livenode/deadnode00000002',
];

test('head, mail and subscriptions of a node that is gone for good go, nothing else does', async (t) => {
  const w = await setup(t);
  await leaveThings(w);
  w.there.add('livenode');
  w.start();
  await w.clock.advance(GONE_AFTER_MS);
  assert.equal((await w.keys()).length, 8, 'not yet');
  await w.clock.advance(120_000);
  assert.deepEqual(await w.keys(), LEFT);
});

test('a node that is there again has its time begin anew when it goes', async (t) => {
  const w = await setup(t);
  await w.put('h/deadnode');
  w.start();
  await w.clock.advance(GONE_AFTER_MS - 60_000);
  w.there.add('deadnode');
  await w.clock.advance(60_000);
  w.there.delete('deadnode');
  await w.clock.advance(GONE_AFTER_MS);
  assert.deepEqual(await w.keys(), ['h/deadnode']);
  await w.clock.advance(120_000);
  assert.deepEqual(await w.keys(), []);
});

test('absence outlives the process that saw it first', async (t) => {
  const w = await setup(t);
  await w.put('h/deadnode');
  const first = w.start();
  await w.clock.advance(GONE_AFTER_MS - 120_000);
  await first.stop();
  w.start();
  await w.clock.advance(240_000);
  assert.deepEqual(await w.keys(), []);
});

test('whoever is not the supervisor leaves everything', async (t) => {
  const w = await setup(t);
  await w.put('h/deadnode');
  w.mandate = undefined;
  w.start();
  await w.clock.advance(3 * GONE_AFTER_MS);
  assert.deepEqual(await w.keys(), ['h/deadnode']);
});

for (const [what, key] of [
  ['one that has lost its office', 'm/x'],
  ['one that has joined meanwhile', 'n/deadnode'],
] as const) {
  test(`nothing is deleted by, or of, ${what}`, async (t) => {
    const w = await setup(t);
    await w.put('h/deadnode');
    w.start();
    await w.clock.advance(GONE_AFTER_MS - 60_000);
    await w.put(key);
    await w.clock.advance(2 * GONE_AFTER_MS);
    assert.ok((await w.keys()).includes('h/deadnode'));
  });
}

test('what another version wrote is left, and does not keep the rest', async (t) => {
  const w = await setup(t);
  await w.put('m/gone', Buffer.from('?'));
  await w.put('c/default/00/deadnode00000001', Buffer.from('{"format":9}'));
  await w.put('h/deadnode');
  w.start();
  await w.clock.advance(GONE_AFTER_MS + 180_000);
  assert.deepEqual(await w.keys(), ['c/default/00/deadnode00000001']);
});

test('start, stop: without start, and twice', async (t) => {
  const w = await setup(t);
  const reaper = w.start();
  await reaper.stop();
  await reaper.stop();
  const unstarted = new Reaper({
    clock: w.clock,
    store: w.store as Store,
    members: { list: async () => [] },
    mandate: () => undefined,
  });
  await unstarted.stop();
  assert.equal(w.clock.sleeping, 0);
});
