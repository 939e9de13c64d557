/** An engine that is closing: who asks for the end of what still runs hears it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hasCode } from '../../src/core/errors.js';
import { within } from '../support/runtime.js';
import { scriptedEngine } from '../support/scripted-engine.js';
import { Outcome } from '../support/scripted-pool.js';

const BUDGET = { softMs: 10_000, hardMs: 20_000 };

test('what runs when the engine begins to close, and ends in time, is told to whoever asks only then', async () => {
  const { clock, engine, pool, submit } = await scriptedEngine();
  const [accepted] = await submit(1);
  const [batch] = pool.batches;
  assert.ok(batch);
  const closed = engine.shutdown(BUDGET);
  const end = engine.ended(accepted!);
  end.catch(() => {});
  await clock.advance(50);
  batch.report([0], Outcome.COMPLETED, '"done"');
  batch.end();
  assert.equal((await within(clock, 5_000, end)).json, '"done"');
  await within(clock, 60_000, closed);
  await assert.rejects(engine.ended(accepted!), (error) => hasCode(error, 'ERR_MILLRACE_CLOSED'));
});

test('what does not end in time is refused when the engine has closed', async () => {
  const { clock, engine, submit } = await scriptedEngine();
  const [accepted] = await submit(1);
  const closed = engine.shutdown({ softMs: 100, hardMs: 200 });
  const refused = assert.rejects(engine.ended(accepted!), (error) =>
    hasCode(error, 'ERR_MILLRACE_CLOSED'),
  );
  await within(clock, 60_000, closed);
  await refused;
});

for (const { what, fate, isCreated } of [
  { what: 'a new one', fate: 'ok', isCreated: true },
  { what: 'a new one whose commit has lost its answer', fate: 'answer lost', isCreated: true },
  { what: 'one that is there already', fate: 'ok', isCreated: false },
] as const) {
  test(`a submission with a key that is being written when the engine begins to close has its answer: ${what}`, async () => {
    const { clock, engine, store, newTask, submitOne } = await scriptedEngine();
    const task = { ...newTask('"x"'), dueAtMs: clock.wallMs() + 60_000, idempotencyKey: 'key' };
    if (!isCreated) await within(clock, 5_000, submitOne(task));
    let goOn = (): void => {};
    store.gate = new Promise((resolve) => {
      goOn = resolve;
    });
    store.fates.push(fate);
    const submitted = submitOne(task);
    submitted.catch(() => {});
    await clock.advance(1);
    const closed = engine.shutdown(BUDGET);
    store.gate = undefined;
    goOn();
    assert.equal((await within(clock, 5_000, submitted)).isCreated, isCreated);
    await within(clock, 60_000, closed);
  });
}
