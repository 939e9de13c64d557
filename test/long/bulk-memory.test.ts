/** Ten million items through a heap of 64 MiB. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runBulk } from '../support/bulk-run.js';

const ITEMS = 10_000_000;

for (const way of ['call', 'stream'] as const) {
  test(`ten million items go through a heap of 64 MiB by ${way}, each once`, async (t) => {
    const { sum, ...measured } = await runBulk(t, ITEMS, way);
    t.diagnostic(JSON.stringify(measured));
    assert.equal(sum, (ITEMS * (ITEMS + 1)) / 2);
  });
}
