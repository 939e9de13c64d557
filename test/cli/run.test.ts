/**
 * `millrace run`: a tasks module over standard input, files and globs; what goes wrong with one input and with all.
 */
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { AS_EVERYBODY, MILLRACE, type Place, records, setup } from './process.js';

interface ResultRecord {
  readonly line?: number;
  readonly path?: string;
  readonly id?: string;
  readonly status: string;
  readonly value?: unknown;
  readonly error?: { readonly code: string; readonly message: string; readonly cause?: unknown };
}

const ONE_TASK = `
import { defineTask, defineTasks } from '${MILLRACE}';
export default defineTasks({
  half: defineTask({
    name: 'half',
    retry: { attempts: 2, min: 1 },
    run({ n }) {
      if (n % 2 !== 0) throw new RangeError(n + ' is odd');
      return n / 2;
    },
  }),
});`;

const TWO_TASKS = `
import { readFileSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { defineTask, defineTasks } from '${MILLRACE}';
export default defineTasks({
  size: defineTask({ name: 'file.size', run: ({ path }) => readFileSync(path).length }),
  wait: defineTask({ name: 'wait', concurrency: 1, run: ({ ms }) => setTimeout(ms, ms) }),
});`;

function prepare(t: TestContext): Place {
  const place = setup(t);
  place.write({ 'half.mjs': ONE_TASK, 'two.mjs': TWO_TASKS });
  return place;
}

/** Records by line number. */
function byLine(output: string): Map<number | undefined, ResultRecord> {
  return new Map(records<ResultRecord>(output).map((record) => [record.line, record]));
}

test('run: one task per line of standard input, results as NDJSON', async (t) => {
  const { millrace } = prepare(t);
  const input = Array.from({ length: 3_000 }, (_, i) => `{"n":${i * 2}}\n`).join('');
  const { code, stdout, stderr } = await millrace(['run', 'half.mjs', '--input', '-'], input);
  assert.equal(code, 0, stderr);
  const results = byLine(stdout);
  assert.equal(results.size, 3_000);
  for (let i = 0; i < 3_000; i++) {
    const { id, ...result } = results.get(i + 1)!;
    assert.equal(typeof id, 'string');
    assert.deepEqual(result, { line: i + 1, status: 'completed', value: i });
  }
  assert.match(stderr, /^3 000 tasks completed, 0 failed in /m);
});

