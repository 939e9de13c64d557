import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  DUE_AT_MS_MAX,
  dueDigits,
  executionId,
  type Incarnation,
  isQueueName,
  newIncarnation,
  parseTaskId,
  requireTaskId,
  segmentDueAtMs,
  segmentRef,
  taskId,
} from '../../src/core/ids.js';
import { seededRandom } from '../../src/core/random.js';

const ME = '0123abcd' as Incarnation;

const queue = fc.stringMatching(/^[a-z0-9][a-z0-9_-]{0,62}$/);
const place = fc.record({ queue, shard: fc.nat(63), dueAtMs: fc.nat(DUE_AT_MS_MAX) });

test('a task id gives back the segment and the index it was made of', () => {
  fc.assert(
    fc.property(place, fc.nat(2 ** 40), fc.nat(1_295), (at, counter, index) => {
      const segment = segmentRef(at, ME, counter);
      assert.deepEqual(parseTaskId(taskId(segment, index)), { segment, index });
      assert.equal(segmentDueAtMs(segment), at.dueAtMs);
    }),
  );
});

test('segments of one shard sort by due time, then by their counter', () => {
  const key = fc.record({ dueAtMs: fc.nat(DUE_AT_MS_MAX), counter: fc.nat(2 ** 40) });
  fc.assert(
    fc.property(key, key, (a, b) => {
      const refA = segmentRef({ queue: 'q', shard: 0, dueAtMs: a.dueAtMs }, ME, a.counter);
      const refB = segmentRef({ queue: 'q', shard: 0, dueAtMs: b.dueAtMs }, ME, b.counter);
      const expected = Math.sign(a.dueAtMs - b.dueAtMs || a.counter - b.counter);
      assert.equal(refA < refB ? -1 : refA > refB ? 1 : 0, expected);
    }),
  );
});

test('tasks of one segment sort by index', () => {
  const segment = segmentRef({ queue: 'default', shard: 0, dueAtMs: 5 }, ME, 1);
  const ids = Array.from({ length: 256 }, (_, index) => taskId(segment, index));
  assert.deepEqual([...ids].sort(), ids);
});

test('a due time has fixed width; fractions are floored, what is out of range is clamped', () => {
  assert.equal(dueDigits(0), '000000000');
  assert.equal(dueDigits(1_767_225_600_000), '0mjuohs00');
  assert.equal(dueDigits(35.9), '00000000z');
  assert.equal(dueDigits(-1), '000000000');
  assert.equal(dueDigits(DUE_AT_MS_MAX), 'zzzzzzzzz');
  assert.equal(dueDigits(DUE_AT_MS_MAX * 2), 'zzzzzzzzz');
});

test('what is no task id is not taken for one', () => {
  const good = 'default.00.0mjuohs00.0123abcd00000001.0f';
  assert.ok(parseTaskId(good));
  const junk = [
    '',
    good.toUpperCase(),
    ` ${good}`,
    `${good}\n`,
    `${good}0`,
    good.slice(0, -1),
    good.slice(good.indexOf('.')),
    good.replace('default', 'no/slash'),
    good.replace('default', '-dash'),
    good.replace('default', 'x'.repeat(64)),
    good.replaceAll('.', '/'),
    'default.00.0mjuohs00.0123abcd00000001',
    'default.00.0mjuohs0.0123abcd00000001.0f',
    42,
    null,
    undefined,
    {},
    [good],
    Object.create(null),
  ];
  for (const value of junk) {
    assert.equal(parseTaskId(value), undefined);
    assert.throws(() => requireTaskId(value), { code: 'ERR_MILLRACE_INVALID_OPTION' });
  }
  assert.deepEqual(requireTaskId(good), parseTaskId(good));
});

test('any text is parsed or refused, and what is parsed is spelled the same again', () => {
  const almost = fc
    .tuple(queue, fc.stringMatching(/^[0-9a-z.]{28,33}$/))
    .map(([name, rest]) => `${name}.${rest}`);
  fc.assert(
    fc.property(fc.oneof(fc.string(), almost), (text) => {
      const parts = parseTaskId(text);
      if (parts) assert.equal(taskId(parts.segment, parts.index), text);
    }),
  );
});

test('an incarnation is 8 characters, whatever was drawn', () => {
  for (const draw of [0, 1, 0x7fff_ffff, 0xffff_ffff]) {
    assert.match(
      newIncarnation(() => draw),
      /^[0-9a-z]{8}$/,
    );
  }
});

test('incarnations differ', () => {
  const random = seededRandom(1);
  const drawn = new Set(Array.from({ length: 10_000 }, () => newIncarnation(() => random.u32())));
  assert.equal(drawn.size, 10_000);
});

test('an execution id tells attempts and executors apart', () => {
  const id = taskId(segmentRef({ queue: 'q', shard: 1, dueAtMs: 2 }, ME, 3), 4);
  assert.equal(executionId(id, 2, ME), 'q.01.000000002.0123abcd00000003.04:2:0123abcd');
});

test('queue names can be part of a key', () => {
  for (const name of ['default', 'a', '0', 'a-b_c', 'x'.repeat(63)]) assert.ok(isQueueName(name));
  for (const name of ['', 'A', '-a', '_a', 'a.b', 'a/b', 'a b', 'x'.repeat(64), 'a\n', 5, null]) {
    assert.ok(!isQueueName(name));
  }
});
