/**
 * What is in the store outlives the version that wrote it. So everything that a node writes was frozen once, as bytes in
 * test/fixtures/format; this version must write the same, and run it when it finds it. To change a format, give it a new
 * number, keep the old file and its reading, and freeze the new one beside it: MILLRACE_FREEZE=1 makes the first test write.
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { describe, type TestContext, test } from 'node:test';
import { hasCode } from '../../src/core/errors.js';
import { requireTaskId, type TaskId } from '../../src/core/ids.js';
import { TaskState } from '../../src/core/states.js';
import type { Store } from '../../src/core/store.js';
import {
  type Command,
  decodeCommand,
  decodeMail,
  encodeLetter,
  type Mail,
} from '../../src/engine/letters.js';
import type { Accepted } from '../../src/engine/submission.js';
import {
  completing,
  idOf,
  type ScriptedCluster,
  scriptedCluster,
} from '../support/scripted-cluster.js';
import { Outcome } from '../support/scripted-pool.js';

// The compiled test is in dist/test/engine.
const FILE = new URL('../../../test/fixtures/format/store-1.json', import.meta.url);

interface Frozen {
  /** Value by key, base64. */
  readonly store: Readonly<Record<string, string>>;
  /** Ids of the tasks in it, by what became of them. */
  readonly tasks: Readonly<Record<string, TaskId>>;
  readonly letters: Readonly<Record<string, string>>;
}

const TASK = 'default.01.0mjuohs00.0123abcd00000001.0f' as TaskId;
const COMMANDS: Readonly<Record<string, Command>> = {
  subscribe: { kind: 'subscribe', from: 'node', tasks: [TASK] },
  cancel: { kind: 'cancel', from: 'node', number: 7, task: TASK, reason: 'no need' },
  results: {
    kind: 'results',
    from: 'node',
    results: [
      {
        task: TASK,
        attempt: 2,
        report: { kind: 'outcome', outcome: Outcome.COMPLETED, json: '"done"', overranMs: 5 },
      },
      { task: TASK, attempt: 3, report: { kind: 'lost', death: { reason: 'exit', begun: 1 } } },
    ],
  },
};
const MAIL: Mail = {
  ends: [{ task: TASK, state: TaskState.COMPLETED, json: '"done"' }],
  gone: [TASK],
  answers: [{ number: 7, answer: 'cancelled' }],
  aborts: [{ task: TASK, reason: 'no need' }],
  probes: [{ task: TASK, attempt: 2 }],
};

/** Brings a store into a state in which there is something of everything. */
async function write(cluster: ScriptedCluster): Promise<Frozen> {
  const worker = await cluster.join(['work'], 2);
  const producer = await cluster.join([]);
  await cluster.clock.advance(1_000);
  const { newTask, within, clock } = cluster;
  const submit = (name: string, changes = {}): Promise<Accepted> =>
    within(worker.submit(newTask(JSON.stringify({ name }), changes)));
  const end = (at: number, outcome: Outcome, json: string): void => {
    worker.pool.batches[at]!.report([0], outcome, json);
    worker.pool.batches[at]!.end();
  };
  const completed = await submit('completed');
  end(0, Outcome.COMPLETED, '{"size":3}');
  const failed = await submit('failed', { idempotencyKey: 'of the failed' });
  await cluster.until('it runs', () => worker.pool.batches.length === 2);
  end(1, Outcome.FAILED_FOR_GOOD, '{"name":"RangeError","message":"no more tea"}');
  await within(worker.engine.ended(failed));
  const running = await submit('running', { tenant: 'acme', priority: -2 });
  const retried = await submit('retried', { expiresAtMs: clock.wallMs() + 600_000 });
  end(3, Outcome.FAILED, '{"name":"RangeError","message":"not yet"}');
  const other = await submit('another that runs');
  await cluster.until('no place is free', () => worker.pool.batches.length === 5);
  worker.pool.freePlaces = 0;
  const delayed = await submit('delayed', { dueAtMs: clock.wallMs() + 300_000 });
  const posted = await within(producer.submit(newTask('{"name":"posted"}')));
  void producer.engine.ended({ ...posted, task: 0 as never }).catch(() => {});
  await clock.advance(100);
  const accepted = { completed, failed, running, retried, other, delayed, posted };
  const tasks = Object.fromEntries(
    Object.entries(accepted).map(([name, task]) => [name, idOf(task)]),
  );
  const letters = Object.entries({ ...COMMANDS, mail: MAIL }).map(
    ([name, letter]) => [name, base64(encodeLetter(letter))] as const,
  );
  return { store: await contentOf(cluster.store), tasks, letters: Object.fromEntries(letters) };
}

