/** `handle.reschedule`, as its users meet it: what it takes, and what it says. The engine's side is in test/engine. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hasCode } from '../src/core/errors.js';
import { defineTask, defineTasks } from '../src/core/task.js';
import { testRuntime } from '../src/testing/index.js';

const echo = defineTask({ name: 'echo', exec: 'inline', run: (text: string) => text });

test('a handle moves its task, earlier and later, by a delay or a date', async () => {
  await using rt = await testRuntime({ tasks: defineTasks({ echo }) });
  const { runtime } = rt;
  const handle = await runtime.submit(echo, 'a', { delay: '10d' });
  await handle.reschedule({ at: new Date(rt.clock.wallMs() + 60_000) });
  await rt.clock.advance('59s');
  assert.equal(await handle.status(), 'pending');
  await handle.reschedule({ delay: '1h' });
  await rt.clock.advance('59m');
  assert.equal(await handle.status(), 'pending');
  await rt.clock.advance('2m');
  assert.equal(await handle.result(), 'a');
  await assert.rejects(handle.reschedule({ delay: 0 }), (error) =>
    hasCode(error, 'ERR_MILLRACE_CLAIM_LOST'),
  );
});

test('a handle that was taken up by its id does the same', async () => {
  await using rt = await testRuntime({ tasks: defineTasks({ echo }) });
  const { runtime } = rt;
  const { id } = await runtime.submit(echo, 'a', { delay: '10d' });
  const handle = runtime.handle(echo, id);
  await handle.reschedule({ at: 0 });
  await rt.drain();
  assert.equal(await handle.result(), 'a');
});

test('what is no due time is refused, and changes nothing', async () => {
  await using rt = await testRuntime({ tasks: defineTasks({ echo }) });
  const { runtime } = rt;
  const handle = await runtime.submit(echo, 'a', { delay: '1m' });
  const refused = (options: object, code: Parameters<typeof hasCode>[1]) =>
    assert.rejects(handle.reschedule(options as never), (error) => hasCode(error, code));
  await refused({}, 'ERR_MILLRACE_INVALID_OPTION');
  await refused({ at: Number.NaN }, 'ERR_MILLRACE_INVALID_OPTION');
  await refused({ at: 1, delay: 1 }, 'ERR_MILLRACE_INVALID_OPTION');
  await refused({ dealy: 1 }, 'ERR_MILLRACE_INVALID_OPTION');
  await refused({ delay: 'soon' }, 'ERR_MILLRACE_INVALID_DURATION');
  assert.equal(await handle.status(), 'pending');
});
