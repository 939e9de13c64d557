import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { isMillraceError } from '../../src/core/errors.js';
import { loadNative } from '../../src/timing/native.js';

const WORKER = new URL('./queue-worker.js', import.meta.url);

test('8 workers at a time load and unload the native core many times', async () => {
  const loads = async (): Promise<void> => {
    for (let i = 0; i < 12; i++) {
      const worker = new Worker(WORKER, { workerData: { forever: false } });
      const exited = once(worker, 'exit');
      const [fired] = await once(worker, 'message');
      assert.equal(fired, 1500);
      assert.deepEqual(await exited, [0]);
    }
  };
  await Promise.all(Array.from({ length: 8 }, loads));
});

test('a worker can be terminated in the middle of calls', async () => {
  const terminated = async (): Promise<void> => {
    for (let i = 0; i < 6; i++) {
      const worker = new Worker(WORKER, { workerData: { forever: true } });
      await once(worker, 'message');
      assert.equal(await worker.terminate(), 1);
    }
  };
  await Promise.all(Array.from({ length: 4 }, terminated));
});

test('without a binary the error names the platform and the command that builds one', () => {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-native-'));
  try {
    assert.throws(
      () => loadNative(folder),
      (error) => {
        assert.ok(isMillraceError(error));
        assert.equal(error.code, 'ERR_MILLRACE_NATIVE_MISSING');
        assert.ok(error.message.includes(`${process.platform}-${process.arch}`));
        assert.ok(error.message.includes(`npx node-gyp rebuild -C ${folder}`));
        assert.ok(error.cause instanceof Error);
        return true;
      },
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
});
