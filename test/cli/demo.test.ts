/**
 * `millrace demo` on real files: fresh, again, killed, interrupted, twice at once; and what it says of files it
 * cannot read.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { AS_EVERYBODY, linkedFiles, type Outcome, type Place, records, setup } from './process.js';

/** What `demo --json` prints. */
interface Summary {
  readonly files: number;
  readonly new: number;
  readonly takenOver: number;
  readonly doneEarlier: number;
  readonly failed: number;
  readonly left: number;
  readonly recovered: number;
  readonly otherTasks: number;
  readonly retries: number;
  readonly bytes: number;
  readonly gzipBytes: number;
  readonly isInterrupted: boolean;
  readonly waitMs: { readonly count: number; readonly p50: number; readonly max: number };
  readonly runMs: { readonly count: number; readonly p50: number; readonly max: number };
  readonly failures: readonly { readonly path: string; readonly message: string }[];
}

const FILES = 400;

function summaryOf({ stdout, stderr }: Outcome): Summary {
  const [summary] = records<Summary>(stdout);
  assert.ok(summary, stderr);
  return summary;
}

/** A folder that keeps one thread busy for some seconds. */
function slowFolder(t: TestContext): Place {
  const place = setup(t);
  linkedFiles(join(place.folder, 'files'), FILES, randomBytes(256 * 1_024));
  return place;
}

const SLOW_DEMO = ['demo', 'files', '--json', '--threads', '1'];

/** Whether a line of progress says that about a third is done. */
function isWellOnTheWay(line: string): boolean {
  return line.startsWith('{"progress"') && doneIn(line) > FILES / 4;
}

function doneIn(line: string): number {
  return (JSON.parse(line) as { progress: { done: number } }).progress.done;
}

test('demo: fingerprints every file below a folder, then finds every file done', async (t) => {
  const { write, millrace, folder } = setup(t);
  const contents = Array.from({ length: 100 }, (_, i) => `content of file ${i} `.repeat(50));
  write(
    Object.fromEntries(contents.map((content, i) => [`files/${i % 7}/${i % 3}/${i}`, content])),
  );
  // Neither is a file below the folder: the link leads back up, the folder is empty.
  symlinkSync('..', join(folder, 'files/up'));
  mkdirSync(join(folder, 'files/empty'));

  const fresh = await millrace(['demo', 'files', '--json']);
  assert.equal(fresh.code, 0, fresh.stderr);
  const first = summaryOf(fresh);
  assert.equal(first.files, 100);
  assert.equal(first.new, 100);
  assert.equal(first.failed + first.left + first.takenOver + first.doneEarlier, 0);
  assert.equal(first.bytes, contents.join('').length);
  assert.ok(first.gzipBytes > 0 && first.gzipBytes < first.bytes);
  assert.equal(first.runMs.count, 100);
  assert.ok(first.waitMs.count > 0 && first.waitMs.p50 <= first.waitMs.max);

  const again = await millrace(['demo', 'files']);
  assert.equal(again.code, 0, again.stderr);
  assert.match(again.stdout, /^100 of 100 files below .* were already done/);

  write({ 'files/new': 'new', 'files/0/0/0': 'changed' });
  const third = summaryOf(await millrace(['demo', 'files', '--json']));
  assert.equal(third.new, 2);
  assert.equal(third.doneEarlier, 99);
});

test('demo: some tasks fail at first and are retried; the table tells', async (t) => {
  const { folder, millrace } = setup(t);
  linkedFiles(join(folder, 'files'), FILES, Buffer.from('small'));
  const { code, stdout, stderr } = await millrace(['demo', 'files', '--store', 'memory']);
  assert.equal(code, 0, stderr);
  assert.match(stdout, /^400 files below .*\n\ntasks done now +400\n/);
  // Which files they are depends on the path, which differs from run to run: about 12 of 400.
  assert.match(stdout, /^retries +[1-9]\d*$/m);
  assert.match(stdout, /^wait \(due to start\)( +[\d. ]+){4}$/m);
  assert.match(stdout, /^run( +[\d. ]+){4}$/m);
  assert.match(stdout, /^minor +\d+ +[\d.]+ +[\d.]+$/m);
  for (const line of stdout.split('\n').slice(2)) assert.ok(line.length < 80, line);
});

test('demo: after kill -9 a new run goes on where it stopped', async (t) => {
  const { start, millrace } = slowFolder(t);
  const killed = start(SLOW_DEMO);
  const acknowledged = doneIn(await killed.line(isWellOnTheWay));
  killed.child.kill('SIGKILL');
  assert.equal((await killed.outcome).code, null);

  const { code, ...rest } = await millrace(SLOW_DEMO);
  const second = summaryOf({ code, ...rest });
  assert.equal(code, 0, rest.stderr);
  assert.equal(second.files, FILES);
  assert.equal(second.failed, 0);
  assert.ok(second.doneEarlier >= acknowledged, `${second.doneEarlier} >= ${acknowledged}`);
  assert.ok(second.doneEarlier < FILES, 'the kill came in the middle');
  assert.ok(second.takenOver > 0, 'the store held open tasks');
  // What the store held when the run began is what was neither done nor new.
  assert.equal(second.takenOver, second.recovered);
  assert.equal(second.new, FILES - second.doneEarlier - second.takenOver);

  const third = summaryOf(await millrace(SLOW_DEMO));
  assert.equal(third.doneEarlier, FILES);
});

