/**
 * Services that do not import millrace from their sources: bundled with esbuild, or CommonJS.
 */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { bin, execute, ROOT, temporaryFolder, writeFiles } from '../tidy/project.js';

const SOURCES = {
  'src/limit.ts': `export const FACTOR: number = 2;`,
  'src/tasks.ts': `
    import { defineTask, defineTasks } from 'millrace';
    import { isMainThread } from 'node:worker_threads';
    import { FACTOR } from './limit.js';
    export const double = defineTask({
      name: 'double',
      run: (n: number) => ({ doubled: FACTOR * n, isMainThread }),
    });
    export default defineTasks({ double });`,
  'src/triple.ts': `
    import { FACTOR } from './limit.js';
    export default (n: number): number => (FACTOR + 1) * n;`,
};

/** What both services do, given where their modules are. */
const SERVE = `
  const runtime = await createRuntime({ tasks: at('tasks'), store: memoryStore(), threads: { max: 1 } });
  const handle = await runtime.submit(double, 21);
  console.log(JSON.stringify(await handle.result({ timeout: '30s' })));
  await runtime.close();
  const pool = new BatchPool<number, number>({ filename: at('triple'), threads: 1 });
  console.log(await pool.run(7));
  await pool.close();`;

const SERVICE = `
  import { createRuntime, memoryStore } from 'millrace';
  import { BatchPool } from 'millrace/pool';
  import { double } from './tasks.js';`;

/** A project of its own in which millrace is installed. */
function project(t: TestContext, files: Readonly<Record<string, string>>): string {
  const folder = temporaryFolder(t);
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(ROOT, join(folder, 'node_modules/millrace'));
  writeFiles(folder, files);
  return folder;
}

function bundle(folder: string, entries: readonly string[], options: readonly string[]): void {
  const { status, output } = execute(
    bin('esbuild'),
    [...entries, '--bundle', '--platform=node', '--outdir=out', '--log-level=warning', ...options],
    { cwd: folder },
  );
  assert.equal(status, 0, output);
}

function run(folder: string, file: string): string {
  const { status, stdout, output } = execute(process.execPath, [join(folder, file)], {
    timeout: 60_000,
  });
  assert.equal(status, 0, output);
  return stdout;
}

const ENTRIES = ['src/service.ts', 'src/tasks.ts', 'src/triple.ts'];
const EXPECTED = '{"doubled":42,"isMainThread":false}\n21\n';

describe('bundled with esbuild, millrace left out', () => {
  test('an ESM service runs, handlers in their threads', (t) => {
    const folder = project(t, {
      ...SOURCES,
      'package.json': '{"type":"module"}',
      'src/service.ts': `${SERVICE}
        const at = (name: string): URL => new URL('./' + name + '.js', import.meta.url);
        ${SERVE}`,
    });
    bundle(folder, ENTRIES, ['--format=esm', '--external:millrace', '--minify']);
    assert.equal(run(folder, 'out/service.js'), EXPECTED);
  });

  test('a CommonJS service runs, handlers in their threads', (t) => {
    const folder = project(t, {
      ...SOURCES,
      'package.json': '{"type":"commonjs"}',
      'src/service.ts': `${SERVICE}
        const at = (name: string): string => __dirname + '/' + name + '.js';
        async function serve(): Promise<void> { ${SERVE} }
        void serve();`,
    });
    bundle(folder, ENTRIES, ['--format=cjs', '--external:millrace']);
    assert.match(readFileSync(join(folder, 'out/service.js'), 'utf8'), /require\("millrace"\)/);
    assert.equal(run(folder, 'out/service.js'), EXPECTED);
  });

  test('millrace inside the bundle by mistake: an error at once that says what to do', (t) => {
    const folder = project(t, {
      ...SOURCES,
      'package.json': '{"type":"module"}',
      'src/service.ts': `
        import { BatchPool } from 'millrace/pool';
        const pool = new BatchPool({ filename: new URL('./triple.js', import.meta.url), threads: 1 });
        const { code, message } = await pool.run(7).catch((error) => error);
        console.log(JSON.stringify({ code, message }));
        await pool.close();`,
    });
    const require = `import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);`;
    bundle(folder, ENTRIES, ['--format=esm', `--banner:js=${require}`, '--external:@napi-rs/*']);
    const startedAtMs = performance.now();
    const error = JSON.parse(run(folder, 'out/service.js')) as { code: string; message: string };
    assert.equal(error.code, 'ERR_MILLRACE_TASKS_MODULE');
    assert.match(error.message, /worker-entry\.js is not there; .*--external:millrace/);
    assert.ok(performance.now() - startedAtMs < 30_000);
  });
});

test('require() takes every subpath: nothing in their graphs awaits at the top level', (t) => {
  const { exports } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
    exports: Readonly<Record<string, unknown>>;
  };
  const subpaths = Object.keys(exports).map((subpath) => subpath.replace(/^\./, 'millrace'));
  const folder = project(t, {
    'package.json': '{"type":"commonjs"}',
    'every.js': `for (const name of ${JSON.stringify(subpaths)}) require(name);
      console.log(typeof require('millrace').createRuntime);`,
  });
  assert.equal(run(folder, 'every.js'), 'function\n');
});
