import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isMillraceError } from '../../src/core/errors.js';
import { ReadyQueue } from '../../src/timing/ready-queue.js';

function takeAll(queue: ReadyQueue, room = 64): number[] {
  const out = new Uint32Array(room);
  const tokens: number[] = [];
  for (;;) {
    const count = queue.take(out);
    tokens.push(...out.subarray(0, count));
    if (count < out.length) return tokens;
  }
}

function codeOf(call: () => unknown): string {
  try {
    call();
  } catch (error) {
    assert.ok(isMillraceError(error), String(error));
    return error.code;
  }
  return 'nothing';
}

test('higher priorities go first, and within one the first to come', () => {
  const queue = new ReadyQueue();
  const priorities = [0, 5, -32_768, 5, 0, 32_767];
  for (const [token, priority] of priorities.entries()) queue.push(token, { priority });
  assert.equal(queue.size, 6);
  assert.deepEqual(takeAll(queue, 4), [5, 1, 3, 0, 4, 2]);
  assert.equal(queue.size, 0);
  assert.equal(queue.take(new Uint32Array(1)), 0);
  queue.close();
});

test('tenants get shares by their weights, which can change at any time', () => {
  const queue = new ReadyQueue({ weights: { pro: 4 } });
  const [free, pro] = [1, 2];
  for (let i = 0; i < 3_000; i++) {
    queue.push(free, { tenant: 'free' });
    queue.push(pro, { tenant: 'pro' });
  }
  const share = (): number => {
    const out = new Uint32Array(500);
    assert.equal(queue.take(out), 500);
    return out.filter((token) => token === pro).length;
  };
  assert.equal(share(), 400);
  queue.setWeight('pro', 1);
  assert.equal(share(), 250);
  queue.setWeight('free', 9);
  assert.equal(share(), 50);
  queue.close();
});

test('a tenant with a flood does not keep the others waiting, in the order in which they came', () => {
  const queue = new ReadyQueue();
  for (let i = 0; i < 5_000; i++) queue.push(i, { tenant: 'flood' });
  for (let i = 0; i < 10; i++) queue.push(10_000 + i, { tenant: `small${i}` });
  const out = new Uint32Array(12);
  queue.take(out);
  assert.deepEqual(
    [...out].filter((token) => token >= 10_000),
    Array.from({ length: 10 }, (_, i) => 10_000 + i),
  );
  queue.close();
});

test('what has waited long enough overtakes a higher priority', () => {
  const strict = new ReadyQueue();
  const ageing = new ReadyQueue({ ageingMs: 1_000 });
  for (const queue of [strict, ageing]) {
    queue.push(1, { priority: 0, atMs: 0 });
    queue.push(2, { priority: 2, atMs: 1_500 });
    queue.push(3, { priority: 1, atMs: 1_500 });
  }
  assert.deepEqual(takeAll(strict), [2, 3, 1]);
  assert.deepEqual(takeAll(ageing), [2, 1, 3]);
  strict.close();
  ageing.close();
});

test('tenants that come and go leave nothing behind', () => {
  const queue = new ReadyQueue({ weights: { kept: 2 } });
  const out = new Uint32Array(100);
  for (let i = 0; i < 50_000; i++) {
    queue.push(i, { tenant: `tenant${i}` });
    if (i % 100 === 99) assert.equal(queue.take(out), 100);
  }
  const { tenants, bytes, size } = queue.stats();
  assert.equal(size, 0);
  assert.ok(tenants < 3_000, `${tenants} tenants are remembered`);
  assert.ok(bytes < 2 ** 20, `${bytes} bytes are held`);
  for (let i = 0; i < 200; i++) {
    queue.push(1, { tenant: 'kept' });
    queue.push(2, { tenant: 'other' });
  }
  queue.take(out.subarray(0, 90));
  assert.equal(out.subarray(0, 90).filter((token) => token === 1).length, 60);
  queue.close();
});

test('arguments of a wrong kind are refused, and nothing is added', () => {
  const queue = new ReadyQueue();
  const bad = (call: () => unknown): void =>
    assert.equal(codeOf(call), 'ERR_MILLRACE_INVALID_OPTION');
  for (const token of [-1, 0.5, 2 ** 32, Number.NaN, '1', undefined]) {
    bad(() => queue.push(token as number));
  }
  for (const priority of [-32_769, 32_768, 0.5, Number.NaN, '1', null]) {
    bad(() => queue.push(1, { priority: priority as number }));
  }
  for (const atMs of [-1, Number.NaN, Number.POSITIVE_INFINITY, '1']) {
    bad(() => queue.push(1, { atMs: atMs as number }));
  }
  for (const tenant of [7, null, {}]) bad(() => queue.push(1, { tenant: tenant as string }));
  for (const weight of [0, -1, Number.NaN, Number.POSITIVE_INFINITY, '1', 1e7]) {
    bad(() => queue.setWeight('a', weight as number));
    bad(() => new ReadyQueue({ weights: { a: weight as number } }));
  }
  bad(() => new ReadyQueue({ ageingMs: -1 }));
  bad(() => queue.take([] as unknown as Uint32Array));
  assert.equal(queue.size, 0);
  assert.deepEqual(takeAll(queue), []);
  queue.close();
});

test('a closed queue says so, and closing twice is fine', () => {
  const queue = new ReadyQueue();
  queue.push(1);
  queue.close();
  queue.close();
  for (const call of [
    () => queue.push(1),
    () => queue.take(new Uint32Array(1)),
    () => queue.size,
    () => queue.stats(),
    () => queue.setWeight('a', 1),
  ]) {
    assert.equal(codeOf(call), 'ERR_MILLRACE_CLOSED');
  }
});
