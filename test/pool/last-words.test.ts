import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { LastWords } from '../../src/pool/last-words.js';

test('the other side reads what was added since the last clear, in order', () => {
  fc.assert(
    fc.property(fc.array(fc.string({ unit: 'grapheme' })), fc.nat(5), (lines, before) => {
      const words = new LastWords();
      for (let i = 0; i < before; i++) words.add('old');
      words.clear();
      for (const line of lines) assert.ok(words.add(line));
      const seen = new LastWords(words.memory).read();
      assert.deepEqual(
        seen,
        lines.map((line) => line),
      );
    }),
  );
});

test('what does not fit is refused, and nothing else is lost for it', () => {
  const words = new LastWords();
  const line = 'x'.repeat(20_000);
  assert.deepEqual([words.add(line), words.add(line), words.add(line)], [true, true, true]);
  assert.equal(words.add(line), false);
  assert.ok(words.add('short'));
  assert.deepEqual(words.read(), [line, line, line, 'short']);
});

test('memory that lies is not read beyond its end', () => {
  const words = new LastWords();
  words.add('fine');
  new Int32Array(words.memory)[0] = 2 ** 30;
  assert.equal(words.read()[0], 'fine');
  new DataView(words.memory).setUint32(4, 2 ** 31, true);
  assert.deepEqual(words.read(), []);
});
