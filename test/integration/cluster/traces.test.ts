/** One trace: from the process that submits, through etcd, into a thread of another runtime. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { context, propagation, trace } from '@opentelemetry/api';
import { createClient, createRuntime } from '../../../src/index.js';
import { etcdStore } from '../../../src/store/etcd/index.js';
import { look } from '../../fixtures/workers/traced.js';
import { EtcdCluster } from '../../support/etcd/index.js';
import { freshNamespace } from '../../support/etcd/store.js';
import { soon } from '../../support/limit.js';
import { registerSdk } from '../../support/spans.js';

const TASKS = new URL('../../fixtures/workers/traced.js', import.meta.url);
const tracing = { baggage: ['user'] };
const spans = registerSdk();

describe('traces', () => {
  let etcd: EtcdCluster;
  before(async () => {
    etcd = await EtcdCluster.start({ electionMs: 500 });
  });
  after(() => etcd.close());

  it('a task submitted on one node runs in a thread of another, in one connected trace; so do its retries', async (t) => {
    const store = etcdStore({ endpoints: etcd.endpoints, namespace: freshNamespace() });
    const runtime = await createRuntime({
      tasks: TASKS,
      store,
      threads: { max: 1 },
      tracing: { ...tracing, relation: 'parent' },
    });
    t.after(() => runtime.close());
    const client = await createClient({ tasks: [look], store, tracing });
    t.after(() => client.close());

    const request = trace.getTracer('test').startSpan('request');
    const baggage = propagation.createBaggage({ user: { value: '7' } });
    const active = propagation.setBaggage(trace.setSpan(context.active(), request), baggage);
    const handles = await context.with(active, () =>
      Promise.all([
        client.submit(look, {}),
        client.submit(look, { failsOnce: true }, { idempotencyKey: 'order-1' }),
      ]),
    );
    const seen = await soon('results', Promise.all(handles.map((handle) => handle.result())));
    request.end();

    assert.deepEqual(
      seen.map(({ attempt, wasOnMain, user }) => ({ attempt, wasOnMain, user })),
      [
        { attempt: 1, wasOnMain: false, user: '7' },
        { attempt: 2, wasOnMain: false, user: '7' },
      ],
    );
    const { traceId, spanId } = request.spanContext();
    const executions = spans.named('process look');
    assert.equal(executions.length, 3);
    for (const span of executions) {
      assert.equal(span.spanContext().traceId, traceId);
      assert.equal(span.parentSpanContext?.spanId, spanId);
    }
    // What the handlers did is part of their executions' spans.
    const ids = executions.map((span) => span.spanContext().spanId);
    for (const one of seen) {
      assert.equal(one.traceId, traceId);
      assert.ok(one.isSampled);
      assert.ok(ids.includes(one.parentSpanId!));
      assert.equal(one.traceparent, `00-${traceId}-${one.parentSpanId}-01`);
    }
  });
});
