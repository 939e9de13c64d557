/** A secret that goes through a runtime shows in nothing that the runtime tells of itself; nor does hostile input do anything there. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { context, propagation, trace } from '@opentelemetry/api';
import { createRuntime, defineTask, defineTasks, memoryStore } from '../../src/index.js';
import { registerSdk } from '../support/spans.js';

const CANARY = 'canary-4711-do-not-tell';
const spans = registerSdk();

const pass = defineTask({
  name: 'pass',
  exec: 'inline',
  run: (input: unknown, ctx) => {
    ctx.progress({ seen: CANARY });
    ctx.log.info({ password: CANARY, nested: { token: CANARY } }, 'passed');
    return input;
  },
});
const tasks = defineTasks({ pass });

async function setup(t: { after(end: () => Promise<void>): void }) {
  const lines: string[] = [];
  const write = (fields: object, message: string): void => {
    lines.push(JSON.stringify({ ...fields, message }));
  };
  const runtime = await createRuntime({
    tasks,
    store: memoryStore(),
    logger: { trace: write, debug: write, info: write, warn: write, error: write },
    logs: { sample: { heartbeats: 1, events: 1, lines: 1 } },
    tracing: true,
  });
  t.after(() => runtime.close());
  return { runtime, lines };
}

it('a secret in input, result, progress, idempotency key and baggage is in no line, metric or span', async (t) => {
  const { runtime, lines } = await setup(t);
  const baggage = propagation.createBaggage({ session: { value: CANARY } });
  await context.with(propagation.setBaggage(context.active(), baggage), () =>
    trace.getTracer('test').startActiveSpan('request', async (span) => {
      const handle = await runtime.submit(pass, { secret: CANARY }, { idempotencyKey: CANARY });
      assert.deepEqual(await handle.result(), { secret: CANARY });
      span.end();
    }),
  );
  await runtime.drain();
  const told = spans.named('process').map(({ name, attributes, status, events, links }) => ({
    ...{ name, attributes, status, events },
    links: links.map(({ context: linked, attributes: own }) => ({ linked, own })),
  }));
  assert.ok(told.length >= 2);
  assert.ok(lines.some((line) => line.includes('passed')));
  for (const text of [JSON.stringify(told), lines.join('\n'), runtime.metrics.prometheus()]) {
    assert.ok(!text.includes(CANARY));
  }
});

it('keys of input that mean something to JavaScript mean nothing here', async (t) => {
  const { runtime } = await setup(t);
  const hostile = '{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}}}';
  const handle = await runtime.submit(pass, JSON.parse(hostile));
  assert.equal(JSON.stringify(await handle.result()), hostile);
  assert.equal(({} as { polluted?: number }).polluted, undefined);
});

it('a name chooses a task of the module, and nothing else', async (t) => {
  const { runtime } = await setup(t);
  for (const name of ['../pass', 'file:///etc/passwd', 'data:text/javascript,1', '__proto__', '']) {
    await assert.rejects(async () => runtime.submit(name, {}), {
      code: 'ERR_MILLRACE_UNKNOWN_TASK',
    });
  }
});
