/** Contracts that change between submit and run, on virtual time: nothing is retried that cannot succeed. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import type { StandardSchemaV1 } from '@standard-schema/spec';
import { hasCode, type MillraceError } from '../src/core/errors.js';
import { defineTask, defineTasks } from '../src/core/task.js';
import { testBed, within } from './support/runtime.js';

/** A Standard Schema of objects that have this field as a number. */
function having<Field extends string>(
  field: Field,
): StandardSchemaV1<unknown, Readonly<Record<Field, number>>> {
  return {
    '~standard': {
      version: 1,
      vendor: 'test',
      validate: (value) =>
        typeof (value as Record<string, unknown>)[field] === 'number'
          ? { value: value as Readonly<Record<Field, number>> }
          : { issues: [{ message: 'is no number', path: [field] }] },
    },
  };
}

test('an input that the schema does not take any more fails its task at once, and says why', async () => {
  const calls: unknown[] = [];
  const run = (input: unknown): void => void calls.push(input);
  const before = defineTask({ name: 'charge', exec: 'inline', input: having('cents'), run });
  const after = defineTask({ name: 'charge', exec: 'inline', input: having('amount'), run });
  const bed = testBed(defineTasks({ before }));
  const soon = <T>(promise: Promise<T>): Promise<T> => within(bed.clock, 60_000, promise);
  const old = await bed.start();
  const handle = await soon(old.submit(before, { cents: 5 }, { delay: '1m' }));
  await soon(old.close());

  const changed = await bed.start({ tasks: defineTasks({ after }) });
  const end = await within(bed.clock, 120_000, changed.handle(after, handle.id).settled());
  assert.ok(end.status === 'failed');
  const cause = end.error.cause as MillraceError;
  assert.equal(cause.code, 'ERR_MILLRACE_INVALID_INPUT');
  assert.match(
    cause.message,
    /^the input of task 'charge' does not satisfy its schema: amount: is no number; it was accepted under another/,
  );
  assert.deepEqual(cause.details.issues, [{ message: 'is no number', path: 'amount' }]);
  const { attempt, deadLetter } = await soon(changed.inspect(handle.id));
  assert.deepEqual([attempt, deadLetter, calls.length], [1, true, 0]);
  await soon(changed.close());

  // A version that takes the old input, too, can have it.
  const repaired = await bed.start();
  await soon(repaired.deadLetters(before).redrive());
  await soon(repaired.handle(before, handle.id).result());
  assert.deepEqual(calls, [{ cents: 5 }]);
  await soon(repaired.close());
});

test('what was submitted is what is stored; a handler gets what its schema makes of it, at every attempt', async () => {
  const seen: unknown[] = [];
  const dated: StandardSchemaV1<string, Date> = {
    '~standard': {
      version: 1,
      vendor: 'test',
      validate: (value) => ({ value: new Date(String(value)) }),
    },
  };
  const task = defineTask({
    name: 'dated',
    exec: 'inline',
    input: dated,
    retry: { attempts: 2 },
    run(date) {
      seen.push(date.toISOString());
      throw new Error('not today');
    },
  });
  const bed = testBed(defineTasks({ task }));
  const soon = <T>(promise: Promise<T>): Promise<T> => within(bed.clock, 60_000, promise);
  const runtime = await bed.start();
  const handle = await soon(runtime.submit(task, '2026-01-02'));
  assert.equal((await soon(handle.settled())).status, 'failed');
  assert.deepEqual(seen, ['2026-01-02T00:00:00.000Z', '2026-01-02T00:00:00.000Z']);
  for await (const { input } of runtime.deadLetters(task)) assert.equal(input, '2026-01-02');
  await soon(runtime.close());
});

test('what is no input is refused where it is submitted', async () => {
  const task = defineTask({ name: 'charge', exec: 'inline', input: having('cents'), run: () => 1 });
  const bed = testBed(defineTasks({ task }));
  const runtime = await bed.start();
  await assert.rejects(runtime.submit('charge', { amount: 5 }), (error) =>
    hasCode(error, 'ERR_MILLRACE_INVALID_INPUT'),
  );
  assert.equal(runtime.stats().open, 0);
  await within(bed.clock, 60_000, runtime.close());
});

test('a runtime says at start what its store holds, or its module has, that nobody here runs', async (t) => {
  const warnings: unknown[] = [];
  const note = ({ message }: Error): void => void warnings.push(message);
  process.on('warning', note);
  t.after(() => process.off('warning', note));
  const kept = defineTask({ name: 'kept', exec: 'inline', run: () => 1 });
  const dropped = defineTask({ name: 'dropped', exec: 'inline', run: () => 1 });
  const together = defineTask({
    name: 'together',
    exec: 'inline',
    runBatch: (items) => items.map(() => 1),
  });
  const contract = defineTask({ name: 'contract' });
  const bed = testBed(defineTasks({ kept, dropped }));
  const soon = <T>(promise: Promise<T>): Promise<T> => within(bed.clock, 60_000, promise);
  const old = await bed.start();
  await soon(old.submit(dropped, null, { delay: '5m' }));
  await soon(old.close());
  assert.deepEqual(warnings, []);

  const changed = await bed.start({ tasks: defineTasks({ kept, together, contract }) });
  await once(process, 'warning');
  const waits = 'has no handler here; what is stored of it waits for a node that has one';
  assert.deepEqual(warnings, [`task 'contract' ${waits}`, `task 'dropped' ${waits}`]);
  // Once: not again when it is due.
  await bed.clock.advance(600_000);
  assert.equal(warnings.length, 2);
  await soon(changed.close());

  // A producer runs nothing, and does not say so.
  const producer = await bed.start({ tasks: defineTasks({ contract }) });
  await new Promise(setImmediate);
  assert.equal(warnings.filter((message) => String(message).includes("'contract'")).length, 1);
  await soon(producer.close());
});
