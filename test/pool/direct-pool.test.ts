import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { MillraceError } from '../../src/core/errors.js';
import { Outcome } from '../../src/core/states.js';
import { DirectPool } from '../../src/pool/direct-pool.js';
import { ScriptedPool } from '../support/scripted-pool.js';
import { runBatch } from './batches.js';

async function setup(places: number): Promise<{ below: ScriptedPool; pool: DirectPool }> {
  const below = new ScriptedPool(places);
  const pool = new DirectPool(below);
  await pool.start();
  return { below, pool };
}

/** As a thread would: every task of the batch has ended. */
function complete(below: ScriptedPool, index: number): void {
  const batch = below.batches[index]!;
  batch.report(
    batch.tasks.map(({ slot }) => slot),
    Outcome.COMPLETED,
    '1',
  );
  batch.end();
}

describe('DirectPool', () => {
  it('takes whatever comes and hands it over in order, as places get free', async () => {
    const { below, pool } = await setup(2);
    const batches = [0, 1, 2, 3].map((input) => runBatch(pool, [{ type: 'echo', input }]));
    assert.ok(pool.freePlaces > 1e6);
    assert.equal(below.batches.length, 2);
    complete(below, 1);
    assert.equal(below.batches.length, 3);
    complete(below, 0);
    complete(below, 2);
    complete(below, 3);
    await Promise.all(batches.map(({ end }) => end));
    assert.deepEqual(
      below.batches.map(({ tasks }) => Buffer.from(tasks[0]!.payload).toString()),
      ['0', '1', '2', '3'],
    );
    assert.deepEqual(
      batches.flatMap((batch) => batch.outcomes()),
      Array(4).fill('COMPLETED'),
    );
  });

  it('says once that it is open, and takes nothing before', async () => {
    const pool = new DirectPool(new ScriptedPool(1));
    let calls = 0;
    pool.onFree = () => calls++;
    assert.equal(pool.freePlaces, 0);
    await pool.start();
    await pool.start();
    assert.equal(calls, 1);
  });

  it('remembers who was cancelled while it waited', async () => {
    const { below, pool } = await setup(1);
    runBatch(pool, [{ type: 'echo' }]);
    const second = runBatch(pool, [{ type: 'echo' }]);
    second.running.cancel(0, 'never mind');
    second.running.kill();
    assert.equal(second.running.startedAtMs(0), 0);
    complete(below, 0);
    assert.deepEqual(below.batches[1]!.cancelled, [{ slot: 0, reason: 'never mind' }]);
    second.running.cancel(0, 'really');
    assert.equal(below.batches[1]!.cancelled.length, 2);
  });

  it('passes losses on, and goes on with the next', async () => {
    const { below, pool } = await setup(1);
    const first = runBatch(pool, [{ type: 'echo' }]);
    runBatch(pool, [{ type: 'echo' }]);
    const loss = new MillraceError('ERR_MILLRACE_TASK_LOST', 'the thread died');
    below.batches[0]!.end(loss);
    assert.equal(await first.end, loss);
    assert.equal(below.batches.length, 2);
  });

  it('drain: what waits has not started; nothing is taken any more', async () => {
    const { below, pool } = await setup(1);
    const batches = [0, 1, 2].map((input) => runBatch(pool, [{ type: 'echo', input }]));
    await Promise.all([pool.drain(1_000), pool.stop()]);
    assert.equal(pool.freePlaces, 0);
    assert.equal(below.batches.length, 1);
    assert.deepEqual(
      batches.map((batch) => batch.outcomes()),
      [['LOST'], ['NOT_STARTED'], ['NOT_STARTED']],
    );
    assert.equal(batches[1]!.loss, undefined);
    assert.equal(batches[1]!.ends, 1);
  });
});
