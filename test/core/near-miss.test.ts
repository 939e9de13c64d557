import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nearMiss } from '../../src/core/near-miss.js';

test('a mistyped word finds the one that was meant, and only when it is close', () => {
  const known = ['input', 'store', 'threads', 'json'];
  for (const [typed, meant] of [
    ['inptu', 'input'],
    ['thread', 'threads'],
    ['sotre', 'store'],
    ['jsn', 'json'],
    ['th', 'threads'],
    ['output', undefined],
    ['x', undefined],
  ] as const) {
    assert.equal(nearMiss(typed, known), meant, typed);
  }
});
