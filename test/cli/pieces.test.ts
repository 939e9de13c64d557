/**
 * The pieces of the command line by themselves: globs, NDJSON, slots, numbers, tables, progress.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { PassThrough, Writable } from 'node:stream';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { GcObserver } from '../../src/cli/gc-observer.js';
import { parseGlob } from '../../src/cli/glob.js';
import { type Line, ndjsonLines } from '../../src/cli/ndjson-lines.js';
import { Percentiles } from '../../src/cli/percentiles.js';
import { Progress } from '../../src/cli/progress.js';
import { RecordWriter } from '../../src/cli/record-writer.js';
import { Slots } from '../../src/cli/slots.js';
import { table } from '../../src/cli/table.js';
import { bytes, count, millis, plural, span } from '../../src/cli/units.js';

test('globs match as shells do', () => {
  const cases: [pattern: string, matches: string, matchesNot: string][] = [
    ['*.txt', 'a.txt b.c.txt', '.txt .a.txt a.txt.gz d/a.txt'],
    ['a?c', 'abc a\u{1F600}c', 'ac abbc a/c'],
    ['?x', 'ax', '.x'],
    ['{a,b*}.{js,ts}', 'a.js a.ts b.js bb.ts', 'c.js ab.js'],
    ['{a/b,c}/*', 'a/b/x c/x', 'a/x a/b/c/x'],
    ['x{,.bak}*', 'x x.bak xy', 'y'],
    ['[a-c]1', 'a1 c1', 'd1 -1'],
    ['[!a-c]1', 'd1', 'a1 .1 /1'],
    ['[]x]1', ']1 x1', '[1'],
    ['[.]x*', '', '.x'],
    ['**', 'a a/b a/b/c', '.a a/.b .a/b'],
    ['**/x', 'x a/x a/b/x', 'ax a/.b/x'],
    ['**/**/x', 'x a/x a/b/x', 'ax'],
    ['a*/**/x', 'a/x a1/b/c/x', 'x b/x ax'],
    ['{**/x,y}', 'x a/x y', 'a/y'],
    ['a**b*', 'ab axxb', 'a/b'],
    ['.*', '.a .', 'a'],
    ['a.b+(c)*', 'a.b+(c) a.b+(c)d', 'aXb+(c) a.bb(c)'],
    ['\\**', '* *a', 'a'],
    ['*\\', 'a\\ \\', 'a'],
    ['a}*,', 'a}, a}b,', 'a'],
  ];
  for (const [pattern, matches, matchesNot] of cases) {
    const { expression } = parseGlob(pattern);
    for (const path of matches.split(' ').filter(Boolean)) {
      assert.match(path, expression, `${pattern} matches ${path}`);
    }
    for (const path of matchesNot.split(' ').filter(Boolean)) {
      assert.doesNotMatch(path, expression, `${pattern} does not match ${path}`);
    }
  }
});

test('a glob walks from its deepest plain folder, and no deeper than it must', () => {
  assert.equal(parseGlob('/a/b/*.txt').base, '/a/b');
  assert.equal(parseGlob('/*.txt').base, '/');
  assert.equal(parseGlob('/a/b.txt').base, '/a');
  assert.equal(parseGlob('*.txt').base, process.cwd());
  assert.equal(parseGlob('/a/*/c/*').depthMax, 2);
  assert.equal(parseGlob('/a/{b/c,d}/*').depthMax, 2);
  assert.equal(parseGlob('/a/**/*').depthMax, Number.POSITIVE_INFINITY);
});

test('a glob that opens a brace or bracket and does not close it is refused', () => {
  for (const pattern of ['a{b,c', '[a-z', 'x/[]']) {
    assert.throws(() => parseGlob(pattern), {
      code: 'ERR_MILLRACE_INVALID_OPTION',
      message: /does not close it/,
    });
  }
});

async function* chunksOf(...chunks: (string | Uint8Array)[]): AsyncGenerator<Uint8Array> {
  for (const chunk of chunks) yield Buffer.from(chunk);
}

async function linesOf(...chunks: (string | Uint8Array)[]): Promise<Line[]> {
  const lines: Line[] = [];
  for await (const line of ndjsonLines(chunksOf(...chunks), { bytesMax: 20 })) lines.push(line);
  return lines;
}

