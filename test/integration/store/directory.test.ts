/**
 * Whose directory it is, and what may be in it.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { mkdir, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { open } from 'lmdb';
import type { MillraceError } from '../../../src/core/errors.js';
import { fileStore } from '../../../src/store/index.js';
import { VirtualClock } from '../../../src/testing/virtual-clock.js';
import { ALL, apply, keys, put, rejectsWith, text } from '../../conformance/store/harness.js';
import { openHere, scratch, startChild } from './processes.js';

const linux = { skip: process.platform !== 'linux' && 'reads /proc/self/maps' };
const context = { clock: new VirtualClock() };

test('a second process is told at once who has the directory, and a dead one has it no more', async (t) => {
  const directory = path.join(await scratch(t), 'store');
  const owner = startChild(t, 'hold', directory);
  assert.equal((await owner.next())?.type, 'owner');
  await assert.rejects(fileStore(directory).open(context), (error: MillraceError) => {
    assert.equal(error.code, 'ERR_MILLRACE_STORE_LOCKED');
    assert.equal(error.details.pid, owner.process.pid);
    assert.match(error.message, new RegExp(`pid ${owner.process.pid}\\b`));
    assert.ok(error.message.includes(directory));
    return true;
  });
  await owner.kill('SIGKILL');
  await apply(await openHere(t, directory), put('a'));
});

test('an owner that is stopped still owns', async (t) => {
  const directory = path.join(await scratch(t), 'store');
  const owner = startChild(t, 'hold', directory);
  assert.equal((await owner.next())?.type, 'owner');
  owner.process.kill('SIGSTOP');
  await rejectsWith(fileStore(directory).open(context), 'ERR_MILLRACE_STORE_LOCKED');
  owner.process.kill('SIGCONT');
});

test('a second opening in the same process is refused, and harms the first in no way', async (t) => {
  const directory = path.join(await scratch(t), 'store');
  const store = await openHere(t, directory);
  await rejectsWith(fileStore(directory).open(context), 'ERR_MILLRACE_STORE_LOCKED');
  await rejectsWith(
    fileStore(path.join(directory, '..', 'store')).open(context),
    'ERR_MILLRACE_STORE_LOCKED',
  );
  await apply(store, put('a'));
  await store.close();
  assert.deepEqual(await keys(await openHere(t, directory)), ['a']);
});

test('of many processes that start together exactly one gets the directory', async (t) => {
  const directory = path.join(await scratch(t), 'store');
  const racers = Array.from({ length: 6 }, () => startChild(t, 'race', directory));
  for (const racer of racers) assert.equal((await racer.next())?.type, 'ready');
  for (const racer of racers) racer.process.stdin!.write('go\n');
  const said = await Promise.all(racers.map((racer) => racer.next()));
  const owners = said.filter((message) => message?.type === 'owner');
  assert.equal(owners.length, 1, JSON.stringify(said));
  for (const message of said) {
    if (message?.type !== 'owner') assert.equal(message?.code, 'ERR_MILLRACE_STORE_LOCKED');
  }
});

test('of two claims the lower one wins: the higher gives up, and the lower waits to see it', async (t) => {
  const directory = path.join(await scratch(t), 'store');
  await mkdir(directory);
  const lower = await claimant(t, directory, 'lock-0-0000000000000000');
  await rejectsWith(fileStore(directory).open(context), 'ERR_MILLRACE_STORE_LOCKED');
  await lower.leave();

  const givesUp = await claimant(t, directory, 'lock-9999999999-0000000000000000');
  const waiting = openHere(t, directory);
  await givesUp.asked(3);
  await givesUp.leave();
  await (await waiting).close();

  const becomesOwner = await claimant(t, directory, 'lock-9999999999-0000000000000000');
  const refused = rejectsWith(fileStore(directory).open(context), 'ERR_MILLRACE_STORE_LOCKED');
  await becomesOwner.asked(3);
  becomesOwner.standing = 'owner';
  await refused;
});

test('who hangs up is asked again: it leaves, or it owns', async (t) => {
  const directory = path.join(await scratch(t), 'store');
  await mkdir(directory);
  for (const name of ['lock-0-0000000000000000', 'lock-9999999999-0000000000000000']) {
    const leaving = await claimant(t, directory, name);
    leaving.standing = '';
    const waiting = openHere(t, directory);
    await Promise.race([leaving.asked(3), waiting]);
    await leaving.leave();
    await (await waiting).close();
  }
  const staying = await claimant(t, directory, 'lock-9999999999-0000000000000000');
  staying.standing = '';
  await rejectsWith(fileStore(directory).open(context), 'ERR_MILLRACE_STORE_LOCKED');
});

test('what a dead process left of its lock is no lock, also under a living process id', async (t) => {
  const directory = path.join(await scratch(t), 'store');
  await mkdir(directory);
  // A socket nobody listens on: bound by us, renamed, and closed without its new name.
  const server = createServer();
  const left = path.join(directory, `lock-${process.pid}-0123456789abcdef`);
  await new Promise<void>((resolve) => server.listen(path.join(directory, 'bound'), resolve));
  await rename(path.join(directory, 'bound'), left);
  await new Promise((resolve) => server.close(resolve));
  assert.ok(existsSync(left));
  const store = await openHere(t, directory);
  assert.ok(!existsSync(left), 'what is left over is cleared away');
  await store.close();
  assert.deepEqual(
    readdirSync(directory).filter((name) => name.includes('lock-')),
    [],
  );
});

test('a directory can be deep: paths of sockets are not', async (t) => {
  const directory = path.join(
    await scratch(t),
    ...Array.from({ length: 10 }, () => 'd'.repeat(40)),
  );
  const store = await openHere(t, directory);
  await rejectsWith(fileStore(directory).open(context), 'ERR_MILLRACE_STORE_LOCKED');
  await apply(store, put('a'));
});

test('a directory that cannot be made is not writable, and the reason is named', async (t) => {
  const file = path.join(await scratch(t), 'file');
  await writeFile(file, '');
  for (const directory of [file, path.join(file, 'below')]) {
    await assert.rejects(fileStore(directory).open(context), (error: MillraceError) => {
      assert.equal(error.code, 'ERR_MILLRACE_STORE_NOT_WRITABLE');
      assert.ok(error.message.includes(directory));
      assert.match(error.message, /EEXIST|ENOTDIR/);
      return true;
    });
  }
});

test('a directory of a newer format is left alone, and both formats are named', async (t) => {
  const directory = path.join(await scratch(t), 'store');
  await (await openHere(t, directory)).close();
  const file = path.join(directory, 'FORMAT');
  assert.equal(await readFile(file, 'utf8'), 'millrace store format 1\n');
  await writeFile(file, 'millrace store format 2\n');
  await assert.rejects(fileStore(directory).open(context), (error: MillraceError) => {
    assert.equal(error.code, 'ERR_MILLRACE_STORE_FORMAT');
    assert.deepEqual([error.details.format, error.details.formatMax], [2, 1]);
    assert.match(error.message, /format 2.*format 1/);
    return true;
  });
  await writeFile(file, 'millrace store format 1\n');
  await apply(await openHere(t, directory), put('a'));
});

test('a directory without its format, or with a torn data file, is corrupt', async (t) => {
  const directory = path.join(await scratch(t), 'store');
  await mkdir(directory);
  await writeFile(path.join(directory, 'data.mdb'), 'x'.repeat(100_000));
  await rejectsWith(fileStore(directory).open(context), 'ERR_MILLRACE_STORE_CORRUPT');
  await writeFile(path.join(directory, 'FORMAT'), 'millrace store format 1\n');
  await rejectsWith(fileStore(directory).open(context), 'ERR_MILLRACE_STORE_CORRUPT');
  await writeFile(path.join(directory, 'FORMAT'), 'nonsense');
  await rejectsWith(fileStore(directory).open(context), 'ERR_MILLRACE_STORE_CORRUPT');
});

test('a data file that was cut short is found when it is read, and does not end the process', async (t) => {
  const directory = path.join(await scratch(t), 'store');
  const store = await openHere(t, directory);
  for (let count = 0; count < 20; count++) {
    await apply(
      store,
      ...Array.from({ length: 20 }, (_, i) => put(`k/${count}/${i}`, new Uint8Array(3_000))),
    );
  }
  await store.close();
  const file = path.join(directory, 'data.mdb');
  for (const share of [0.9, 0.5, 0.1]) {
    await truncate(file, Math.floor((statSync(file).size * share) / 4096) * 4096);
    const isFound = async (): Promise<boolean> => {
      const cut = await fileStore(directory).open(context);
      try {
        await cut.range(ALL);
        return false;
      } finally {
        await cut.close();
      }
    };
    await rejectsWith(isFound(), 'ERR_MILLRACE_STORE_CORRUPT');
  }
});

test('a record that rotted, or turned up under another key, is found and named', async (t) => {
  const directory = path.join(await scratch(t), 'store');
  const store = await openHere(t, directory);
  await apply(
    store,
    put('good', '1'),
    put('moved', '2'),
    put('rotten', 'some bytes'),
    put('short'),
  );
  await store.close();
  const raw = open<Buffer, Buffer>({
    path: path.join(directory, 'data.mdb'),
    encoding: 'binary',
    keyEncoding: 'binary',
  });
  const rotten = Buffer.from(raw.get(Buffer.from('rotten'))!);
  rotten[rotten.length - 1]! ^= 1;
  await raw.put(Buffer.from('rotten'), rotten);
  await raw.put(Buffer.from('moved'), raw.get(Buffer.from('good'))!);
  await raw.put(Buffer.from('short'), Buffer.from('short'));
  await raw.close();
  const again = await openHere(t, directory);
  assert.equal(text(await again.get('good')), '1');
  for (const key of ['rotten', 'moved', 'short']) {
    await assert.rejects(again.get(key), (error: MillraceError) => {
      assert.equal(error.code, 'ERR_MILLRACE_STORE_CORRUPT');
      assert.equal(error.details.key, key);
      assert.ok(error.message.includes(`'${key}'`));
      return true;
    });
  }
  await rejectsWith(again.range(ALL), 'ERR_MILLRACE_STORE_CORRUPT');
});

test('deleted space is used again, and the file is not sparse', async (t) => {
  const directory = path.join(await scratch(t), 'store');
  const store = await openHere(t, directory);
  const file = path.join(directory, 'data.mdb');
  const value = new Uint8Array(10_000);
  const sizes: number[] = [];
  for (let round = 0; round < 8; round++) {
    for (let batch = 0; batch < 10; batch++) {
      await apply(
        store,
        ...Array.from({ length: 100 }, (_, index) => put(`k/${round}/${batch}/${index}`, value)),
      );
    }
    await apply(store, { type: 'deleteRange', range: { from: 'k/', to: 'k0' } });
    const { size, blocks } = statSync(file);
    sizes.push(size);
    assert.ok(blocks * 512 >= size * 0.95, `sparse: ${blocks * 512} of ${size} bytes`);
  }
  assert.ok(sizes[7]! < sizes[1]! * 1.5, `the file grew: ${sizes}`);
});

test('nobody else may read the directory', async (t) => {
  const directory = path.join(await scratch(t), 'store');
  await openHere(t, directory);
  assert.equal(statSync(directory).mode & 0o777, 0o700);
});

test('LMDB is loaded when a store is opened, and not before', linux, async (t) => {
  const child = startChild(t, 'loaded', await scratch(t));
  assert.deepEqual(await child.next(), { type: 'loaded', described: false, opened: true });
});

interface Claimant {
  /** What it answers. */
  standing: string;
  /** Resolves when it has been asked so often. */
  asked(times: number): Promise<void>;
  leave(): Promise<void>;
}

/** Another opener of the directory, in the middle of it. */
async function claimant(t: TestContext, directory: string, name: string): Promise<Claimant> {
  const file = path.join(directory, name);
  let count = 0;
  const server = createServer((socket) => {
    socket.end(subject.standing);
    count += 1;
    server.emit('asked');
  });
  const subject: Claimant = {
    standing: 'claiming',
    async asked(times) {
      while (count < times) await once(server, 'asked');
    },
    async leave() {
      await rm(file, { force: true });
      if (server.listening) await new Promise((resolve) => server.close(resolve));
    },
  };
  t.after(() => subject.leave());
  await new Promise<void>((resolve) => server.listen(file, resolve));
  return subject;
}
