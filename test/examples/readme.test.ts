/** The program in README.md runs as it is printed. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));

test('the program in README.md runs as it is printed', async (t) => {
  const [tasks, service] = blocks(readFileSync(join(ROOT, 'README.md'), 'utf8'));
  assert.ok(tasks !== undefined && service !== undefined, 'README.md has the two files');
  const folder = mkdtempSync(join(tmpdir(), 'millrace-readme-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(ROOT, join(folder, 'node_modules/millrace'));
  writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
  writeFileSync(join(folder, 'tasks.js'), tasks);
  writeFileSync(join(folder, 'service.js'), service);

  const run = promisify(execFile);
  const { stdout } = await run(process.execPath, ['service.js'], { cwd: folder, timeout: 60_000 });

  const [accepted, result, ...rest] = stdout.trimEnd().split('\n');
  assert.match(accepted ?? '', /^accepted default\.00\.[0-9a-z]{9}\.[0-9a-z]{16}\.00$/);
  assert.equal(result, `result ${createHash('sha256').update(tasks).digest('hex')}`);
  assert.deepEqual(rest, []);
});

/** The ```js blocks of a document. */
function blocks(document: string): string[] {
  return [...document.matchAll(/^```js\n([\s\S]*?)^```$/gm)].map((match) => match[1] ?? '');
}
