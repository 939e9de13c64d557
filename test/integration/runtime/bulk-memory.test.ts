/** Many items through a heap that could not hold them: what is submitted in bulk costs no object per task. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runBulk } from '../../support/bulk-run.js';

/** With a handle for each, these alone would take more than the heap. */
const ITEMS = 300_000;

for (const way of ['call', 'stream'] as const) {
  test(`300 000 items go through a heap of 64 MiB by ${way}, each once`, async (t) => {
    const { sum } = await runBulk(t, ITEMS, way);
    assert.equal(sum, (ITEMS * (ITEMS + 1)) / 2);
  });
}
