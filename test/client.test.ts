import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { hasCode } from '../src/core/errors.js';
import { defineTask, defineTasks } from '../src/core/task.js';
import { createClient, createRuntime, memoryStore } from '../src/index.js';

const double = defineTask({ name: 'double', exec: 'inline', run: (n: number) => 2 * n });
const contract = defineTask({ name: 'contract' });

describe('createClient', () => {
  test('hands tasks in that a runtime runs later, and runs none itself', async () => {
    const store = memoryStore();
    const client = await createClient({ store, tasks: [double, contract] });
    const { id } = await client.submit(double, 21);
    assert.equal((await client.submitMany('double', [1, 2])).accepted, 2);
    assert.equal(client.stats().threads, 0);
    assert.equal(client.stats().running, 0);
    await client.close();
    const runtime = await createRuntime({ store, tasks: defineTasks({ double }) });
    assert.equal(await runtime.handle(double, id).result({ timeout: '10s' }), 42);
    await runtime.close();
  });

  test('takes contracts as a list, by name, or as a module', async () => {
    for (const tasks of [[double], { double }, defineTasks({ double }), new Set([double])]) {
      const client = await createClient({ store: memoryStore(), tasks });
      assert.deepEqual([...client.tasks.keys()], ['double']);
      assert.equal(client.tasks.get('double')?.run, undefined);
      await client.close();
    }
  });

  test('refuses what are no contracts, and options of a runtime', async () => {
    const wrong = [undefined, {}, { tasks: [] }, { tasks: [7] }, { tasks: [double], threads: {} }];
    for (const options of wrong as never[]) {
      await assert.rejects(createClient(options), (error) =>
        hasCode(error, 'ERR_MILLRACE_INVALID_OPTION'),
      );
    }
  });
});
