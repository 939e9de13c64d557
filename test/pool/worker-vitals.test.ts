import assert from 'node:assert/strict';
import { it } from 'node:test';
import { Vitals, VitalsWriter } from '../../src/pool/worker-vitals.js';

it('vitals show what stays in the heap, not what comes and goes, and are taken once a second', () => {
  const vitals = new Vitals();
  assert.equal(vitals.usedBytes, 0);
  const writer = new VitalsWriter(vitals.memory);
  writer.note(1_000);
  const firstBytes = vitals.usedBytes;
  assert.ok(firstBytes > 1e6 && vitals.heldBytes >= firstBytes);
  const hoard = Array.from({ length: 64 }, () => new Array(131_072).fill(0.5));
  writer.note(1_999);
  assert.equal(vitals.usedBytes, firstBytes);
  writer.note(2_000);
  writer.note(3_000);
  assert.ok(vitals.usedBytes < firstBytes + 2e7, 'one low look is enough for not growing');
  writer.note(4_000);
  assert.ok(vitals.usedBytes > firstBytes + 5e7, `${vitals.usedBytes} after ${firstBytes}`);
  assert.equal(hoard.length, 64);
});
