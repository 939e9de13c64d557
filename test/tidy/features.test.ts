/** The tables of features and of threats claim nothing that no test proves: each row names a test, and that test is there. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ROOT } from './project.js';

const PAGE = 'docs/reference/features.md';
const SECURITY_PAGE = 'SECURITY.md';
/** `[yes](../../test/x.test.ts "the name of a test")`, by its path in the repository. */
const PROOF = /\]\((?:\.\.\/\.\.\/)?(test\/[^\s)]+) "((?:[^"\\]|\\.)+)"\)/g;

interface Row {
  readonly line: number;
  readonly feature: string;
  readonly ours: string;
}

/** Rows of the tables that compare features, and of those that name threats: their second column is ours. */
function rows(page: string): Row[] {
  let isComparison = false;
  return page.split('\n').flatMap((text, index) => {
    const [, feature = '', ours = ''] = text.split(/(?<!\\)\|/).map((cell) => cell.trim());
    if (!text.startsWith('|')) isComparison = false;
    else if (feature === 'feature') isComparison = ours === 'millrace';
    else if (feature === 'threat') isComparison = ours === 'proven by';
    else if (isComparison && !/^-+$/.test(feature)) return [{ line: index + 1, feature, ours }];
    return [];
  });
}

/** What is wrong with a page. */
function problems(page: string, read: (file: string) => string | undefined): string[] {
  return rows(page).flatMap(({ line, feature, ours }) => {
    const proofs = [...ours.matchAll(PROOF)];
    if (proofs.length === 0) return ours === 'no' ? [] : [`${line}: '${feature}' has no proof`];
    return proofs.flatMap(([, file = '', name = '']) => {
      const text = read(file);
      if (text === undefined) return [`${line}: there is no ${file}`];
      const isThere = [`'${name}'`, `"${name}"`, `\`${name}\``].some((word) => text.includes(word));
      return isThere ? [] : [`${line}: ${file} has no test '${name}'`];
    });
  });
}

for (const [what, path, rowsMin] of [
  ['feature', PAGE, 41],
  ['threat', SECURITY_PAGE, 16],
] as const) {
  test(`each ${what} in its table is proven by a test that exists`, () => {
    const page = readFileSync(join(ROOT, path), 'utf8');
    assert.ok(rows(page).length >= rowsMin);
    const read = (file: string): string | undefined =>
      existsSync(join(ROOT, file)) ? readFileSync(join(ROOT, file), 'utf8') : undefined;
    assert.deepEqual(problems(page, read), []);
  });
}

test('a claim without a test, and one whose test is gone, are reported with their line', () => {
  const page = [
    '| feature | millrace | other |',
    '|---|---|---|',
    '| a | [yes](../../test/a.test.ts "does a") | no |',
    '| b | yes | no |',
    '| c | no | yes |',
    '| d | [yes](../../test/a.test.ts "does d") | no |',
    '| e | [yes](../../test/e.test.ts "does e") | no |',
    '',
    '| another table | x |',
  ].join('\n');
  const read = (file: string): string | undefined =>
    file === 'test/a.test.ts' ? "test('does a', () => {});" : undefined;
  assert.deepEqual(problems(page, read), [
    "4: 'b' has no proof",
    "6: test/a.test.ts has no test 'does d'",
    '7: there is no test/e.test.ts',
  ]);
});
