/**
 * What comes from outside is bounded before it costs anything: objects with very many keys, and text of a megabyte where a
 * word belongs. Each is refused with a message that a log can hold, and what is done beside it goes on.
 */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { isMillraceError, type MillraceError } from '../src/core/errors.js';
import { createRuntime, defineTask, defineTasks, memoryStore } from '../src/index.js';
import { etcdStore } from '../src/store/etcd/index.js';

const KEYS = 50_000;
/** As many as fit into 256 KB. */
const KEYS_THAT_FIT = 18_000;
const MESSAGE_CHARS_MAX = 600;
const SLOW_MS = 200;

const echo = defineTask({ name: 'echo', exec: 'inline', run: (input: unknown) => input });
const tasks = defineTasks({ echo });

async function setup(t: TestContext) {
  const runtime = await createRuntime({ tasks, store: memoryStore() });
  t.after(() => runtime.close());
  return { runtime, manyKeys: objectOf(KEYS) };
}

/** `{ k0: 0, k1: 1 ... }` */
function objectOf(keys: number): Record<string, number> {
  return Object.fromEntries(Array.from({ length: keys }, (_, i) => [`k${i}`, i]));
}

const tooLarge = { code: 'ERR_MILLRACE_PAYLOAD_TOO_LARGE' };

test('an input with very many keys is refused, and what was submitted beside it runs', async (t) => {
  const { runtime, manyKeys } = await setup(t);
  const [first, hostile, last] = await Promise.allSettled([
    runtime.submit(echo, 'first'),
    runtime.submit(echo, manyKeys),
    runtime.submit(echo, 'last'),
  ]);
  assert.equal(hostile.status, 'rejected');
  const { reason } = hostile as { readonly reason: unknown };
  assertRefusal(reason);
  assert.equal(reason.code, tooLarge.code);
  for (const [submitted, input] of [
    [first, 'first'],
    [last, 'last'],
  ] as const) {
    assert.equal(submitted.status, 'fulfilled');
    assert.equal(await submitted.value.result(), input);
  }
  await assert.rejects(runtime.submitMany(echo, ['first', manyKeys]), tooLarge);
});

test('as many keys as fit into the limit of bytes come back as they went in', async (t) => {
  const { runtime } = await setup(t);
  const input = objectOf(KEYS_THAT_FIT);
  const handle = await runtime.submit(echo, input);
  assert.deepEqual(await handle.result(), input);
});

test('a result with very many keys fails its task, and none beside it', async (t) => {
  const wide = defineTask({ name: 'wide', exec: 'inline', run: (keys: number) => objectOf(keys) });
  const runtime = await createRuntime({ tasks: defineTasks({ wide }), store: memoryStore() });
  t.after(() => runtime.close());
  const submitted = await runtime.submitMany(wide, [1, KEYS, 2]);
  const ends: string[] = [];
  for await (const { status } of submitted.results()) ends.push(status);
  assert.deepEqual(ends, ['completed', 'failed', 'completed']);
});

test('options, configuration and metadata with very many keys are refused in few words', async (t) => {
  const { runtime, manyKeys } = await setup(t);
  const options = manyKeys as object;
  await refusal(() => runtime.submit(echo, 1, options));
  await refusal(() => createRuntime({ tasks, store: memoryStore(), ...options }));
  await refusal(() => createRuntime({ tasks, store: memoryStore(), healing: options }));
  await refusal(() => runtime.config.get('limit', options));
  await assert.rejects(runtime.config.set('limit', manyKeys), tooLarge);
  await assert.rejects(runtime.metadata.put('acme', 'plan', 'now', manyKeys), tooLarge);
});

test('a megabyte of text where a word belongs is refused, fast and in few words', async (t) => {
  const { runtime } = await setup(t);
  const store = memoryStore();
  const texts = ['a', '0', ' ', 'a.', '*', '1,', '[', '-/', 'é', ':']
    .map((part) => part.repeat(1_000_000 / part.length))
    .map((text) => `1${text}\u0000`);
  for (const text of texts) {
    const edges: readonly (() => unknown)[] = [
      () => runtime.submit(text, 1),
      () => runtime.submit(echo, 1, { idempotencyKey: text }),
      () => runtime.submit(echo, 1, { concurrencyKey: text }),
      () => runtime.submit(echo, 1, { tenant: text }),
      () => runtime.submit(echo, 1, { delay: text as '1s' }),
      () => runtime.submit(echo, 1, { [text]: 1 }),
      () => runtime.inspect(text),
      () => runtime.explain(text),
      () => runtime.pause({ queue: text }),
      () => runtime.cron('nightly', text, echo, 1),
      () => runtime.cron('nightly', '* * * * *', echo, 1, { tz: text }),
      () => runtime.cron(text, '* * * * *', echo, 1),
      () => runtime.locks.tryLock(text),
      () => runtime.metadata.get(text, 'plan', 'now'),
      () => runtime.metadata.get('acme', 'plan', text),
      () => runtime.config.get(text),
      () => defineTask({ name: text, run: () => 0 }),
      () => defineTask({ name: 'x', queue: text, run: () => 0 }),
      () => defineTask({ name: 'x', timeout: text as '1s', run: () => 0 }),
      () => createRuntime({ tasks, store, admin: { listen: text } }),
      () => createRuntime({ tasks, store, queue: { maxBytes: text as '1MB' } }),
      () => createRuntime({ tasks, store, tracing: { baggage: [text] } }),
      () => createRuntime({ tasks, store, fairness: { weights: { [text]: 1 } } }),
      () => etcdStore({ endpoints: [text] }),
      () => etcdStore({ endpoints: ['127.0.0.1:1'], namespace: text }),
    ];
    for (const edge of edges) await refuses(edge);
  }
});

/** It is refused within SLOW_MS, at its best of three times: the machine may have other work to do. */
async function refuses(edge: () => unknown): Promise<void> {
  let bestMs = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 3 && bestMs > SLOW_MS; i++) {
    const startedAtMs = performance.now();
    await refusal(edge);
    bestMs = Math.min(bestMs, performance.now() - startedAtMs);
  }
  assert.ok(bestMs <= SLOW_MS, `${edge}: ${bestMs} ms`);
}

/** It throws or rejects, and says what is wrong in some hundred characters. */
async function refusal(edge: () => unknown): Promise<void> {
  const refused: unknown = await new Promise((resolve) => resolve(edge())).then(
    () => assert.fail(`taken: ${edge}`),
    (error: unknown) => error,
  );
  assertRefusal(refused, String(edge));
}

function assertRefusal(refused: unknown, what = ''): asserts refused is MillraceError {
  assert.ok(isMillraceError(refused), `${what}: ${String(refused).slice(0, MESSAGE_CHARS_MAX)}`);
  const { message, details } = refused;
  assert.ok(message.length <= MESSAGE_CHARS_MAX, `${what}: ${message.length} characters`);
  const detailChars = JSON.stringify(details ?? {}).length;
  assert.ok(detailChars <= MESSAGE_CHARS_MAX * 2, `${what}: details of ${detailChars}`);
}
