import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { seededRandom } from '../../src/core/random.js';
import { createMetadata } from '../../src/create-metadata.js';
import { memoryStore } from '../../src/store/index.js';
import { RevisionCache } from '../../src/tenancy/revision-cache.js';
import { encodeSnapshot, restoreSnapshot } from '../../src/tenancy/snapshot.js';
import { nodes } from './nodes.js';

const emptyCache = (): RevisionCache => new RevisionCache(seededRandom(7), 1024 ** 2);

function fileFor(t: TestContext): string {
  const folder = mkdtempSync(path.join(tmpdir(), 'millrace-snapshot-'));
  t.after(() => rmSync(folder, { recursive: true }));
  return path.join(folder, 'cache');
}

test('a process begins with what the last one knew, and reads only what has changed meanwhile', async (t) => {
  const store = memoryStore();
  const snapshot = fileFor(t);
  const first = await createMetadata(store, { cache: { snapshot } });
  for (const tenant of ['acme', 'globex']) {
    for (const id of ['1', '2', '3']) await first.put(tenant, 'x', id, `${tenant} ${id}`);
    for (const id of ['1', '2', '3', 'none']) await first.get(tenant, 'x', id);
  }
  const other = await createMetadata(store);
  await first.close();
  await other.put('acme', 'x', '2', 'new');
  await other.put('acme', 'x', 'none', 'there');
  await other.delete('acme', 'x', '3');

  const second = await createMetadata(store, { cache: { snapshot } });
  const value = async (tenant: string, id: string) => (await second.get(tenant, 'x', id))?.value;
  assert.deepEqual(
    [await value('acme', '1'), await value('acme', '2'), await value('acme', '3')],
    ['acme 1', 'new', undefined],
  );
  assert.equal(await value('acme', 'none'), 'there');
  assert.equal(await value('globex', '3'), 'globex 3');
  assert.equal(await value('globex', 'none'), undefined);
  assert.equal(second.stats().misses, 0);
  // And it follows from there.
  await other.put('globex', 'x', '3', 'newer');
  while ((await value('globex', '3')) !== 'newer') await new Promise(setImmediate);
  await Promise.all([second.close(), other.close()]);
});

test('a snapshot of another store, a damaged one and none at all are as good as nothing', async (t) => {
  const snapshot = fileFor(t);
  const first = await createMetadata(memoryStore(), { cache: { snapshot } });
  for (let i = 0; i < 5; i++) await first.put('acme', 'x', '1', i);
  await first.get('acme', 'x', '1');
  await first.close();
  const whole = readFileSync(snapshot);

  // Another store, which is not as far; then one that is further.
  for (const writes of [0, 9]) {
    writeFileSync(snapshot, whole);
    const store = memoryStore();
    const writer = await createMetadata(store);
    for (let i = 0; i < writes; i++) await writer.put('acme', 'x', '2', i);
    const second = await createMetadata(store, { cache: { snapshot } });
    assert.equal(await second.get('acme', 'x', '1'), undefined);
    await Promise.all([second.close(), writer.close()]);
  }
  for (const bytes of [
    Buffer.alloc(0),
    whole.subarray(0, 40),
    Buffer.from(whole).fill(9, 20, 24),
  ]) {
    writeFileSync(snapshot, bytes);
    const second = await createMetadata(memoryStore(), { cache: { snapshot } });
    assert.equal(await second.get('acme', 'x', '1'), undefined);
    await second.close();
  }
});

test('whatever stands in a snapshot, reading it ends with a cache or with an error', async (t) => {
  const w = await nodes(t);
  const { metadata } = await w.join();
  await metadata.put('acme', 'x', '1', 'value');
  await metadata.put('acme', 'x', '2', 'leased', { ttl: '1m' });
  for (const id of ['1', '2', '3']) await metadata.get('acme', 'x', id);
  const whole = Buffer.from(metadata.snapshot());
  const cache = emptyCache();
  restoreSnapshot(cache, whole);
  assert.deepEqual(Buffer.from(encodeSnapshot(cache)).length, whole.length);
  const random = seededRandom(1);
  const { crc32 } = await import('node:zlib');
  let refused = 0;
  for (let i = 0; i < 500; i++) {
    const bytes = Buffer.from(whole);
    const at = 8 + (random.u32() % (bytes.length - 8));
    bytes[at] = random.u32() & 0xff;
    // With a checksum that is right, the rest has to stand on its own.
    bytes.writeUInt32LE(crc32(bytes.subarray(16)), 12);
    try {
      restoreSnapshot(emptyCache(), bytes);
    } catch (error) {
      assert.equal((error as { code: string }).code, 'ERR_MILLRACE_STORE_CORRUPT');
      refused++;
    }
  }
  assert.ok(refused > 50, `${refused} refused`);
});

test('a snapshot that cannot be written is told, and everything else is closed', async (t) => {
  const snapshot = path.join(fileFor(t), 'no', 'such', 'folder');
  const store = memoryStore();
  const metadata = await createMetadata(store, { cache: { snapshot } });
  await assert.rejects(metadata.close(), { code: 'ERR_MILLRACE_STORE_NOT_WRITABLE' });
  await assert.rejects(metadata.get('acme', 'x', '1'), { code: 'ERR_MILLRACE_CLOSED' });
});
