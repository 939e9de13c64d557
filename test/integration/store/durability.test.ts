/**
 * What the embedded store has acknowledged is on the disk: after kill -9, behind a slow disk, on one that fails.
 */
import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import type { Entry } from '../../../src/core/store.js';
import { ALL, apply, del, keys, put, text } from '../../conformance/store/harness.js';
import { faultyDisk, openHere, scratch, startChild } from './processes.js';

/** LD_PRELOAD puts the faulty disk in front of libc. */
const linux = { skip: process.platform !== 'linux' && 'needs LD_PRELOAD' };

test('what was written before a clean close is there afterwards, and revisions go on', async (t) => {
  const directory = path.join(await scratch(t), 'deep', 'er');
  const first = await openHere(t, directory);
  await apply(first, put('a', '1'), put('b'));
  const revision = await apply(first, put('a', '2'), del('b'), put('~', new Uint8Array(100_000)));
  const before = await first.range(ALL);
  await first.close();
  const second = await openHere(t, directory);
  assert.deepEqual(await second.range(ALL), before);
  assert.equal(text(await second.get('a', { revision })), '2');
  assert.equal(await apply(second, put('a', '3')), revision + 1);
  await assert.rejects(second.get('a', { revision: (revision - 1) as typeof revision }), {
    code: 'ERR_MILLRACE_COMPACTED',
  });
});

test('the keys of the last process on its leases are gone when the directory is opened', async (t) => {
  const directory = path.join(await scratch(t), 'store');
  const first = await openHere(t, directory);
  const lease = await first.grantLease(60_000);
  const other = await first.grantLease(60_000);
  await apply(first, put('a', '', lease.leaseId), put('b', '', other.leaseId), put('stays'));
  await apply(first, put('freed', '', lease.leaseId), put('gone', '', lease.leaseId));
  const revision = await apply(first, put('freed'), del('gone'));
  await first.close();
  const second = await openHere(t, directory);
  assert.deepEqual(await keys(second), ['freed', 'stays']);
  assert.equal((await second.range(ALL)).revision, revision + 2, 'a revision for each lease');
  const fresh = await second.grantLease(60_000);
  assert.ok(![lease.leaseId, other.leaseId].includes(fresh.leaseId), 'ids are never given twice');
  await second.close();
  const third = await openHere(t, directory);
  assert.equal((await third.range(ALL)).revision, revision + 2);
});

for (let run = 1; run <= 4; run++) {
  test(`kill -9 in the middle of writes loses nothing that was acknowledged (run ${run})`, async (t) => {
    const directory = path.join(await scratch(t), 'store');
    const child = startChild(t, 'write', directory);
    const acknowledged = new Map<string, { number: number; revision: number }>();
    let newest = 0;
    const note = (message: Awaited<ReturnType<typeof child.next>>): void => {
      const { key, number, revision } = message as unknown as {
        key: string;
        number: number;
        revision: number;
      };
      acknowledged.set(key, { number, revision });
      newest = Math.max(newest, revision);
    };
    for (let count = 0; count < 150 * run; count++) note(await child.next());
    await child.kill('SIGKILL');
    for (let rest = await child.next(); rest; rest = await child.next()) note(rest);

    const store = await openHere(t, directory);
    assert.equal(await store.get('session'), undefined, 'its session ended with it');
    const { revision } = await store.range(ALL);
    assert.ok(revision > newest, `revision ${revision} after ${newest}`);
    for (const [key, { number, revision: written }] of acknowledged) {
      const entry = (await store.get(key)) as Entry;
      assert.ok(entry.modRevision >= written, `${key} is older than acknowledged`);
      assert.ok(Number(text(entry)) >= number);
      const twin = await store.get(`twin/${key}`);
      assert.deepEqual([text(twin), twin?.modRevision], [text(entry), entry.modRevision]);
    }
    assert.equal(await apply(store, put('on')), revision + 1);
  });
}

