/** House rules that no tool checks: words that mean "not done", essays, and the commands that README promises. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { execute, projectFiles, ROOT } from './project.js';

const read = (file: string): string => readFileSync(join(ROOT, file), 'utf8');

/** Marks of unfinished work. Written so that this file does not contain them. */
const UNFINISHED = new RegExp(
  `\\b(${['TO' + 'DO', 'FIX' + 'ME', 'X' + 'XX', 'HA' + 'CK'].join('|')})\\b`,
);

test('no source file says that it is unfinished', () => {
  const found = ['src', 'native', 'bench', 'examples', 'scripts', 'test', 'docs']
    .flatMap(projectFiles)
    .filter((file) => !file.includes('/results/') && !file.includes('/vendor/'))
    .flatMap((file) =>
      read(file)
        .split('\n')
        .flatMap((line, index) => (UNFINISHED.test(line) ? [`${file}:${index + 1}: ${line}`] : [])),
    );
  assert.deepEqual(found, []);
});

/** Essays are prose: at least so many lines of comment before the first line of code. */
const ESSAY_LINES_MIN = 3;

test('each folder of src has an essay, and each file says what it is', () => {
  const files = projectFiles('src').filter((file) => file.endsWith('.ts'));
  const folderOf = (file: string): string => file.split('/').slice(0, -1).slice(0, 2).join('/');
  const essays = files.filter((file) => essayLines(read(file)) >= ESSAY_LINES_MIN);
  const explained = new Set(essays.map(folderOf));
  const folders = new Set(files.map(folderOf));
  assert.deepEqual([...folders].filter((folder) => !explained.has(folder)).sort(), []);
  assert.deepEqual(
    files.filter((file) => essayLines(read(file)) === 0),
    [],
  );
});

/** Lines of text in the comment that a file begins with, before or after its imports. */
function essayLines(source: string): number {
  const body = source.replace(/^#!.*\n/, '').replace(/^(?:\s*import\s[^;]*;)+/, '');
  const comment = /^\s*\/\*\*([\s\S]*?)\*\//.exec(body)?.[1] ?? '';
  return comment.split('\n').filter((line) => /[A-Za-z]/.test(line)).length;
}

test('the commands of README exist', () => {
  const readme = read('README.md');
  for (const command of ['npm ci && npm run demo', 'npm ci && npm test']) {
    assert.ok(readme.includes(command), `README names: ${command}`);
  }
  const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
  const promised = [...`${readme}\n${read('CONTRIBUTING.md')}`.matchAll(/npm run ([a-z:]+)/g)];
  for (const [command, name] of promised) {
    assert.ok(name !== undefined && scripts[name] !== undefined, `package.json has ${command}`);
  }
  for (const [name, command] of Object.entries(scripts)) {
    for (const [, file] of command.matchAll(/node (?:--\S+ )*(\S+)/g)) {
      assert.ok(file !== undefined && existsSync(join(ROOT, file)), `${name} runs ${file}`);
    }
  }
});

test('every error code is in docs/reference/errors.md, as generated from the table', () => {
  const { status, output } = execute(process.execPath, ['scripts/docs-errors.mjs', '--check']);
  assert.equal(status, 0, output);
});

test('docs/benchmarks.md and the figures of README are as generated from bench/results', () => {
  const { status, output } = execute(process.execPath, ['scripts/docs-benchmarks.mjs', '--check']);
  assert.equal(status, 0, output);
});

test('metrics are documented, and have their panels, as generated from the table', () => {
  const { status, output } = execute(process.execPath, ['scripts/docs-metrics.mjs', '--check']);
  assert.equal(status, 0, output);
});

test('the lockfile fits package.json, is complete, and names no registry', () => {
  const { status, output } = execute(process.execPath, [
    'scripts/complete-lockfile.mjs',
    '--check',
  ]);
  assert.equal(status, 0, output);
  const { packages } = JSON.parse(read('package-lock.json')) as {
    packages: Record<string, { resolved?: string; integrity?: string; optional?: boolean }>;
  };
  for (const [path, entry] of Object.entries(packages)) {
    assert.equal(entry.resolved, undefined, `${path} can come from any registry`);
    // Optional packages of other platforms have none where the registry does not carry them.
    if (path === '' || (entry.optional && !existsSync(join(ROOT, path)))) continue;
    assert.ok(entry.integrity, `${path} is pinned by its hash`);
  }
  const pkg = JSON.parse(read('package.json')) as Record<string, Record<string, string>>;
  const root = packages[''] as Record<string, unknown>;
  for (const kind of ['dependencies', 'devDependencies']) {
    assert.deepEqual(root[kind], pkg[kind], `${kind} of package.json and lockfile`);
    for (const [name, version] of Object.entries(pkg[kind] ?? {})) {
      assert.match(version, /^\d+\.\d+\.\d+/, `${name} has an exact version`);
    }
  }
});
