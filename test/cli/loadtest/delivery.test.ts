import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Delivery, isExact } from '../../../src/cli/loadtest/delivery.js';
import { MillraceError } from '../../../src/core/errors.js';

/** Three tasks that were accepted. */
function three(): Delivery {
  const delivery = new Delivery(3);
  for (let n = 0; n < 3; n++) {
    delivery.noteSubmit();
    delivery.noteAccepted(n, `id-${n}`);
  }
  return delivery;
}

test('delivery is exact when each accepted task has its own result, whatever was refused', () => {
  const delivery = three();
  for (let n = 0; n < 3; n++) delivery.noteResult(n, { n, attempt: n + 1 });
  delivery.noteRefused(new MillraceError('ERR_MILLRACE_STORE_FULL', 'full'));
  const facts = delivery.facts();
  assert.ok(isExact(facts));
  assert.equal(facts.repeated, 2);
  assert.deepEqual(facts.refused, { ERR_MILLRACE_STORE_FULL: 1 });
});

test('a result of another task, and a second one, are not exact', () => {
  const foreign = three();
  for (let n = 0; n < 3; n++) foreign.noteResult(n, { n: 0, attempt: 1 });
  assert.equal(foreign.facts().foreign, 2);
  assert.ok(!isExact(foreign.facts()));
  const twice = three();
  for (const n of [0, 1, 1]) twice.noteResult(n, { n, attempt: 1 });
  assert.equal(twice.facts().twice, 1);
  assert.ok(!isExact(twice.facts()));
});

test('what has not been heard of is looked up: open, ended unheard, or lost', async () => {
  const delivery = three();
  const places = ['open', 'unheard', 'lost'] as const;
  await delivery.settle(async (id) => places[Number(id.at(-1))]!);
  const { open, unheard, lost } = delivery.facts();
  assert.deepEqual({ open, unheard, lost }, { open: 1, unheard: 1, lost: 1 });
  assert.ok(!isExact(delivery.facts()));
});

test('a failed task is not exact, and says by which code', () => {
  const delivery = three();
  delivery.noteFailed(0, new MillraceError('ERR_MILLRACE_TASK_FAILED', 'it threw'));
  for (const n of [1, 2]) delivery.noteResult(n, { n, attempt: 1 });
  assert.deepEqual(delivery.facts().failed, { ERR_MILLRACE_TASK_FAILED: 1 });
  assert.ok(!isExact(delivery.facts()));
});