test('NDJSON: wherever chunks are cut, the lines and their numbers are the same', async () => {
  const whole = Buffer.from('\uFEFF{"a":"ä€"}\r\n\n  \n1\n[2]\n\n"end"');
  const expected = [
    { line: 1, value: { a: 'ä€' } },
    { line: 4, value: 1 },
    { line: 5, value: [2] },
    { line: 7, value: 'end' },
  ];
  for (let cut = 0; cut <= whole.length; cut++) {
    const lines = await linesOf(whole.subarray(0, cut), whole.subarray(cut));
    assert.deepEqual(lines, expected, `cut at ${cut}`);
  }
  assert.deepEqual(await linesOf(), []);
  assert.deepEqual(await linesOf('\n\n'), []);
});

test('NDJSON: a bad line is an error with its number, and the next one is fine', async () => {
  const lines = await linesOf(
    '1\n{x}\n',
    `"${'y'.repeat(30)}`,
    'y"\n',
    new Uint8Array([0x22, 0xc3, 0x22]),
    '\n2',
  );
  const seen = lines.map((line) => ('error' in line ? [line.line, line.error.code] : line.value));
  assert.deepEqual(seen, [
    1,
    [2, 'ERR_MILLRACE_INPUT_LINE'],
    [3, 'ERR_MILLRACE_PAYLOAD_TOO_LARGE'],
    [4, 'ERR_MILLRACE_INPUT_LINE'],
    2,
  ]);
});

test('NDJSON: a line at the limit passes, one byte more does not', async () => {
  const [fits, tooLong] = await linesOf(`"${'x'.repeat(18)}"\n"${'x'.repeat(19)}"\n`);
  assert.ok(fits && 'value' in fits);
  assert.ok(tooLong && 'error' in tooLong);
  assert.deepEqual(tooLong.error.details, { line: 2, bytes: 21, bytesMax: 20 });
});

test('NDJSON: no chunk is read before it is asked for', async () => {
  let read = 0;
  async function* source(): AsyncGenerator<Uint8Array> {
    for (;;) {
      read++;
      yield Buffer.from('1\n2\n');
    }
  }
  const lines = ndjsonLines(source(), { bytesMax: 20 });
  for (let i = 0; i < 4; i++) await lines.next();
  assert.equal(read, 2);
});

test('records wait for a slow reader, and are dropped when nobody reads', async () => {
  const written: string[] = [];
  let writeOn: () => void = () => {};
  const stream = new Writable({
    highWaterMark: 1,
    write(chunk, _encoding, done) {
      written.push(String(chunk));
      writeOn = done;
    },
  });
  let isGone = false;
  const writer = new RecordWriter(stream, () => {
    isGone = true;
  });
  let isWritten = false;
  const first = writer.write({ n: 1 }).then(() => {
    isWritten = true;
  });
  await setImmediate();
  assert.equal(isWritten, false);
  writeOn();
  await first;
  assert.deepEqual(written, ['{"n":1}\n']);

  const second = writer.write({ n: 2 });
  stream.destroy(new Error('EPIPE'));
  await second;
  assert.equal(isGone, true);
  await writer.write({ n: 3 });
  assert.equal(written.length, 2);
});

test('slots: never more than there are, first come first served, idle when all are back', async () => {
  const slots = new Slots(2);
  const order: number[] = [];
  const take = async (n: number): Promise<void> => {
    await slots.acquire();
    order.push(n);
    assert.ok(slots.used <= 2);
  };
  const all = [1, 2, 3, 4].map(take);
  await setImmediate();
  assert.deepEqual(order, [1, 2]);
  let isIdle = false;
  const idle = slots.idle().then(() => {
    isIdle = true;
  });
  for (let i = 0; i < 2; i++) slots.release();
  await Promise.all(all);
  assert.deepEqual(order, [1, 2, 3, 4]);
  assert.equal(isIdle, false);
  for (let i = 0; i < 2; i++) slots.release();
  await idle;
});

