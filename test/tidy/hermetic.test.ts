/**
 * core, coordination and engine take time and randomness from their ports. Biome refuses the globals there
 * (biome.json) and the import rules refuse node: modules; what neither can see, members of harmless objects
 * such as Math.random, is looked for here.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { bin, execute, projectFiles, ROOT, temporaryFolder, writeFiles } from './project.js';
import { isSyntaxNode, visitSyntax } from './syntax.js';

const HERMETIC = ['src/core', 'src/coordination', 'src/engine'];

/** Members that bring time or chance in, by object. */
const FORBIDDEN: Readonly<Record<string, readonly string[]>> = {
  Math: ['random'],
  AbortSignal: ['timeout'],
  Atomics: ['wait', 'waitAsync'],
};

test('hermetic folders use no time or chance through members of globals', async () => {
  const found: string[] = [];
  for (const file of HERMETIC.flatMap(projectFiles).filter((name) => name.endsWith('.ts'))) {
    const members = await forbiddenMembers(readFileSync(join(ROOT, file), 'utf8'));
    found.push(...members.map((member) => `${file}: ${member}`));
  }
  assert.deepEqual(found, []);
});

test('the search for members sees each of them, however it is written', async () => {
  const source = `
    const draw = Math.random();
    const { random } = Math;
    const again = Math['random'];
    const signal: AbortSignal = AbortSignal.timeout(5);
    await Atomics.waitAsync(new Int32Array(1), 0, 0);
    const fine = Math.floor(1.5) + AbortSignal.any([]).aborted + 'Math.random';
  `;
  assert.deepEqual(await forbiddenMembers(source), [
    'Math.random',
    'Math.random',
    'Math.random',
    'AbortSignal.timeout',
    'Atomics.waitAsync',
  ]);
});

test('Biome refuses every global that brings in time, chance or the process', (t) => {
  const globals = [
    ...['setTimeout', 'setInterval', 'setImmediate', 'Date', 'performance', 'crypto', 'process'],
    ...['fetch', 'globalThis', 'global'],
  ];
  const probes = Object.fromEntries(
    [...HERMETIC, 'src/pool'].flatMap((folder) =>
      globals.map((name) => [
        `${folder}/${name.toLowerCase()}.ts`,
        `export const probe: unknown = ${name};\n`,
      ]),
    ),
  );
  const folder = temporaryFolder(t);
  writeFiles(folder, {
    'biome.json': readFileSync(join(ROOT, 'biome.json'), 'utf8'),
    ...probes,
  });
  const { stdout } = execute(
    bin('biome'),
    ['lint', '--vcs-enabled=false', '--max-diagnostics=none', '--reporter=github'],
    { cwd: folder },
  );
  const refused = stdout.split('\n').filter((line) => line.includes('noRestrictedGlobals'));
  const reported = refused.map((line) => /file=.*\/(src\/[^,]+)/.exec(line)?.[1]);
  const expected = Object.keys(probes).filter((file) => !file.startsWith('src/pool/'));
  assert.deepEqual(reported.sort(), expected.sort());
});

/** `Math.random` and the like, in the order of appearance: as member, computed member or destructured. */
async function forbiddenMembers(source: string): Promise<string[]> {
  const found: string[] = [];
  const note = (object: unknown, property: unknown): void => {
    const owner = nameOf(object);
    const member = nameOf(property);
    if (owner !== undefined && member !== undefined && FORBIDDEN[owner]?.includes(member)) {
      found.push(`${owner}.${member}`);
    }
  };
  await visitSyntax(source, (node) => {
    if (node.type === 'MemberExpression') note(node.object, node.property);
    if (node.type !== 'VariableDeclarator' || !isSyntaxNode(node.id)) return;
    for (const property of (node.id.properties as unknown[] | undefined) ?? []) {
      if (isSyntaxNode(property)) note(node.init, property.key);
    }
  });
  return found;
}

/** The text of an identifier, a string, or a computed key that is one of them. */
function nameOf(node: unknown): string | undefined {
  if (!isSyntaxNode(node)) return undefined;
  if (node.type === 'Computed') return nameOf(node.expression);
  return typeof node.value === 'string' ? node.value : undefined;
}
