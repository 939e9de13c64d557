/**
 * The import rules see what they forbid. A rule whose pattern matches nothing is as green as a rule that is
 * kept, so a small tree breaks every rule on purpose, and exactly these violations must be reported.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { bin, execute, ROOT, temporaryFolder, writeFiles } from './project.js';

const FOLDERS = [
  ...['core', 'timing', 'pool', 'store', 'telemetry', 'healing', 'coordination', 'tenancy'],
  ...['engine', 'testing', 'cli', 'admin'],
];

/** Per folder one import that its place in the tree forbids. */
const UPWARDS: Readonly<Record<string, string>> = {
  core: 'timing',
  timing: 'pool',
  pool: 'store',
  store: 'engine',
  telemetry: 'healing',
  healing: 'telemetry',
  coordination: 'engine',
  tenancy: 'coordination',
  engine: 'tenancy',
};

/** Package, the folder that may import it, and the name of the rule. */
const VENDORS = [
  ['lmdb', 'src/store/embedded', 'home-of-lmdb'],
  ['etcd3', 'src/store/etcd', 'home-of-etcd3'],
  ['@grpc/grpc-js', 'src/store/etcd', 'home-of-etcd3'],
  ['piscina', 'src/pool', 'home-of-piscina'],
  ['node-gyp-build', 'src/timing', 'home-of-node-gyp-build'],
  ['hdr-histogram-js', 'src/cli', 'home-of-hdr-histogram-js'],
  ['pino', 'src/telemetry', 'home-of-pino'],
  ['@opentelemetry/api', 'src/telemetry', 'home-of-pino'],
  ['cockatiel', 'src/healing', 'home-of-cockatiel'],
  ['croner', 'src/engine/cron', 'home-of-croner'],
  ['@platformatic/kafka', 'src/tenancy/kafka', 'home-of-kafkajs'],
] as const;

