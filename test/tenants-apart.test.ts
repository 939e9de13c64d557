/**
 * Two tenants in one runtime, in the same batches: nothing of one shows in what the other gets, nor in what is told about
 * the other. Each submits marks that stand nowhere else; whatever holds a tenant's mark has to be that tenant's.
 */
import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { type TestContext, test } from 'node:test';
import type { ChannelPayloads } from '../src/core/channels.js';
import { toWire } from '../src/core/error-wire.js';
import {
  createRuntime,
  defineTask,
  defineTasks,
  memoryStore,
  type RuntimeOptions,
} from '../src/index.js';

const TENANTS = ['acme', 'globex'] as const;
type Tenant = (typeof TENANTS)[number];
const TASKS_PER_TENANT = 50;

/** Stands in everything that a tenant submits. */
const markOf = (tenant: Tenant): string => `mark-of-${tenant}-4711`;

interface Input {
  readonly mark: string;
  readonly fails: boolean;
}

const work = defineTask({
  name: 'work',
  exec: 'inline',
  retry: { attempts: 2, min: 1, jitter: 'none' },
  run: ({ mark, fails }: Input, ctx) => {
    ctx.log.warn({ mark }, `seen ${mark}`);
    ctx.progress({ mark });
    if (fails) throw new Error(`refused ${mark}`);
    return { mark, tenant: ctx.tenant };
  },
});
const tasks = defineTasks({ work });

async function setup(t: TestContext, options: Partial<RuntimeOptions> = {}) {
  const runtime = await createRuntime({ tasks, store: memoryStore(), ...options });
  t.after(() => runtime.close());
  /** By turns, so that they share segments and batches. */
  const submitAll = () =>
    Promise.all(
      Array.from({ length: TASKS_PER_TENANT * TENANTS.length }, async (_, i) => {
        const tenant = TENANTS[i % TENANTS.length]!;
        const input = { mark: markOf(tenant), fails: i % 5 === 0 };
        return { tenant, handle: await runtime.submit(work, input, { tenant }) };
      }),
    );
  return { runtime, submitAll };
}

/** Whose marks stand in it. */
function tenantsIn(told: unknown): Tenant[] {
  const text = typeof told === 'string' ? told : JSON.stringify(told);
  return TENANTS.filter((tenant) => text.includes(markOf(tenant)));
}

async function all(values: AsyncIterable<unknown>): Promise<unknown[]> {
  const list: unknown[] = [];
  for await (const value of values) list.push(value);
  return list;
}

test('in one batch, results, errors and progress are those of the own tenant', async (t) => {
  const { submitAll } = await setup(t);
  const batches: number[] = [];
  const listen = (launched: unknown): void => {
    batches.push((launched as ChannelPayloads['millrace:batch:launched']).tasks);
  };
  subscribe('millrace:batch:launched', listen);
  t.after(() => unsubscribe('millrace:batch:launched', listen));
  let failed = 0;
  for (const { tenant, handle } of await submitAll()) {
    const heard = all(handle.progress());
    const settled = await handle.settled();
    if (settled.status === 'completed') {
      assert.deepEqual(settled.value, { mark: markOf(tenant), tenant });
    } else {
      failed++;
      assert.deepEqual(tenantsIn(toWire(settled.error)), [tenant]);
    }
    for (const said of await heard) assert.deepEqual(said, { mark: markOf(tenant) });
  }
  assert.equal(failed, (TASKS_PER_TENANT * TENANTS.length) / 5);
  assert.ok(Math.max(...batches) > TENANTS.length, `batches of ${batches}`);
});

test('each line of the log is about one tenant, and metrics are about none', async (t) => {
  const lines: Record<string, unknown>[] = [];
  const write = (fields: object, message: string): void =>
    void lines.push({ ...fields, msg: message });
  const { runtime, submitAll } = await setup(t, {
    logger: { trace: write, debug: write, info: write, warn: write, error: write },
    logs: { sample: { heartbeats: 1, events: 1, lines: 1 } },
  });
  const submitted = await submitAll();
  const tenantOf = new Map(submitted.map(({ tenant, handle }) => [handle.id as string, tenant]));
  for (const { handle } of submitted) await handle.settled();
  await runtime.drain();
  const marked = lines.filter((line) => tenantsIn(line).length > 0);
  for (const line of marked) {
    assert.deepEqual(tenantsIn(line), [tenantOf.get(String(line.taskId))], JSON.stringify(line));
    if ('tenant' in line) assert.equal(line.tenant, tenantOf.get(String(line.taskId)));
  }
  const events = new Set(marked.map(({ event }) => event));
  assert.deepEqual([...events].sort(), ['task.failed', 'task.log', 'task.retry']);
  const metrics = runtime.metrics.prometheus();
  assert.match(metrics, /millrace_tasks_executed_total/);
  for (const tenant of TENANTS) assert.ok(!metrics.includes(tenant));
});

test('of entries and values with one name each tenant reads, lists and hears its own', async (t) => {
  const { runtime } = await setup(t);
  const { metadata, config } = runtime;
  const heard: { readonly tenant: Tenant; readonly value: unknown }[] = [];
  for (const tenant of TENANTS) {
    t.after(config.watch('limit', (value) => heard.push({ tenant, value }), { tenant }));
    await metadata.put(tenant, 'plan', 'current', markOf(tenant));
    await config.set('limit', markOf(tenant), { tenant });
  }
  // The second time out of the cache, where nothing is missed any more.
  const misses: number[] = [];
  for (let round = 0; round < 2; round++) {
    for (const tenant of TENANTS) {
      const entry = await metadata.get(tenant, 'plan', 'current');
      const { entries } = await metadata.list(tenant, 'plan');
      assert.equal(entry?.value, markOf(tenant));
      assert.deepEqual(
        entries.map(({ value }) => value),
        [markOf(tenant)],
      );
      assert.equal(await config.get('limit', { tenant }), markOf(tenant));
    }
    misses.push(metadata.stats().misses);
  }
  assert.equal(misses[1], misses[0]);
  const [one, other] = TENANTS;
  await metadata.delete(one, 'plan', 'current');
  assert.equal(await metadata.get(one, 'plan', 'current'), undefined);
  assert.equal((await metadata.get(other, 'plan', 'current'))?.value, markOf(other));
  assert.equal(await config.get('limit'), undefined);
  for (const { tenant, value } of heard) {
    if (value !== undefined) assert.equal(value, markOf(tenant));
  }
  assert.ok(heard.length >= TENANTS.length);
});
