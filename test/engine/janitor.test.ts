/**
 * What the janitor deletes of what has ended, and when: by age, by bytes, a page after the other, and never what was just filed.
 */
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { FrameKind, FrameWriter } from '../../src/core/frame.js';
import { dueDigits, type SegmentRef } from '../../src/core/ids.js';
import { writeState } from '../../src/core/records.js';
import { TaskState } from '../../src/core/states.js';
import { Janitor } from '../../src/engine/janitor.js';
import { finishedPrefix } from '../../src/engine/keys.js';
import { memoryStore } from '../../src/store/index.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';
import { FaultyStore } from '../support/faulty-store.js';

const KB = 1_024;
const MINUTE_MS = 60_000;

async function setup(
  t: TestContext,
  retention: { completedMs?: number; kilobytes?: number; deadKilobytes?: number } = {},
  nodes = { count: 1 },
) {
  const clock = new VirtualClock();
  const store = new FaultyStore(await memoryStore().open({ clock }));
  const bounds = {
    completedMs: retention.completedMs ?? 3_600_000,
    completedBytesMax: (retention.kilobytes ?? 1_000_000) * KB,
    failedMs: 3_600_000,
    failedBytesMax: (retention.deadKilobytes ?? 1_000_000) * KB,
    idempotencyMs: 3_600_000,
  };
  const janitor = new Janitor(store, clock, bounds, () => nodes.count);
  await janitor.start();
  t.after(async () => {
    await janitor.stop();
    await store.close();
  });
  let count = 0;
  /** Files a kilobyte of a task that was due so long ago. @returns its name */
  const file = async (
    { dueAgoMs = 0, shard = 0, byUs = true } = {},
    name = `n${count++}`,
  ): Promise<string> => {
    const due = dueDigits(clock.wallMs() - dueAgoMs);
    const segment = `default.0${shard}.${due}.${name.padEnd(16, '0')}` as SegmentRef;
    if (byUs) janitor.noteFiled(segment, KB);
    const key = `${finishedPrefix(segment)}${name}`;
    await store.txn({ compares: [], success: [{ type: 'put', key, value: endedFrame(clock) }] });
    return name;
  };
  /** Files one a second. */
  const fileFor = async (seconds: number): Promise<string[]> => {
    const names: string[] = [];
    for (let i = 0; i < seconds; i++) {
      names.push(await file({ shard: i % 3 }));
      await clock.advance(1_000);
    }
    return names;
  };
  const kept = async (): Promise<string[]> => {
    const { entries } = await store.range({ from: 'z/', to: 'z0' });
    const names = entries.map(({ key }) => key.slice(key.lastIndexOf('/') + 1));
    return names.sort((a, b) => Number(a.slice(1)) - Number(b.slice(1)));
  };
  return { clock, store, janitor, file, fileFor, kept };
}

/** One task that has ended now, in a kilobyte. */
function endedFrame(clock: VirtualClock): Uint8Array<ArrayBuffer> {
  const writer = new FrameWriter(FrameKind.STATES, { records: 1 });
  writeState(writer, {
    index: 0,
    state: TaskState.COMPLETED,
    attempt: 1,
    losses: 0,
    dueAtMs: clock.wallMs(),
    atMs: clock.wallMs(),
    executor: '',
    version: 0,
    bytes: new Uint8Array(KB),
  });
  return writer.finish();
}

