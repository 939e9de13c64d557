/** The leak watchdog over real threads, with its clock running faster. */
import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { readFile } from 'node:fs/promises';
import { it, type TestContext } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import type { ChannelName, ChannelPayloads } from '../../../src/core/channels.js';
import { createRuntime, memoryStore, type Runtime } from '../../../src/index.js';

const TASKS = new URL('../../fixtures/workers/leaky.js', import.meta.url);
const EVERY_MS = 25;
const LIMIT_MS = 60_000;

function listen<Name extends ChannelName>(
  t: TestContext,
  name: Name,
  listener: (payload: ChannelPayloads[Name]) => void,
): void {
  const heard = (payload: unknown): void => listener(payload as ChannelPayloads[Name]);
  subscribe(name, heard);
  t.after(() => unsubscribe(name, heard));
}

/**
 * Keeps both types running, in waves, until it is told to stop.
 *
 * @param leaksEvery - one wave in so many leaves something open; 0: none
 */
async function keepBusy(
  runtime: Runtime,
  leaksEvery: number,
  isOver: () => boolean,
): Promise<void> {
  for (let round = 0; !isOver(); round++) {
    const tasks = 2 + (round % 5) * 3;
    const handles = [
      ...(await runtime.submitMany('leaky', [{ leaks: round % leaksEvery === 1 }])).ids(),
      ...(await runtime.submitMany('clean', Array.from({ length: tasks }))).ids(),
    ];
    assert.ok(handles.length > 0);
    await runtime.drain();
    await wait(5);
  }
}

it('a handler that leaks is named by its task type, and its worker is replaced', async (t) => {
  const runtime = await createRuntime({
    tasks: TASKS,
    store: memoryStore(),
    threads: { max: 1 },
    healing: { grace: 0, rules: { leaks: { every: EVERY_MS } } },
  });
  t.after(() => runtime.close());
  const confirmed: ChannelPayloads['millrace:leak:confirmed'][] = [];
  const left: ChannelPayloads['millrace:leak:left'][] = [];
  const ended: number[] = [];
  let mostOpen = 0;
  let isReplaced = false;
  listen(t, 'millrace:leak:confirmed', (verdict) => confirmed.push(verdict));
  listen(t, 'millrace:leak:left', (one) => left.push(one));
  listen(t, 'millrace:thread:handles', ({ threadId, open, hasEnded }) => {
    if (hasEnded) ended.push(threadId);
    mostOpen = Math.max(mostOpen, open.Timeout ?? 0);
  });
  listen(t, 'millrace:heal:action', ({ action }) => {
    if (action === 'restart-worker') isReplaced = true;
  });
  const untilMs = performance.now() + LIMIT_MS;
  await keepBusy(runtime, 2, () => isReplaced || performance.now() > untilMs);

  const [verdict] = confirmed;
  assert.equal(verdict?.kind, 'worker:Timeout');
  assert.equal(verdict.type, 'leaky');
  assert.ok(verdict.count > 16);
  // Where it was opened.
  assert.match(verdict.sites[0]!.stack, /leaky\.(js|ts)/);
  assert.ok(left.some(({ type, kind }) => type === 'leaky' && kind === 'Timeout'));
  assert.ok(!left.some(({ type }) => type === 'clean'));
  const restart = runtime.healing.audit().find(({ action }) => action === 'restart-worker');
  assert.deepEqual(
    { target: restart?.target, result: restart?.result },
    { target: 'leaky', result: 'done' },
  );
  assert.equal(ended.length, 1);
  // The evidence is beside the report of the process.
  const capture = runtime.healing.audit().find(({ action }) => action === 'capture-diagnostics');
  const evidence = capture!.detail.replace('report-', 'evidence-');
  assert.equal(JSON.parse(await readFile(evidence, 'utf8')).type, 'leaky');
});

it('a task that ends with handles it opened still open is named by type, without any suspicion', async (t) => {
  const runtime = await createRuntime({ tasks: TASKS, store: memoryStore(), threads: { max: 1 } });
  t.after(() => runtime.close());
  const named = new Promise<ChannelPayloads['millrace:leak:left']>((resolve) => {
    listen(t, 'millrace:leak:left', resolve);
  });
  const handle = await runtime.submit('leaky', { leaks: true });
  await handle.result();
  const { type, kind, count } = await named;
  assert.deepEqual({ type, kind, count }, { type: 'leaky', kind: 'Timeout', count: 1 });
});

it('handlers that close what they open are left alone', async (t) => {
  const runtime = await createRuntime({
    tasks: TASKS,
    store: memoryStore(),
    threads: { max: 1 },
    healing: { grace: 0, rules: { leaks: { every: EVERY_MS } } },
  });
  t.after(() => runtime.close());
  const suspected: string[] = [];
  let samples = 0;
  listen(t, 'millrace:leak:suspected', ({ kind }) => suspected.push(kind));
  listen(t, 'millrace:leak:sampled', () => samples++);
  await keepBusy(runtime, 0, () => samples >= 200);
  assert.deepEqual(suspected, []);
});

it("with `off: ['leakchecks']` nobody looks", async (t) => {
  let reports = 0;
  listen(t, 'millrace:thread:handles', ({ hasEnded }) => {
    if (!hasEnded) reports++;
  });
  listen(t, 'millrace:leak:sampled', () => reports++);
  const runtime = await createRuntime({
    tasks: TASKS,
    store: memoryStore(),
    threads: { max: 1 },
    healing: { rules: { leaks: { every: EVERY_MS } } },
    experimental: { off: ['leakchecks'] },
  });
  t.after(() => runtime.close());
  let rounds = 0;
  await keepBusy(runtime, 2, () => rounds++ > 20);
  assert.equal(reports, 0);
});
