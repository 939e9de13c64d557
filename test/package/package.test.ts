/**
 * What users install: the packed tarball, its files, its types, and a task that runs from it on a machine
 * without a compiler.
 */
import assert from 'node:assert/strict';
import { cpSync, existsSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { bin, execute, ROOT, writeFiles } from '../tidy/project.js';
import { InstalledProject, pack } from './installed.js';

interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly exports: Readonly<Record<string, string | { types: string; default: string }>>;
  readonly bin: Readonly<Record<string, string>>;
  readonly scripts: Readonly<Record<string, string>>;
  readonly gypfile?: boolean;
}

const PLATFORM = `${process.platform}-${process.arch}`;

describe('the packed tarball', () => {
  const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as Manifest;
  let tarball: string;
  let files: string[];

  before(() => {
    tarball = pack();
    const { stdout } = execute('tar', ['-tzf', tarball]);
    files = stdout
      .trim()
      .split('\n')
      .map((file) => file.replace(/^package\//, ''));
  });
  after(() => rmSync(dirname(tarball), { recursive: true, force: true }));

  test('holds what the exports and the command name', () => {
    const targets = [
      ...Object.values(manifest.exports).flatMap((target) =>
        typeof target === 'string' ? [target] : Object.values(target),
      ),
      ...Object.values(manifest.bin),
    ].map((target) => target.replace(/^\.\//, ''));
    const missing = targets.filter((target) => !files.includes(target));
    assert.deepEqual(missing, []);
  });

  test('holds outputs, the prebuilt binary and the native sources, and nothing else', () => {
    const allowed = [
      /^(package\.json|README\.md|CHANGELOG\.md|LICENSE|binding\.gyp)$/,
      /^dist\/src\/.*\.(js|d\.ts)$/,
      /^native\/(?!test\/).*\.(cc|h|md)$/,
      // What the linker exports.
      /^native\/exports\.map$/,
      /^prebuilds\/[a-z0-9]+-[a-z0-9]+\/millrace(\.\w+)?\.node$/,
      // Rules and dashboard, to be loaded into Prometheus and Grafana.
      /^monitoring\/[a-z.-]+\.(yml|json)$/,
    ];
    const strangers = files.filter((file) => !allowed.some((pattern) => pattern.test(file)));
    assert.deepEqual(strangers, []);
    assert.ok(files.some((file) => file.startsWith(`prebuilds/${PLATFORM}/`)));
    for (const needed of ['README.md', 'LICENSE', 'CHANGELOG.md', 'binding.gyp']) {
      assert.ok(files.includes(needed), needed);
    }
  });

  test('needs no install script', () => {
    // npm would run node-gyp by itself wherever it finds a binding.gyp, unless gypfile is false.
    assert.equal(manifest.gypfile, false);
    for (const hook of ['preinstall', 'install', 'postinstall']) {
      assert.equal(manifest.scripts[hook], undefined, hook);
    }
  });

  test('satisfies publint', () => {
    const { status, output } = execute(bin('publint'), ['run', tarball, '--strict']);
    assert.equal(status, 0, output);
  });

  test('gives every subpath its types, for ESM and for require of ESM', () => {
    const { status, output } = execute(bin('attw'), [
      ...[tarball, '--profile', 'esm-only', '--no-definitely-typed'],
      ...['--exclude-entrypoints', './package.json', '--format', 'ascii', '--no-color'],
    ]);
    assert.equal(status, 0, output);
  });

  describe('installed without scripts on a machine without a compiler', () => {
    let project: InstalledProject;

    before(() => {
      project = new InstalledProject(tarball);
      for (const tool of ['g++', 'c++', 'cc', 'make', 'python3']) {
        assert.throws(() => project.execute(tool, ['--version']), /ENOENT/, `${tool} is not there`);
      }
    });
    after(() => rmSync(project.folder, { recursive: true, force: true }));

    test('runs the native core by itself', () => {
      writeFiles(project.folder, {
        'timing.mjs': `
          import { TimerQueue } from 'millrace/timing';
          const queue = new TimerQueue({ startMs: 0 });
          queue.schedule(5, 7);
          const out = new Uint32Array(4);
          console.log(queue.advance(4, out), queue.advance(5, out), out[0]);
        `,
      });
      assert.equal(project.runModule('timing.mjs').trim(), '0 1 7');
    });

    test('runs a task on a worker thread and keeps it in a file store', () => {
      writeFiles(project.folder, {
        'tasks.mjs': `
          import { defineTask, defineTasks } from 'millrace';
          import { isMainThread } from 'node:worker_threads';
          export const double = defineTask({
            name: 'double', version: 1,
            async run({ n }) { return { n: 2 * n, isMainThread }; },
          });
          export default defineTasks({ double });
        `,
        'service.mjs': `
          import { createRuntime, fileStore } from 'millrace';
          import { double } from './tasks.mjs';
          const runtime = await createRuntime({
            tasks: new URL('./tasks.mjs', import.meta.url),
            store: fileStore('./data'),
          });
          const handle = await runtime.submit(double, { n: 21 });
          console.log(JSON.stringify(await handle.result({ timeout: '30s' })));
          await runtime.close();
        `,
      });
      const result: unknown = JSON.parse(project.runModule('service.mjs'));
      assert.deepEqual(result, { n: 42, isMainThread: false });
    });

    test('is there for CommonJS through require of ESM', () => {
      writeFiles(project.folder, {
        'service.cjs': `
          const { createRuntime } = require('millrace');
          console.log(typeof createRuntime);
        `,
      });
      assert.equal(project.runModule('service.cjs').trim(), 'function');
    });

    test('has its command', () => {
      const { status, output } = project.execute('node_modules/.bin/millrace', ['--help']);
      assert.equal(status, 0, output);
      assert.match(output, /Usage: millrace/);
    });

    test('type-checks a service that uses it', () => {
      writeFiles(project.folder, {
        'service.ts': `
          import { createRuntime, defineTask, memoryStore } from 'millrace';
          const double = defineTask({
            name: 'double',
            version: 1,
            run: async (input: { n: number }) => 2 * input.n,
          });
          const runtime = await createRuntime({
            tasks: new URL('./tasks.js', import.meta.url),
            store: memoryStore(),
          });
          const handle = await runtime.submit(double, { n: 21 });
          const doubled: number = await handle.result();
          // @ts-expect-error: the input's type is known
          await runtime.submit(double, { n: 'many' });
          console.log(doubled);
        `,
        'tsconfig.json': JSON.stringify({
          compilerOptions: {
            ...{ module: 'nodenext', target: 'es2023', strict: true, noEmit: true },
            ...{ exactOptionalPropertyTypes: true, skipLibCheck: true, types: ['node'] },
            typeRoots: [join(ROOT, 'node_modules/@types')],
          },
          files: ['service.ts'],
        }),
      });
      const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
      const { status, output } = project.execute('node', [tsc, '-p', 'tsconfig.json']);
      assert.equal(status, 0, output);
    });

    test('without a binary for the platform says so at import, and its command builds one', async () => {
      const bare = join(project.folder, 'without-prebuilds');
      cpSync(join(project.folder, 'node_modules'), join(bare, 'node_modules'), { recursive: true });
      const packageFolder = join(bare, 'node_modules/millrace');
      rmSync(join(packageFolder, 'prebuilds'), { recursive: true });
      const queue = `
        const { TimerQueue } = await import('millrace/timing');
        console.log(new TimerQueue().size);
      `;
      writeFiles(bare, {
        'import.mjs': `
          await import('millrace').catch((error) =>
            console.log(JSON.stringify({ code: error.code, message: error.message })),
          );
        `,
        'queue.mjs': queue,
      });

      const refused = project.execute('node', [join(bare, 'import.mjs')]);
      const error = JSON.parse(refused.stdout) as { code: string; message: string };
      assert.equal(error.code, 'ERR_MILLRACE_NATIVE_MISSING');
      assert.ok(error.message.includes(PLATFORM), error.message);
      const command = /npx (node-gyp rebuild -C \S+)/.exec(error.message)?.[1];
      assert.ok(command, `${error.message} names the command`);

      // The same command with the project's node-gyp and headers, since a test downloads neither. What it builds need not be fast.
      const [, ...args] = command.replace(/["']/g, '').split(' ');
      const { headersDirectory } = (await import(
        pathToFileURL(join(ROOT, 'scripts/lib/native.mjs')).href
      )) as { headersDirectory: () => string };
      const built = execute(bin('node-gyp'), [...args, `--nodedir=${headersDirectory()}`], {
        env: { ...process.env, CXXFLAGS: '-O0', MAKEFLAGS: '-j2' },
      });
      assert.equal(built.status, 0, built.output);
      assert.ok(existsSync(join(packageFolder, 'build/Release/millrace.node')));
      const ran = project.execute('node', [join(bare, 'queue.mjs')]);
      assert.equal(ran.stdout.trim(), '0', ran.output);
    });
  });
});