describe('of what has ended', () => {
  test('the oldest goes when there is too much, ten seconds at a time, in all shards', async (t) => {
    const { clock, fileFor, kept } = await setup(t, { kilobytes: 60 });
    const names = await fileFor(90);
    await clock.advance(5_000);
    const left = await kept();
    assert.ok(left.length >= 50 && left.length <= 60, `${left.length}`);
    assert.deepEqual(left, names.slice(-left.length));
  });

  test('what is too much goes before the minute is over', async (t) => {
    const { fileFor, kept } = await setup(t, { kilobytes: 40 });
    await fileFor(55);
    // Five seconds' worth may have come since it looked.
    const { length } = await kept();
    assert.ok(length <= 45, `${length}`);
  });

  test('what was filed in the last half minute stays, however much it is', async (t) => {
    const { clock, fileFor, kept } = await setup(t, { kilobytes: 1 });
    const names = await fileFor(80);
    await clock.settle();
    const left = await kept();
    assert.ok(left.length >= 30 && left.length < 50, `${left.length}`);
    assert.deepEqual(left, names.slice(-left.length));
    await clock.advance(38_000);
    assert.equal((await kept()).length, 0);
  });

  test('an hour goes when the last of it is old', async (t) => {
    const { clock, file, kept } = await setup(t, { completedMs: 10 * MINUTE_MS });
    await file();
    await clock.advance(9 * MINUTE_MS);
    await file();
    await clock.advance(9 * MINUTE_MS);
    assert.deepEqual(await kept(), ['n0', 'n1']);
    await clock.advance(2 * MINUTE_MS);
    assert.deepEqual(await kept(), []);
  });

  test('what another node filed just now in an old hour stays until it is old too', async (t) => {
    const { clock, file, kept } = await setup(t, { completedMs: 10 * MINUTE_MS });
    await file();
    await clock.advance(11 * MINUTE_MS - 5_000);
    await file({ dueAgoMs: 10 * MINUTE_MS, byUs: false });
    await clock.advance(MINUTE_MS);
    assert.deepEqual(await kept(), ['n1']);
    await clock.advance(11 * MINUTE_MS);
    assert.deepEqual(await kept(), []);
  });

  test('what another node filed just now among what is too much goes half a minute later', async (t) => {
    const { clock, file, kept } = await setup(t, { kilobytes: 1 });
    // After the first round, which counts what is stored.
    await clock.advance(2 * MINUTE_MS);
    for (let i = 0; i < 3; i++) await file();
    await clock.advance(33_000);
    assert.deepEqual(await kept(), ['n0', 'n1', 'n2']);
    await file({ dueAgoMs: 33_000, byUs: false });
    await clock.advance(5_000);
    assert.deepEqual(await kept(), ['n3']);
    await clock.advance(40_000);
    assert.deepEqual(await kept(), []);
  });

  test('nodes that share a store keep a share each, and what was there before them', async (t) => {
    const nodes = { count: 4 };
    const { clock, file, fileFor, kept } = await setup(t, { kilobytes: 200 }, nodes);
    for (let i = 0; i < 40; i++) await file({ dueAgoMs: 10 * MINUTE_MS, byUs: false });
    // After the first round, which counts what is stored.
    await clock.advance(2 * MINUTE_MS);
    const names = await fileFor(120);
    await clock.advance(5_000);
    const left = (await kept()).slice(40);
    assert.ok(left.length >= 40 && left.length <= 50, `${left.length}`);
    assert.deepEqual(left, names.slice(-left.length));
    assert.equal((await kept()).length, 40 + left.length);
    nodes.count = 8;
    // What is next filed makes it look.
    await clock.advance(60_000);
    assert.ok((await kept()).length <= 40 + 25);
  });

  test('what earlier processes left counts', async (t) => {
    const { clock, file, kept } = await setup(t, { kilobytes: 5 });
    for (let i = 9; i >= 0; i--) await file({ dueAgoMs: i * 10_000, byUs: false });
    await clock.advance(2 * MINUTE_MS);
    assert.deepEqual(await kept(), ['n6', 'n7', 'n8', 'n9']);
  });

  test('little goes in one transaction', async (t) => {
    const { clock, store, file, kept } = await setup(t, { completedMs: 10 * MINUTE_MS });
    for (let i = 0; i < 2_000; i++) await file();
    store.sent.length = 0;
    await clock.advance(12 * MINUTE_MS);
    assert.deepEqual(await kept(), []);
    const deleted = store.sent.flatMap(
      ({ success }) => success.filter(({ type }) => type === 'delete').length,
    );
    assert.equal(
      deleted.reduce((sum, each) => sum + each, 0),
      2_000,
    );
    assert.ok(Math.max(...deleted) <= store.limits.operationsMax);
  });

  test('what is being deleted is left to the next process by one that stops', async (t) => {
    const { clock, store, janitor, file, kept } = await setup(t, { completedMs: 10 * MINUTE_MS });
    for (let i = 0; i < 2_000; i++) await file();
    await clock.advance(10.5 * MINUTE_MS);
    let goOn = (): void => {};
    store.gate = new Promise((resolve) => {
      goOn = resolve;
    });
    await clock.advance(MINUTE_MS);
    const stopped = janitor.stop();
    store.gate = undefined;
    goOn();
    await stopped;
    const { length } = await kept();
    assert.ok(length > 1_000 && length < 2_000, `${length}`);
  });

  for (const fate of ['request lost', 'answer lost', 'late'] as const) {
    test(`what may not have been deleted goes in the next round: ${fate}`, async (t) => {
      const { clock, store, file, kept } = await setup(t, { completedMs: 10 * MINUTE_MS });
      await file();
      await clock.advance(10 * MINUTE_MS);
      // It goes shard by shard, and what is there still with the rest of the hour.
      store.fates.push(...(fate === 'answer lost' ? [fate] : [fate, fate]));
      await clock.advance(3 * MINUTE_MS);
      assert.equal(store.fates.length, 0);
      assert.deepEqual(await kept(), []);
      await store.applyLate();
      assert.deepEqual(await kept(), []);
    });

    test(`nor is it forgotten that there is too much: ${fate}`, async (t) => {
      const { clock, store, file, kept } = await setup(t, { kilobytes: 1 });
      await clock.advance(2 * MINUTE_MS);
      for (let i = 0; i < 3; i++) await file();
      store.fates.push(fate);
      await clock.advance(60_000);
      assert.equal(store.fates.length, 0);
      assert.deepEqual(await kept(), []);
    });
  }

  test('what could not be deleted goes in the next round', async (t) => {
    const { clock, store, file, kept } = await setup(t, { completedMs: 10 * MINUTE_MS });
    await file();
    await clock.advance(10 * MINUTE_MS);
    store.failsRead = ({ from }) => from.startsWith('z/default/');
    await clock.advance(5 * MINUTE_MS);
    assert.deepEqual(await kept().catch(() => ['n0']), ['n0']);
    store.failsRead = () => false;
    await clock.advance(MINUTE_MS);
    assert.deepEqual(await kept(), []);
  });
});

describe('of dead letters', () => {
  for (const [count, isRead] of [
    [1, false],
    [4, true],
  ] as const) {
    test(`a third of the bound filed on one of ${count}: they are ${isRead ? '' : 'not '}read at once`, async (t) => {
      const { clock, store, janitor } = await setup(t, { deadKilobytes: 90 }, { count });
      await clock.advance(2 * MINUTE_MS);
      let reads = 0;
      store.failsRead = ({ from }) => {
        if (from.startsWith('d/')) reads++;
        return false;
      };
      janitor.noteDeadLetter(30 * KB);
      await clock.advance(MINUTE_MS);
      assert.equal(reads > 0, isRead);
    });
  }
});
