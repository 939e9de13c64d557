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