test('nothing is acknowledged, read or watched before the disk has it', linux, async (t) => {
  const folder = await scratch(t);
  const disk = await faultyDisk(folder);
  const child = startChild(t, 'slow', path.join(folder, 'store'), {
    ...disk,
    FAULTY_DISK_SLOW_MS: '200',
  });
  assert.equal((await child.next())?.type, 'open');
  const answer = await child.next();
  assert.equal(answer?.type, 'done');
  assert.ok((answer?.tookMs as number) >= 200, `acknowledged after ${answer?.tookMs} ms`);
  assert.equal((await child.next())?.type, 'closed');
});

test(
  'a write that the disk did not take is not acknowledged, and the store writes no more',
  linux,
  async (t) => {
    const folder = await scratch(t);
    const directory = path.join(folder, 'store');
    const child = startChild(t, 'fail', directory, {
      ...(await faultyDisk(folder)),
      FAULTY_DISK_FAIL: path.join(folder, 'fail'),
    });
    assert.equal((await child.next())?.type, 'done');
    const doubtful = await child.next();
    assert.deepEqual(
      [doubtful?.type, doubtful?.code],
      ['unknown', 'ERR_MILLRACE_STORE_UNAVAILABLE'],
    );
    assert.deepEqual(await child.next(), {
      type: 'thrown',
      code: 'ERR_MILLRACE_STORE_UNAVAILABLE',
    });
    assert.deepEqual(await child.next(), { type: 'read', value: 'before' });
    assert.equal((await child.next())?.type, 'closed');
    const store = await openHere(t, directory);
    const values = [
      text(await store.get('a')),
      text(await store.get('b')),
      text(await store.get('c')),
    ];
    // It may have been applied, but then whole.
    const isApplied = values[0] === 'after';
    assert.deepEqual(
      values,
      isApplied ? ['after', 'after', undefined] : ['before', undefined, undefined],
    );
  },
);

test(
  'a full disk refuses writes, keeps what it has, and takes writes again when there is room',
  linux,
  async (t) => {
    const folder = await scratch(t);
    const directory = path.join(folder, 'store');
    const child = startChild(t, 'full', directory, {
      ...(await faultyDisk(folder)),
      FAULTY_DISK_FULL: path.join(folder, 'full'),
    });
    assert.equal((await child.next())?.type, 'done');
    assert.deepEqual(await child.next(), { type: 'thrown', code: 'ERR_MILLRACE_STORE_FULL' });
    assert.deepEqual(await child.next(), { type: 'thrown', code: 'ERR_MILLRACE_STORE_FULL' });
    assert.equal((await child.next())?.type, 'done');
    assert.deepEqual(await child.next(), { type: 'read', keys: ['a', 'c'], revision: 3 });
    assert.equal((await child.next())?.type, 'closed');
    const store = await openHere(t, directory);
    assert.deepEqual([await keys(store), text(await store.get('a'))], [['a', 'c'], 'before']);
  },
);

test(
  'a meta page that cannot be written leaves the outcome unknown, and nothing hangs',
  linux,
  async (t) => {
    const folder = await scratch(t);
    const directory = path.join(folder, 'store');
    const child = startChild(t, 'panic', directory, {
      ...(await faultyDisk(folder)),
      FAULTY_DISK_META: path.join(folder, 'meta'),
    });
    assert.equal((await child.next())?.type, 'done');
    assert.equal((await child.next())?.type, 'unknown');
    assert.deepEqual(await child.next(), {
      type: 'thrown',
      code: 'ERR_MILLRACE_STORE_UNAVAILABLE',
    });
    assert.equal((await child.next())?.type, 'closed');
    const store = await openHere(t, directory);
    const [a, b] = [text(await store.get('a')), text(await store.get('b'))];
    assert.ok(
      (a === 'after' && b === 'after') || (a === 'before' && b === undefined),
      `${a}, ${b}`,
    );
  },
);