/** All that stays when the nodes are gone. */
async function contentOf(store: Store): Promise<Record<string, string>> {
  const { entries } = await store.range({ from: '!', to: '~' });
  return Object.fromEntries(
    entries
      .filter(({ leaseId }) => leaseId === undefined)
      .map(({ key, value }) => [key, base64(value)]),
  );
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}

function frozen(): Frozen {
  return JSON.parse(readFileSync(FILE, 'utf8')) as Frozen;
}

/** A cluster whose store was written by the version that froze it. */
async function thawed(t: TestContext) {
  const cluster = await scriptedCluster(t);
  const { store, tasks } = frozen();
  for (const [key, value] of Object.entries(store)) {
    const put = { type: 'put', key, value: Buffer.from(value, 'base64') } as const;
    await cluster.store.txn({ compares: [], success: [put] });
  }
  const place = (name: string): Accepted => ({
    ...requireTaskId(tasks[name]),
    task: 0 as never,
    isCreated: false,
  });
  return { cluster, place };
}

describe('what is stored', () => {
  test('is written as it was when the format was frozen', async (t) => {
    const written = await write(await scriptedCluster(t));
    if (process.env.MILLRACE_FREEZE) writeFileSync(FILE, `${JSON.stringify(written, null, 2)}\n`);
    assert.deepEqual(written, frozen());
    const kinds = new Set(Object.keys(written.store).map((key) => key.split('/')[0]));
    assert.deepEqual([...kinds].sort(), ['c', 'd', 'h', 'i', 'k', 's', 't', 'v', 'z']);
  });

  test('and frozen then is read, and runs', async (t) => {
    const { cluster, place } = await thawed(t);
    const worker = await cluster.join(['work'], 8);
    const { engine } = worker;
    const complete = completing(worker);
    const ended = (name: string) => cluster.within(engine.ended(place(name)));
    assert.equal((await ended('completed')).json, '{"size":3}');
    const failed = await ended('failed');
    assert.equal(failed.state, TaskState.FAILED);
    assert.match(failed.json, /no more tea/);
    await cluster.until('all that is due runs', () => worker.pool.batches.length === 4, 400_000);
    const ran = worker.pool.batches.flatMap(({ tasks }) => tasks);
    const named = (name: string) =>
      ran.find(({ payload }) => JSON.parse(Buffer.from(payload).toString()).name === name);
    assert.equal(named('running')?.tenant, 'acme');
    // Its claim was a loss, its failure an attempt.
    assert.equal(named('running')?.attempt, 1);
    assert.equal(named('retried')?.attempt, 2);
    assert.ok(named('another that runs') && named('posted'));
    complete();
    await cluster.until('the delayed one', () => worker.pool.batches.length === 5, 400_000);
    complete();
    for (const name of ['running', 'retried', 'delayed', 'posted']) {
      assert.equal((await ended(name)).state, TaskState.COMPLETED, name);
    }
    const again = cluster.newTask('{}', { idempotencyKey: 'of the failed' });
    const known = await cluster.within(worker.submit(again));
    assert.equal(known.isCreated, false);
    // Who had asked for the end of the posted one is told, wherever it is now.
    assert.equal((await cluster.keys('r/')).length, 1);
    assert.deepEqual(await cluster.keys('t/'), []);
    assert.deepEqual(await cluster.keys('c/'), []);
  });

  test('letters read as they were meant', () => {
    const { letters } = frozen();
    for (const [name, command] of Object.entries(COMMANDS)) {
      assert.deepEqual(decodeCommand(Buffer.from(letters[name]!, 'base64')), command);
    }
    // Lists that were added since are empty.
    const mail = decodeMail(Buffer.from(letters.mail!, 'base64'));
    assert.deepEqual(mail, { ...MAIL, redriven: [] });
  });

  test('by a newer version is not touched: the node does not start', async (t) => {
    for (const [value, code] of [
      ['{"format":2}', 'ERR_MILLRACE_STORE_FORMAT'],
      ['{}', 'ERR_MILLRACE_STORE_CORRUPT'],
    ] as const) {
      const cluster = await scriptedCluster(t);
      const put = { type: 'put', key: 'v/layout', value: Buffer.from(value) } as const;
      await cluster.store.txn({ compares: [], success: [put] });
      await assert.rejects(cluster.join(), (error) => hasCode(error, code));
    }
  });

  test('letters of a newer version are refused', () => {
    const newer = Buffer.from('{"format":2,"kind":"subscribe"}');
    for (const decode of [decodeCommand, decodeMail]) {
      assert.throws(
        () => decode(newer),
        (error) => hasCode(error, 'ERR_MILLRACE_STORE_FORMAT'),
      );
    }
  });
});