test('run: a bad line and a failing task are records of their own, the others go on, exit 1', async (t) => {
  const { millrace, write } = prepare(t);
  const long = JSON.stringify({ n: 2, text: 'x'.repeat(300_000) });
  const longer = JSON.stringify({ n: 2, text: 'x'.repeat(2_000_000) });
  const deep = '['.repeat(100) + ']'.repeat(100);
  write({
    'input.ndjson': Buffer.concat([
      Buffer.from(`\uFEFF{"n":2}\r\n\n{"n":\n{"n":3}\n${long}\n${longer}\n${deep}\n"`),
      Buffer.from([0xff]),
      Buffer.from('"\n{"n":8}'),
    ]),
  });
  const { code, stdout, stderr } = await millrace(['run', 'half.mjs', '--input', 'input.ndjson']);
  assert.equal(code, 1, stderr);
  const results = byLine(stdout);
  assert.deepEqual([...results.keys()].sort(), [1, 3, 4, 5, 6, 7, 8, 9]);
  assert.equal(results.get(1)?.value, 1);
  assert.equal(results.get(9)?.value, 4);
  const codes = [3, 4, 5, 6, 7, 8].map((line) => {
    assert.equal(results.get(line)?.status, 'failed');
    return results.get(line)?.error?.code.replace('ERR_MILLRACE_', '');
  });
  assert.deepEqual(codes, [
    'INPUT_LINE',
    'TASK_FAILED',
    'PAYLOAD_TOO_LARGE',
    'PAYLOAD_TOO_LARGE',
    'PAYLOAD_TOO_DEEP',
    'INPUT_LINE',
  ]);
  assert.match(results.get(3)?.error?.message ?? '', /^line 3 is not JSON: .*: \{"n":$/);
  assert.deepEqual(results.get(4)?.error?.cause, { name: 'RangeError', message: '3 is odd' });
  assert.ok(results.get(4)?.id, 'a task that ran has an id');
  assert.match(stderr, /^2 tasks completed, 6 failed in .* \(1 retry\)$/m);
});

test('run: one task per file that a glob matches', async (t) => {
  const { millrace, write, folder } = prepare(t);
  write({ 'in/a.txt': '1', 'in/b.log': '22', 'in/deep/er/c.txt': '333', 'in/.hidden.txt': '' });
  const run = async (glob: string): Promise<unknown[]> => {
    const { code, stdout, stderr } = await millrace([
      ...['run', 'two.mjs', '--task', 'file.size', '--store', 'memory', '--input', glob],
    ]);
    assert.equal(code, 0, stderr);
    return records<ResultRecord>(stdout)
      .map(({ path, value }) => [path, value])
      .sort();
  };
  assert.deepEqual(await run('in/**/*.{txt,log}'), [
    [join(folder, 'in/a.txt'), 1],
    [join(folder, 'in/b.log'), 2],
    [join(folder, 'in/deep/er/c.txt'), 3],
  ]);
  assert.deepEqual(await run('in/a.txt'), [[join(folder, 'in/a.txt'), 1]]);
});

test('run: usage errors say what is wrong and exit with 2', async (t) => {
  const { millrace, write, folder } = prepare(t);
  write({ 'empty.mjs': 'export default {};', 'broken.mjs': 'export default nothing;' });
  const cases: [args: string[], message: RegExp][] = [
    [
      ['run', 'two.mjs', '--task', 'file.sice'],
      /no task 'file\.sice', did you mean 'file\.size'\?; it has 'file\.size', 'wait' \[ERR_MILLRACE_UNKNOWN_TASK\]/,
    ],
    [['run', 'two.mjs'], /several tasks \('file\.size', 'wait'\); name one with --task/],
    [['run', 'missing.mjs'], /missing\.mjs does not load: .* \[ERR_MILLRACE_TASKS_MODULE\]/],
    [
      ['run', 'broken.mjs'],
      /broken\.mjs does not load: nothing is not defined \[ERR_MILLRACE_TASKS_MODULE\]/,
    ],
    [['run', 'empty.mjs'], /empty\.mjs .* \[ERR_MILLRACE_TASKS_MODULE\]/],
    [['run'], /<tasks module> is missing; see: millrace run --help/],
    [['run', 'half.mjs', 'more'], /'more' is one argument too many/],
    [
      ['run', 'half.mjs', '--input', 'missing.ndjson'],
      /cannot read the input 'missing\.ndjson': ENOENT/,
    ],
    [['run', 'half.mjs', '--input', folder], /is a folder; for its files give '.*\/\*\*'/],
    [['run', 'half.mjs', '--input', 'no*such'], /no file matches 'no\*such'/],
    [['run', 'half.mjs', '--inptu', '-'], /unknown option --inptu, did you mean --input\?/],
    [['run', 'half.mjs', '--threads', '0'], /--threads is '0'; give a whole number from 1/],
    [['run', 'half.mjs', '--store'], /--store needs a value/],
    [['run', 'half.mjs', '--store', 'redis://host'], /there is no 'redis' store/],
    [['rnu', 'half.mjs'], /unknown command 'rnu', did you mean 'run'\?/],
    [['demo', 'missing'], /cannot walk the folder 'missing': ENOENT/],
  ];
  await Promise.all(
    cases.map(async ([args, message]) => {
      const { code, stdout, stderr } = await millrace(
        args.includes('--store') ? args : [...args, '--store=memory'],
      );
      assert.match(stderr, message);
      assert.match(stderr, /^millrace: .*\[ERR_MILLRACE_[A-Z_]+\]\n$/, 'one line with its code');
      assert.equal(stdout, '');
      assert.equal(code, 2);
    }),
  );
});

test('run, demo: a store that cannot be written exits with 3', async (t) => {
  const { millrace, write } = prepare(t);
  write({ file: '' });
  for (const command of [
    ['demo', '.'],
    ['run', 'half.mjs'],
  ]) {
    const { code, stderr } = await millrace([...command, '--store', 'file/below']);
    assert.match(stderr, /^millrace: .*file\/below.* \[ERR_MILLRACE_STORE_NOT_WRITABLE\]\n$/);
    assert.equal(code, 3);
  }
});

test('--verbose shows where an error comes from', async (t) => {
  const { millrace, write } = prepare(t);
  write({ file: '' });
  const { code, stderr } = await millrace(['demo', '--verbose', '--store', 'file/below']);
  assert.match(stderr, /^MillraceError: store directory .*\n {4}at /);
  assert.match(stderr, /^caused by: Error: ENOTDIR/m);
  assert.equal(code, 3);
});

test('run: a reader that goes away ends it quietly', async (t) => {
  const { start } = prepare(t);
  const { child, outcome } = start(['run', 'half.mjs', '--store', 'memory']);
  // More than fits into the pipe of the results.
  child.stdin?.write('{"n":2}\n'.repeat(20_000));
  child.stdout?.once('data', () => child.stdout?.destroy());
  const { code, stderr } = await outcome;
  assert.equal(code, 130);
  assert.doesNotMatch(stderr, /EPIPE|Error|interrupted/);
});

test('run: interrupted, it lets running tasks end, keeps the others, and exits with 130', async (t) => {
  const { start, millrace } = prepare(t);
  const { child, outcome } = start(['run', 'two.mjs', '--task', 'wait']);
  child.stdin?.write('{"ms":1}\n'.repeat(3) + '{"ms":300}\n'.repeat(50));
  // Standard input stays open: only the signal ends this.
  child.stdout?.once('data', () => child.kill('SIGINT'));
  const { code, stdout, stderr } = await outcome;
  assert.equal(code, 130, stderr);
  const done = records<ResultRecord>(stdout);
  assert.ok(done.every(({ status }) => status === 'completed'));
  assert.match(stderr, /^stopping: running tasks end first/m);
  const left = /^interrupted; (\d+) accepted tasks stay in .*\.millrace$/m.exec(stderr)?.[1];
  assert.equal(Number(left), 53 - done.length);

  const next = await millrace(['run', 'half.mjs'], '{"n":2}\n');
  assert.equal(next.code, 0, next.stderr);
  assert.ok(next.stderr.includes(`${left} open tasks of an earlier run`), next.stderr);
});

test('run: a second interruption ends it at once', async (t) => {
  const { start } = prepare(t);
  const running = start(['run', 'two.mjs', '--task', 'wait', '--store', 'memory']);
  running.child.stdin?.write('{"ms":1}\n{"ms":600000}\n');
  running.child.stdout?.once('data', () => running.child.kill('SIGINT'));
  await running.line((line) => line.startsWith('stopping'));
  running.child.kill('SIGINT');
  const { code, stderr } = await running.outcome;
  assert.equal(code, 130);
  assert.doesNotMatch(stderr, /interrupted;/, 'it did not wait for the summary');
});

test('help is there for the whole and for each command, in 80 columns', async (t) => {
  const { millrace } = setup(t);
  const general = await millrace(['--help']);
  assert.equal(general.code, 0);
  assert.deepEqual(await millrace(['help']), general);
  assert.match(general.stdout, /^ {2}demo \[folder\] +Fingerprint/m);
  assert.match(general.stdout, /^ {2}run <tasks module> +Run/m);
  const texts = [general.stdout];
  for (const command of ['demo', 'run']) {
    const help = await millrace([command, '--help']);
    assert.equal(help.code, 0);
    assert.match(help.stdout, new RegExp(`^Usage: millrace ${command} `));
    assert.match(help.stdout, /^ {2}--store <memory \| folder \| etcd:.*>$/m);
    assert.deepEqual(await millrace(['help', command]), help);
    texts.push(help.stdout);
  }
  for (const line of texts.join('').split('\n')) assert.ok(line.length <= 80, line);

  const nothing = await millrace([]);
  assert.deepEqual(nothing, { code: 2, stdout: '', stderr: general.stdout });
  assert.match((await millrace(['--version'])).stdout, /^\d+\.\d+\.\d+\n$/);
});

test('run: a folder below a glob that cannot be read is a failed record', async (t) => {
  const { start, write, folder } = prepare(t);
  write({ 'in/a.txt': '1', 'in/closed/b.txt': '2' });
  chmodSync(join(folder, 'in/closed'), 0o000);
  const { code, stdout } = await start(
    ['run', 'two.mjs', '--task', 'file.size', '--store', 'memory', '--input', 'in/**/*.txt'],
    AS_EVERYBODY,
  ).outcome;
  assert.equal(code, 1);
  const byPath = new Map(records<ResultRecord>(stdout).map((record) => [record.path, record]));
  assert.equal(byPath.get(join(folder, 'in/a.txt'))?.value, 1);
  assert.equal(byPath.get(join(folder, 'in/closed'))?.error?.code, 'EACCES');
});

test('run: what the tasks module leaves open does not keep a finished command', async (t) => {
  const { millrace, write } = prepare(t);
  write({ 'open.mjs': `${ONE_TASK}\nsetInterval(() => {}, 1_000);` });
  const fine = await millrace(['run', 'open.mjs', '--store', 'memory'], '{"n":2}\n'.repeat(5_000));
  assert.equal(fine.code, 0);
  assert.equal(records(fine.stdout).length, 5_000);
  const failed = await millrace(['run', 'open.mjs', '--store', 'memory', '--task', 'none']);
  assert.equal(failed.code, 2);
});

test('run: links to files match a glob, links to folders are not entered', async (t) => {
  const { millrace, write, folder } = prepare(t);
  write({ 'in/real.txt': '1' });
  mkdirSync(join(folder, 'in/sub'));
  symlinkSync('../real.txt', join(folder, 'in/sub/link.txt'));
  symlinkSync('..', join(folder, 'in/sub/up.txt'));
  symlinkSync('nowhere', join(folder, 'in/sub/dangling.txt'));
  const { stdout } = await millrace([
    ...['run', 'two.mjs', '--task', 'file.size', '--store', 'memory', '--input', 'in/**/*.txt'],
  ]);
  const paths = records<ResultRecord>(stdout).map(({ path }) => path);
  assert.deepEqual(paths.sort(), [join(folder, 'in/real.txt'), join(folder, 'in/sub/link.txt')]);
});
