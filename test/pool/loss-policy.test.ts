import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { judge, type LossRecord } from '../../src/pool/loss-policy.js';

const RETRY = { isOverdue: false, onLost: 'retry' } as const;
const OVERDUE = { isOverdue: true, onLost: 'retry' } as const;

function clean(): LossRecord {
  return { losses: 0, mustBeAlone: false };
}

describe('loss policy', () => {
  it('blames the only task of a thread that was killed for it', () => {
    const record = clean();
    assert.equal(judge(record, { reason: 'timeout', begun: 1 }, OVERDUE), 'blame');
    assert.deepEqual(record, clean());
  });

  it('runs every one of several suspects again, alone, and counts nothing against them', () => {
    for (const options of [RETRY, OVERDUE]) {
      const record = clean();
      assert.equal(judge(record, { reason: 'timeout', begun: 3 }, options), 'again');
      assert.deepEqual(record, { losses: 0, mustBeAlone: true });
    }
  });

  it('does not blame a task that began when the one that overran had just ended', () => {
    const record = clean();
    assert.equal(judge(record, { reason: 'timeout', begun: 1 }, RETRY), 'again');
    assert.deepEqual(record, clean());
  });

  it('a thread that dies: again, again alone, lost', () => {
    const record = clean();
    const death = { reason: 'exit', begun: 5 } as const;
    assert.equal(judge(record, death, RETRY), 'again');
    assert.equal(record.mustBeAlone, false);
    assert.equal(judge(record, death, RETRY), 'again');
    assert.equal(record.mustBeAlone, true);
    assert.equal(judge(record, death, RETRY), 'lost');
  });

  it('a kill between two deaths does not count as a third', () => {
    const record = clean();
    judge(record, { reason: 'uncaught', begun: 2 }, RETRY);
    judge(record, { reason: 'timeout', begun: 2 }, RETRY);
    assert.equal(judge(record, { reason: 'out-of-memory', begun: 1 }, RETRY), 'again');
    assert.deepEqual(record, { losses: 2, mustBeAlone: true });
  });

  it('who may not run twice is given up at once, and blamed only for its own time', () => {
    const fail = (isOverdue: boolean) => ({ isOverdue, onLost: 'fail' }) as const;
    assert.equal(judge(clean(), { reason: 'killed', begun: 1 }, fail(false)), 'lost');
    assert.equal(judge(clean(), { reason: 'timeout', begun: 4 }, fail(false)), 'lost');
    assert.equal(judge(clean(), { reason: 'timeout', begun: 4 }, fail(true)), 'blame');
  });

  it('nothing runs again when the pool shuts down', () => {
    assert.equal(judge(clean(), { reason: 'shutdown', begun: 1 }, OVERDUE), 'lost');
  });
});
