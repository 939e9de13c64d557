import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { it } from 'node:test';

const SRC = new URL('../../src/', import.meta.url).href;

/** Every module a compiled one imports, and those import, with the packages on the way. */
function graph(entry: string): { modules: Set<string>; packages: Set<string> } {
  const modules = new Set<string>([entry]);
  const packages = new Set<string>();
  for (const module of modules) {
    const code = readFileSync(new URL(module), 'utf8');
    for (const [, specifier] of code.matchAll(/(?:from|^import)\s+'([^']+)'/gm)) {
      if (specifier!.startsWith('.')) modules.add(new URL(specifier!, module).href);
      else packages.add(specifier!);
    }
  }
  return { modules, packages };
}

it('a worker thread loads the core and its own files, no vendor and nothing native', () => {
  const { modules, packages } = graph(`${SRC}pool/worker-entry.js`);
  const outside = [...modules].filter(
    (module) =>
      !module.startsWith(`${SRC}core/`) &&
      !/\/(worker-entry|batch-runner|batch-call|task-context|task-notes|last-words|task-children|frame-text|result-log|messages|worker-vitals)\.js$/.test(
        module,
      ),
  );
  assert.deepEqual(outside, []);
  assert.ok(modules.size > 5);
  for (const name of packages) assert.match(name, /^node:/);
});