test('each import rule reports what it forbids, and nothing else', (t) => {
  const files: Record<string, string> = {};
  const expected: string[] = [];
  const file = (path: string, ...imports: string[]): void => {
    files[path] = `${imports.map((target) => `import '${target}';`).join('\n')}\nexport {};\n`;
  };
  const broken = (rule: string, from: string, to: string): void => {
    expected.push(`${rule}: ${from} -> ${to}`);
  };

  for (const folder of FOLDERS) file(`src/${folder}/leaf.ts`);
  for (const [folder, above] of Object.entries(UPWARDS)) {
    file(`src/${folder}/up.ts`, `../${above}/leaf.js`);
    broken(`${folder}-imports-downwards`, `src/${folder}/up.ts`, `src/${above}/leaf.ts`);
  }
  // The whole ladder in the allowed direction.
  file('src/coordination/down.ts', '../core/leaf.js', '../store/leaf.js');
  file(
    'src/engine/down.ts',
    ...['core', 'timing', 'pool', 'store', 'coordination'].map((folder) => `../${folder}/leaf.js`),
  );
  file('src/testing/down.ts', '../millrace.js', '../engine/down.js');
  file('src/index.ts', './millrace.js', './core/leaf.js');

  files['src/core/type.ts'] = "import type { T } from '../engine/type.js';\nexport type U = T;\n";
  files['src/engine/type.ts'] = 'export type T = 1;\n';
  broken('core-imports-downwards', 'src/core/type.ts', 'src/engine/type.ts');

  file('src/millrace.ts', './engine/down.js', './testing/leaf.js');
  broken('composition-root-is-not-a-library', 'src/millrace.ts', 'src/testing/leaf.ts');
  file('src/admin/cli.ts', '../cli/leaf.js');
  broken('cli-is-the-top', 'src/admin/cli.ts', 'src/cli/leaf.ts');
  file('src/store/memory/other.ts', '../embedded/leaf.js', '../machine/leaf.js');
  file('src/store/machine/leaf.ts');
  file('src/store/embedded/leaf.ts');
  broken(
    'stores-do-not-know-one-another',
    'src/store/memory/other.ts',
    'src/store/embedded/leaf.ts',
  );

  file('src/pool/worker-entry.ts', './worker-loop.js', './batch-runner.js', '../core/leaf.js');
  file(
    'src/pool/worker-loop.ts',
    '../core/leaf.js',
    '@standard-schema/spec',
    './batch-pool.js',
    './worker-thread.js',
  );
  file('src/pool/batch-runner.ts');
  file('src/pool/batch-pool.ts');
  file('src/pool/worker-thread.ts');
  broken('worker-entry-stays-small', 'src/pool/worker-entry.ts', 'src/pool/batch-pool.ts');
  broken('worker-entry-stays-small', 'src/pool/worker-entry.ts', 'src/pool/worker-thread.ts');

  for (const folder of ['core', 'coordination', 'engine']) {
    file(`src/${folder}/io.ts`, 'node:fs', 'node:diagnostics_channel');
    broken('hermetic', `src/${folder}/io.ts`, 'fs');
  }
  file('src/pool/io.ts', 'node:fs');

  for (const [vendor, home, rule] of VENDORS) {
    const name = vendor.replace(/\W+/g, '-');
    file(`${home}/uses-${name}.ts`, vendor);
    file(`src/admin/uses-${name}.ts`, vendor);
    broken(rule, `src/admin/uses-${name}.ts`, `node_modules/${vendor}/index.js`);
    files[`node_modules/${vendor}/index.js`] = '';
  }
  file('bench/uses-peers.ts', 'hdr-histogram-js', 'piscina');

  file('src/core/cycle-a.ts', './cycle-b.js');
  file('src/core/cycle-b.ts', './cycle-a.js');
  broken('no-cycles', 'src/core/cycle-a.ts', 'src/core/cycle-b.ts');
  file('src/core/nowhere.ts', './missing.js');
  broken('resolves', 'src/core/nowhere.ts', './missing.js');
  file('src/core/tool.ts', 'fast-check');
  broken('ships-what-it-imports', 'src/core/tool.ts', 'node_modules/fast-check/index.js');
  file('src/core/from-test.ts', '../../test/leaf.js');
  broken('src-knows-no-tests', 'src/core/from-test.ts', 'test/leaf.ts');
  file('test/leaf.ts');

  files['node_modules/fast-check/index.js'] = '';
  files['node_modules/@standard-schema/spec/index.js'] = '';
  const dependencies = [...VENDORS.map(([vendor]) => vendor), '@standard-schema/spec'];
  files['package.json'] = JSON.stringify({
    type: 'module',
    dependencies: Object.fromEntries(dependencies.map((name) => [name, '*'])),
    devDependencies: { 'fast-check': '*' },
  });

  const folder = temporaryFolder(t);
  writeFiles(folder, files);
  const rules = join(ROOT, '.dependency-cruiser.cjs');
  const { stdout, stderr } = execute(
    bin('depcruise'),
    ['src', 'bench', '--config', rules, '--output-type', 'json'],
    { cwd: folder },
  );
  assert.ok(stdout.startsWith('{'), stderr);
  const { summary } = JSON.parse(stdout) as {
    summary: {
      violations: { from: string; to: string; rule: { name: string } }[];
      ruleSetUsed: { forbidden: { name: string; comment?: string }[] };
    };
  };

  const reported = summary.violations.map(({ rule, from, to }) => `${rule.name}: ${from} -> ${to}`);
  assert.deepEqual(reported.sort(), expected.sort());
  const proven = new Set(summary.violations.map(({ rule }) => rule.name));
  for (const { name, comment } of summary.ruleSetUsed.forbidden) {
    assert.ok(proven.has(name), `the tree above breaks the rule ${name}`);
    assert.ok(comment, `the rule ${name} gives its reason`);
  }
});
