/** Spans of a runtime whose handlers run on the main thread, by an SDK. */
import assert from 'node:assert/strict';
import { AsyncLocalStorage } from 'node:async_hooks';
import { channel, subscribe, unsubscribe } from 'node:diagnostics_channel';
import { afterEach, describe, it, type TestContext } from 'node:test';
import { context, propagation, SpanStatusCode, trace } from '@opentelemetry/api';
import {
  createRuntime,
  defineTask,
  defineTasks,
  memoryStore,
  type Runtime,
  type RuntimeOptions,
} from '../../src/index.js';
import { registerSdk } from '../support/spans.js';

const spans = registerSdk();
const tracer = trace.getTracer('test');

interface Told {
  readonly active: string | undefined;
  readonly traceparent: string | undefined;
  readonly user: string | undefined;
}

const tell = defineTask({
  name: 'tell',
  exec: 'inline',
  retry: { attempts: 2, min: 1, jitter: 'none' },
  run: (how: string, ctx): Told => {
    if (how === 'fail once' && ctx.execution.attempt === 1) throw new TypeError('once');
    return {
      active: trace.getSpan(context.active())?.spanContext().spanId,
      traceparent: ctx.traceparent,
      user: propagation.getBaggage(context.active())?.getEntry('user')?.value,
    };
  },
});
const tasks = defineTasks({ tell });

async function setup(t: TestContext, options: Partial<RuntimeOptions> = {}): Promise<Runtime> {
  const runtime = await createRuntime({
    tasks,
    store: memoryStore(),
    tracing: true,
    healing: false,
    ...options,
  });
  t.after(() => runtime.close());
  return runtime;
}

/** Submits within a span of its own. */
async function submitIn(runtime: Runtime, how: string, options = {}): Promise<[string, Told]> {
  const span = tracer.startSpan('request');
  try {
    const handle = await context.with(trace.setSpan(context.active(), span), () =>
      runtime.submit(tell, how, options),
    );
    const { traceId, spanId } = span.spanContext();
    return [`${traceId}-${spanId}`, await handle.result({ timeout: '5s' })];
  } finally {
    span.end();
  }
}

afterEach(() => spans.clear());

