/**
 * Runtimes on a real etcd, in this process: alone, and two that share the work.
 */
import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { after, before, describe, test } from 'node:test';
import { hasCode } from '../../../src/core/errors.js';
import { defineTask, defineTasks, type ExecutionContext } from '../../../src/index.js';
import { EtcdCluster } from '../../support/etcd/index.js';
import { soon, until } from '../../support/limit.js';
import { place } from './runtimes.js';
import type { WorkInput, WorkResult } from './tasks.js';

describe('runtimes on etcd', () => {
  let etcd: EtcdCluster;
  before(async () => {
    etcd = await EtcdCluster.start({ electionMs: 500 });
  });
  after(() => etcd.close());

  test('one runtime: tasks on threads and on the main thread, delayed, keyed, failed', async (t) => {
    const { start, input, keys } = place(t, etcd);
    const runtime = await soon('start', start());
    const handles = await soon(
      'acknowledged',
      Promise.all(
        Array.from({ length: 300 }, (_, i) =>
          runtime.submit(i % 2 ? 'work' : 'work.inline', input(`${i}`)),
        ),
      ),
    );
    const results = await soon('results', Promise.all(handles.map((handle) => handle.result())));
    assert.deepEqual(
      results.map((result) => (result as { name: string }).name),
      handles.map((_, i) => `${i}`),
    );
    const submittedAtMs = performance.now();
    const delayed = await runtime.submit('work', input('delayed'), { delay: '300ms' });
    await soon('the delayed one', delayed.result());
    assert.ok(performance.now() - submittedAtMs >= 300);
    const keyed = { idempotencyKey: 'one' };
    const both = await Promise.all([
      runtime.submit('work', input('keyed'), keyed),
      runtime.submit('work', input('keyed'), keyed),
    ]);
    assert.equal(both[0].id, both[1].id);
    await soon('the keyed one', both[0].result());
    const failing = await runtime.submit('fail', {});
    await assert.rejects(soon('the failing one', failing.result()), (error) =>
      hasCode(error, 'ERR_MILLRACE_TASK_FAILED'),
    );
    assert.equal((await keys('d')).length, 1);
    await soon('drained', runtime.drain());
    assert.deepEqual(await keys('t', 'i', 's', 'c', 'r'), []);
  });

  test('what waits when a runtime closes is there for the next', async (t) => {
    const { start, input } = place(t, etcd);
    const first = await start();
    const { id } = await first.submit('work', input('later'), { delay: '1s' });
    await soon('closed', first.close());
    const second = await start();
    await soon('the result', second.handle('work', id).result());
  });

  test('two runtimes share what one is given, and each hears of all ends', async (t) => {
    const { start, input, seen, keys } = place(t, etcd);
    const [a, b] = await soon('both', Promise.all([start(), start()]));
    await until('both have shards', async () => {
      const owners = await keys('o');
      return owners.length === 64 && (await a.stats()).threads === 1;
    });
    const handles = [];
    for (let i = 0; i < 100; i++) handles.push(await a.submit('work', input(`${i}`)));
    await soon('results', Promise.all(handles.map((handle) => handle.result())));
    const again = handles.map(({ id }) => b.handle('work', id).result());
    await soon('the same from the other', Promise.all(again));
    assert.equal(seen().filter(({ kind }) => kind === 'end').length, 100);
    // Mail is deleted once it has been read: who waited is told before.
    await until('mail is gone', async () => (await keys('r')).length === 0);
    assert.deepEqual(await keys('t', 'i', 's', 'c', 'r'), []);
  });

  test('one of two closes in the middle of work: nothing is lost, no attempt is spent', async (t) => {
    const { start, input, seen } = place(t, etcd);
    const [a, b] = await soon('both', Promise.all([start(), start()]));
    const handles = await Promise.all(
      Array.from({ length: 200 }, (_, i) => (i % 2 ? a : b).submit('work', input(`${i}`, 5))),
    );
    await soon('closed', a.close());
    const results = handles.map(({ id }) => b.handle('work', id).result());
    await soon('results', Promise.all(results));
    const ends = seen().filter(({ kind }) => kind === 'end');
    assert.equal(ends.length, 200, 'each ran once');
    assert.ok(ends.every(({ attempt }) => attempt === 1));
  });

  test('a cancel from the other runtime reaches what runs', async (t) => {
    const { start } = place(t, etcd);
    const [a, b] = await soon('both', Promise.all([start(), start()]));
    const handles = await Promise.all([1, 2, 3, 4].map(() => a.submit('until.aborted', {})));
    for (const { id } of handles) {
      const far = b.handle('until.aborted', id);
      await until('it runs', async () => (await far.status()) === 'running');
      assert.equal(await soon('the answer', far.cancel('no need')), 'signalled');
      const { status } = await soon('the end', far.settled());
      assert.equal(status, 'cancelled');
    }
  });

  test('a runtime with contracts only: its tasks run elsewhere', async (t) => {
    const { start, input } = place(t, etcd);
    await start();
    const work = defineTask<WorkInput, WorkResult>({ name: 'work' });
    const producer = await start({ tasks: defineTasks({ work }) });
    const handles = await Promise.all(
      Array.from({ length: 50 }, (_, i) => producer.submit(work, input(`${i}`))),
    );
    const results = await soon('results', Promise.all(handles.map((handle) => handle.result())));
    assert.deepEqual(
      results.map(({ name }) => name),
      handles.map((_, i) => `${i}`),
    );
  });

  test('a version without a handler never takes the task: it waits for one that has it', async (t) => {
    const { start, keys } = place(t, etcd);
    const run = (_: unknown, { execution }: ExecutionContext) => execution.attempt;
    const common = defineTask({ name: 'common', exec: 'inline', run });
    const novelty = defineTask<unknown, number>({ name: 'novelty', exec: 'inline' });
    const unhandled: string[] = [];
    const note = (told: unknown): void => void unhandled.push((told as { type: string }).type);
    subscribe('millrace:task:unhandled', note);
    t.after(() => unsubscribe('millrace:task:unhandled', note));
    const old = await start({ tasks: defineTasks({ common }) });
    const producer = await start({ tasks: defineTasks({ novelty }) });
    const waiting = await Promise.all(
      Array.from({ length: 20 }, () => producer.submit(novelty, {})),
    );
    await until('the old one has seen them', () => unhandled.length >= 20);
    assert.equal(await waiting[0]!.status(), 'pending');
    assert.match(old.metrics.prometheus(), /tasks_unhandled_total\{queue="default"\} [1-9]/);
    const young = await start({
      tasks: defineTasks({ common, novelty: novelty.implement({ run }) }),
    });
    const results = Promise.all(waiting.map((handle) => handle.result()));
    assert.deepEqual(await soon('results', results), Array(20).fill(1));
    const anybodys = Array.from({ length: 20 }, () => old.submit(common, {}));
    for (const handle of await Promise.all(anybodys)) await soon('a result', handle.result());
    await soon('the old version goes', old.close());
    await until('nothing waits for a version', async () => (await keys('w')).length === 0);
    await soon('the new version goes', young.close());
  });
});