test('numbers as people read them', () => {
  assert.deepEqual([0, 999, 1_000, 1_234_567].map(count), ['0', '999', '1 000', '1 234 567']);
  assert.deepEqual([0, 999, 1_000, 5e6, 3e12, 2e15].map(bytes), [
    ...['0 B', '999 B', '1.0 KB', '4.8 MB', '2.7 TB', '1819.0 TB'],
  ]);
  assert.deepEqual([0, 0.0424, 1.254, 31.25, 1_234].map(millis), [
    ...['0.000', '0.042', '1.25', '31.3', '1 234'],
  ]);
  assert.deepEqual([80, 4_240, 59_700, 200_000, 7_260_000].map(span), [
    ...['80 ms', '4.2 s', '1 min 0 s', '3 min 20 s', '2 h 1 min'],
  ]);
  assert.equal(plural(1, 'file'), '1 file');
  assert.equal(plural(2, 'retry', 'retries'), '2 retries');
});

test('a table aligns its columns', () => {
  assert.equal(table([['a', '1'], ['bbb', '22', 'x'], ['c']]), 'a     1\nbbb  22  x\nc\n');
  assert.equal(table([]), '');
});

test('percentiles keep fractions of a millisecond and survive absurd spans', () => {
  const percentiles = new Percentiles();
  assert.equal(percentiles.facts().count, 0);
  for (let i = 1; i <= 100; i++) percentiles.record(i / 100);
  const { p50, p95, max } = percentiles.facts();
  assert.ok(Math.abs(p50 - 0.5) < 0.01 && Math.abs(p95 - 0.95) < 0.01 && Math.abs(max - 1) < 0.01);
  percentiles.record(-5);
  percentiles.record(1e12);
  assert.equal(percentiles.facts().count, 102);
});

test('every garbage collection counts, those of one callback together', async () => {
  const observer = new GcObserver();
  for (let round = 0; round < 20; round++) {
    let garbage: unknown[] = [];
    for (let i = 0; i < 200_000; i++) garbage = [garbage.length, i];
  }
  await setImmediate();
  const minor = observer.stop().find(({ kind }) => kind === 'minor');
  assert.ok(minor && minor.count >= 2, `${minor?.count} minor collections`);
  assert.ok(minor.totalMs >= minor.maxMs && minor.maxMs > 0);
});

function terminal(columns: number): { readonly stream: NodeJS.WriteStream; text: () => string } {
  const stream = new PassThrough();
  let text = '';
  stream.on('data', (chunk) => {
    text += chunk;
  });
  return {
    stream: Object.assign(stream, { isTTY: true, columns }) as unknown as NodeJS.WriteStream,
    text: () => text,
  };
}

test('progress on a terminal redraws one line that fits, and leaves nothing behind', async (t) => {
  t.mock.timers.enable({ apis: ['setInterval'] });
  for (const columns of [20, 80, 200]) {
    const { stream, text } = terminal(columns);
    const facts = { done: 1_234, total: 9_876, bytes: 5e6, retries: 7 };
    const progress = new Progress({ stream, noun: 'files', form: 'text' }, () => facts);
    progress.start();
    t.mock.timers.tick(300);
    progress.stop();
    stream.end();
    await once(stream, 'end');
    const draws = text().split('\r\u001b[K');
    assert.ok(draws.length > 3);
    assert.equal(draws.at(-1), '', 'the last thing is to clear the line');
    for (const draw of draws) assert.ok(draw.length < columns && !draw.includes('\n'), draw);
    if (columns >= 80) assert.match(draws[1]!, /^\[=+ +\] {2}12 % 1 234\/9 876 files/);
  }
});

test('progress elsewhere is a line a second at most, and none when nothing changes', async (t) => {
  t.mock.timers.enable({ apis: ['setInterval'] });
  const { stream, text } = terminal(80);
  Object.assign(stream, { isTTY: false });
  let done = 0;
  const progress = new Progress({ stream, noun: 'files', form: 'text' }, () => ({
    done,
    total: undefined,
    retries: 0,
  }));
  progress.start();
  t.mock.timers.tick(3_000);
  for (done = 1; done <= 20; done++) t.mock.timers.tick(100);
  progress.stop();
  stream.end();
  await once(stream, 'end');
  // One for the three seconds without news, one for each with.
  assert.equal(text().split('\n').length - 1, 3, text());
  assert.match(text(), /: 10 files, /);
});