describe('spans', () => {
  it('an execution is part of the span it was submitted in, and its context is active in the handler', async (t) => {
    const runtime = await setup(t);
    const [request, told] = await submitIn(runtime, 'work');
    const [span] = spans.named('process tell');
    const { traceId, spanId } = span!.spanContext();
    assert.equal(`${traceId}-${span!.parentSpanContext?.spanId}`, request);
    assert.equal(told.active, spanId);
    assert.equal(told.traceparent, `00-${traceId}-${spanId}-01`);
    assert.equal(span!.attributes['messaging.system'], 'millrace');
    assert.equal(span!.attributes['millrace.outcome'], 'ok');
  });

  it('a batch has a span that links to the submitters, and spans of tasks link to it', async (t) => {
    const runtime = await setup(t);
    const [request] = await submitIn(runtime, 'work');
    // It ends after the last of its tasks is told.
    await runtime.drain();
    const [batch] = spans.named('process batch');
    const [task] = spans.named('process tell');
    const linked = batch!.links.map(({ context: { traceId, spanId } }) => `${traceId}-${spanId}`);
    assert.deepEqual(linked, [request]);
    assert.equal(batch!.parentSpanContext, undefined);
    assert.equal(task!.links[0]!.context.spanId, batch!.spanContext().spanId);
  });

  it('what failed says so, and what is repeated is a trace of its own that links to its submitter', async (t) => {
    const runtime = await setup(t);
    const [request] = await submitIn(runtime, 'fail once');
    const [first, second] = spans.named('process tell');
    assert.equal(first!.status.code, SpanStatusCode.ERROR);
    assert.equal(first!.status.message, 'once');
    assert.equal(first!.attributes['error.type'], 'TypeError');
    assert.equal(second!.parentSpanContext, undefined);
    const { traceId, spanId } = second!.links[0]!.context;
    assert.equal(`${traceId}-${spanId}`, request);
  });

  for (const [relation, isPart] of [
    ['parent', true],
    ['link', false],
  ] as const) {
    it(`relation ${relation}: repeated or not`, async (t) => {
      const runtime = await setup(t, { tracing: { relation } });
      const [request] = await submitIn(runtime, 'fail once');
      for (const span of spans.named('process tell')) {
        const { traceId } = span.spanContext();
        assert.equal(request.startsWith(traceId), isPart);
      }
      assert.equal(spans.named('process tell').length, 2);
    });
  }

  it('tasks submitted in bulk are linked', async (t) => {
    const runtime = await setup(t);
    await tracer.startActiveSpan('request', async (span) => {
      await runtime.submitMany(tell, ['a', 'b']);
      await runtime.drain();
      span.end();
    });
    const found = spans.named('process tell');
    assert.equal(found.length, 2);
    for (const span of found) assert.equal(span.parentSpanContext, undefined);
  });

  it('there are none for tasks from outside of any trace, and none for unsampled ones, whose context goes on', async (t) => {
    const runtime = await setup(t);
    const outside = await runtime.submit(tell, 'work');
    assert.equal((await outside.result()).traceparent, undefined);
    const unsampled = {
      traceId: '0af7651916cd43dd8448eb211c80319c',
      spanId: 'b7ad6b7169203331',
      traceFlags: 0,
    };
    const handle = await context.with(trace.setSpanContext(context.active(), unsampled), () =>
      runtime.submit(tell, 'work'),
    );
    const told = await handle.result();
    assert.equal(told.traceparent, `00-${unsampled.traceId}-${unsampled.spanId}-00`);
    assert.equal(told.active, unsampled.spanId);
    await runtime.drain();
    assert.deepEqual(spans.named('process'), []);
  });

  it('baggage travels where it is allowed to', async (t) => {
    const runtime = await setup(t, { tracing: { baggage: ['user'] } });
    const baggage = propagation.createBaggage({ user: { value: 'ä=b' }, card: { value: '4711' } });
    const told = await context.with(propagation.setBaggage(context.active(), baggage), async () => {
      const [, seen] = await submitIn(runtime, 'work');
      return seen;
    });
    assert.equal(told.user, 'ä=b');
    const other = await setup(t);
    const none = await context.with(propagation.setBaggage(context.active(), baggage), () =>
      submitIn(other, 'work'),
    );
    assert.equal(none[1].user, undefined);
  });

  it('while the runtime is degraded there are none', async (t) => {
    const runtime = await setup(t);
    // What a degradation publishes names its runtime.
    let incarnation = '';
    const onSubmitted = (said: unknown): void => {
      ({ incarnation } = said as { incarnation: string });
    };
    subscribe('millrace:tasks:submitted', onSubmitted);
    t.after(() => unsubscribe('millrace:tasks:submitted', onSubmitted));
    await submitIn(runtime, 'work');
    spans.clear();
    const degraded = channel('millrace:runtime:degraded');
    degraded.publish({ incarnation, isDegraded: true, reason: 'test' });
    const [, told] = await submitIn(runtime, 'work');
    assert.equal(told.traceparent, undefined);
    assert.deepEqual(spans.named('process'), []);
    degraded.publish({ incarnation, isDegraded: false, reason: 'test' });
    const [, again] = await submitIn(runtime, 'work');
    assert.ok(again.traceparent);
  });

  it('without `tracing` tasks carry nothing', async (t) => {
    const runtime = await setup(t, { tracing: false });
    const [, told] = await submitIn(runtime, 'work');
    assert.equal(told.traceparent, undefined);
    assert.deepEqual(spans.named('process'), []);
  });
});

it('what the runtime does by itself belongs to no context of its users', async (t) => {
  const requests = new AsyncLocalStorage<string>();
  const seen: (string | undefined)[] = [];
  const onCommit = (): void => void seen.push(requests.getStore());
  subscribe('millrace:commit:done', onCommit);
  t.after(() => unsubscribe('millrace:commit:done', onCommit));
  // Started by a request, as lazy services do.
  const runtime = await requests.run('first', () => setup(t, { tracing: false }));
  await requests.run('second', async () => {
    const handle = await runtime.submit(tell, 'work', { delay: 20 });
    await handle.result();
    assert.equal(requests.getStore(), 'second');
  });
  assert.ok(seen.length > 0);
  assert.deepEqual(new Set(seen), new Set([undefined]));
});

it('options of tracing are checked', async () => {
  for (const tracing of [{ relation: 'child' }, { baggage: 'user' }, { baggage: ['a b'] }, 1]) {
    const options = { tasks, store: memoryStore(), tracing } as unknown as RuntimeOptions;
    await assert.rejects(createRuntime(options), { code: 'ERR_MILLRACE_INVALID_OPTION' });
  }
});

describe('what is woven around handlers', () => {
  it('is nothing where nobody follows contexts, and begins when somebody does', async () => {
    const { createHooks } = await import('../../src/telemetry/handler-tracing.js');
    context.disable();
    const hooks = await createHooks();
    hooks.onBatch?.([]);
    const woven = (): typeof hooks.around => hooks.around;
    assert.equal(woven(), undefined);
    spans.provider.register();
    hooks.onBatch?.([]);
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
    const active = woven()?.({ type: 'tell', trace: { traceparent } }, () =>
      trace.getSpanContext(context.active()),
    );
    assert.equal(active?.spanId, 'b7ad6b7169203331');
  });
});