test('demo: interrupted, it drains, exits with 130, and the next run goes on', async (t) => {
  const { start, millrace } = slowFolder(t);
  const interrupted = start(SLOW_DEMO);
  await interrupted.line(isWellOnTheWay);
  interrupted.child.kill('SIGINT');
  const outcome = await interrupted.outcome;
  assert.equal(outcome.code, 130);
  const first = summaryOf(outcome);
  assert.equal(first.isInterrupted, true);
  assert.ok(first.left > 0 && first.new < FILES);
  assert.equal(first.files, first.new + first.left);

  const second = summaryOf(await millrace(SLOW_DEMO));
  assert.equal(second.doneEarlier, first.new);
  assert.equal(second.takenOver, first.left);
  assert.equal(second.new, FILES - first.files);
  assert.equal(second.failed, 0);
});

test('demo: a second process on the same store is told who has it, and exits with 3', async (t) => {
  const { start, millrace } = slowFolder(t);
  const first = start(SLOW_DEMO);
  await first.line((line) => line.startsWith('{"progress"'));
  const second = await millrace(['demo', 'files']);
  assert.equal(second.code, 3);
  assert.match(second.stderr, /^millrace: store directory .*\[ERR_MILLRACE_STORE_LOCKED\]\n$/);
  assert.ok(second.stderr.includes(`pid ${first.child.pid}`), second.stderr);
  assert.equal(second.stdout, '');
});

test('demo: unreadable files fail for good and are listed, the run goes on, a later run tries them again', async (t) => {
  const { folder, start, write } = setup(t);
  write({ 'files/good': 'good', 'files/secret': 'secret' });
  chmodSync(join(folder, 'files/secret'), 0o000);
  const demo = (): Promise<Outcome> => start(['demo', 'files', '--json'], AS_EVERYBODY).outcome;

  const outcome = await demo();
  assert.equal(outcome.code, 1, outcome.stderr);
  const first = summaryOf(outcome);
  assert.equal(first.new, 1);
  assert.equal(first.failed, 1);
  assert.equal(first.failures[0]?.path, join(folder, 'files/secret'));
  assert.match(first.failures[0]?.message ?? '', /^EACCES: permission denied/);
  assert.ok(
    first.retries <= 1,
    'no retry can help; at most, the kind of task fails at first anyway',
  );

  const second = summaryOf(await demo());
  assert.deepEqual([second.doneEarlier, second.failed], [1, 1]);
  // Neither size nor modification time tell that it can be read now.
  chmodSync(join(folder, 'files/secret'), 0o644);
  const third = summaryOf(await demo());
  assert.deepEqual([third.doneEarlier, third.new, third.failed], [1, 1, 0]);
  assert.equal(summaryOf(await demo()).doneEarlier, 2);
});

test('demo: a folder that cannot be read is listed, and the exit code says that something is missing', async (t) => {
  const { folder, start, write } = setup(t);
  write({ 'files/good': 'good', 'files/closed/file': 'hidden' });
  chmodSync(join(folder, 'files/closed'), 0o000);
  const { code, stdout } = await start(['demo', 'files'], AS_EVERYBODY).outcome;
  assert.equal(code, 1);
  assert.match(stdout, /^1 file below /);
  assert.match(stdout, /^folders that cannot be read +1$/m);
  assert.match(stdout, /^1 failed for good:\n {2}.*\/files\/closed\n {4}EACCES: /m);
});

test('demo: walks the current folder by default, and never its own store', async (t) => {
  const { write, millrace, folder } = setup(t);
  write({ one: '1', 'two/three': '3' });
  assert.equal(summaryOf(await millrace(['demo', '--json'])).files, 2);
  const again = summaryOf(await millrace(['demo', '--json']));
  assert.equal(again.doneEarlier, 2);
  assert.equal(again.files, 2);

  const elsewhere = summaryOf(await millrace(['demo', '--json', '--store', join(folder, 'store')]));
  // The store of the first two runs is a folder like any other for this one.
  assert.ok(elsewhere.files > 2);
});

test('demo: open tasks of files outside the folder are counted apart', async (t) => {
  const { start, write, millrace } = slowFolder(t);
  const killed = start(SLOW_DEMO);
  await killed.line((line) => line.startsWith('{"progress"'));
  killed.child.kill('SIGKILL');
  await killed.outcome;
  write({ 'others/one': '1' });
  const summary = summaryOf(await millrace(['demo', 'others', '--json']));
  assert.equal(summary.files, 1);
  assert.ok(summary.recovered > 0);
  assert.equal(summary.otherTasks, summary.recovered);
});
