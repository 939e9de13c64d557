import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createMetadata } from '../../src/create-metadata.js';
import { createRuntime, defineTask, defineTasks, memoryStore } from '../../src/index.js';

test('a runtime has metadata and configuration on its own store, until it closes', async () => {
  const store = memoryStore();
  const nothing = defineTask({ name: 'nothing', exec: 'inline', run: () => 0 });
  const runtime = await createRuntime({
    tasks: defineTasks({ nothing }),
    store,
    metadata: { cache: { bytes: '1MB' } },
  });
  const other = await createMetadata(store);
  const revision = await other.put('acme', 'plan', 'current', { seats: 5 });
  const entry = await runtime.metadata.get('acme', 'plan', 'current', {
    consistency: { atLeast: revision },
  });
  assert.deepEqual(entry, { id: 'current', value: { seats: 5 }, revision });
  await runtime.config.set('limit', 3, { tenant: 'acme' });
  assert.equal(await other.config.get('limit', { tenant: 'acme' }), 3);
  await runtime.close();
  await assert.rejects(runtime.metadata.get('acme', 'plan', 'current'), {
    code: 'ERR_MILLRACE_CLOSED',
  });
  assert.equal((await other.get('acme', 'plan', 'current'))?.revision, revision);
  await Promise.all([other.close(), other.close()]);
  await assert.rejects(other.put('acme', 'x', '1', 1), { code: 'ERR_MILLRACE_CLOSED' });
});

test('options of metadata that cannot be meant are refused at once', async () => {
  const refused = (options: object): Promise<void> =>
    assert.rejects(createMetadata(memoryStore(), options), {
      code: 'ERR_MILLRACE_INVALID_OPTION',
    });
  await refused({ cache: { bytes: '1KB' } });
  await refused({ cache: { bytes: '9GB' } });
  await refused({ cache: { size: 1 } });
  await refused({ cahce: {} });
});
