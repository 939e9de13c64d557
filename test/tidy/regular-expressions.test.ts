/**
 * No regular expression of src takes for ever: each is run on long texts that are made to hurt it, and takes time in proportion
 * to their length. Texts from outside meet these expressions, and whoever writes them knows how to make one backtrack.
 *
 *   text = what the expression may begin with + something repeated for long + what ends no match
 *
 * The repeated part is each character that stands in the expression, each kind of character, and pairs of them. Short texts
 * come first, since exponential and cubic time show in them; then long ones, until one takes a time that can be measured: four
 * times that for twice its length is quadratic.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { projectFiles, ROOT } from './project.js';
import { isSyntaxNode, visitSyntax } from './syntax.js';

/** Compiles what the user of the command line gives it: names of files on their own machine. */
const COMPILES_PATTERNS = ['src/cli/glob.ts'];

/** In steps in which exponential time grows 16 times, then cubic time 8 times: seen before it is for ever, on a fast machine too. */
const SHORT_LENGTHS = [16, 20, 24, 28, 32, 36, 500, 1_000, 2_000];
const SHORT_MS_MAX = 20;
const LONG_LENGTHS = [10_000, 20_000, 40_000];
/** Less says nothing about growth. */
const LONG_MS_MIN = 10;
/** Of the time for twice the length: 2 is linear, 4 quadratic. */
const GROWTH_MAX = 3;

interface Expression {
  readonly file: string;
  readonly pattern: string;
  readonly flags: string;
}

interface Sources {
  readonly literals: Expression[];
  /** Files with `new RegExp` or `RegExp()`. */
  readonly compiling: Set<string>;
}

test('every regular expression of src takes time in proportion to the text, whatever the text is', async () => {
  const { literals, compiling } = await expressionsOf(projectFiles('src'));
  assert.deepEqual([...compiling], COMPILES_PATTERNS);
  assert.ok(literals.length > 60, `${literals.length} were found`);
  assert.deepEqual(literals.flatMap(slowTexts), []);
});

test('quadratic and exponential expressions are found out', () => {
  for (const pattern of ['\\s*\\n\\s*', '\\/+$', '^(a+)+$', 'a*a*b']) {
    assert.notDeepEqual(slowTexts({ file: 'x.ts', pattern, flags: 'g' }), [], pattern);
  }
});

/** The texts that an expression is slow on, in words; the first of them is enough. */
function slowTexts({ file, pattern, flags }: Expression): string[] {
  for (const start of startsOf(pattern)) {
    for (const repeated of repeatedOf(pattern)) {
      for (const end of ['', '\u0000']) {
        const textOf = (length: number): string =>
          `${start}${repeated.repeat(Math.ceil(length / repeated.length))}${end}`;
        const expression = new RegExp(pattern, flags);
        if (isSlow((length) => textOf(length).replace(expression, ''))) {
          return [`${file}: /${pattern}/ on ${JSON.stringify(textOf(12))}`];
        }
      }
    }
  }
  return [];
}

function isSlow(match: (length: number) => void): boolean {
  if (SHORT_LENGTHS.some((length) => bestMs(() => match(length), SHORT_MS_MAX) > SHORT_MS_MAX)) {
    return true;
  }
  for (const length of LONG_LENGTHS) {
    const onceMs = bestMs(() => match(length), LONG_MS_MIN);
    if (onceMs <= LONG_MS_MIN) continue;
    const twiceMs = bestMs(() => match(length * 2), 0);
    return twiceMs > onceMs * GROWTH_MAX;
  }
  return false;
}

/** Of up to three tries, so that a machine with other work to do says nothing wrong; one that is fast is enough. */
function bestMs(work: () => void, fastMs: number): number {
  let bestMs = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 3 && bestMs > fastMs; i++) {
    const startedAtMs = performance.now();
    work();
    bestMs = Math.min(bestMs, performance.now() - startedAtMs);
  }
  return bestMs;
}

/** Nothing, and what the expression names: mostly the beginning of a match. */
function startsOf(pattern: string): string[] {
  return ['', literalsOf(pattern)];
}

function repeatedOf(pattern: string): Set<string> {
  const kinds = ['a', 'Z', '0', ' ', '\n', '_', 'é', '\ud800'];
  const signs = [...pattern].filter((character) => /[^\w\s]/.test(character));
  const pairs = [...new Set(signs)].map((character) => `a${character}`);
  return new Set([...kinds, ...signs, ...literalsOf(pattern), ...pairs, 'a0', ' \n', '://']);
}

/** The characters that an expression names outside of its sets, in their order. */
function literalsOf(pattern: string): string {
  return pattern
    .replaceAll(/\[[^\]]*\]|\{[^}]*\}|\\[a-zA-Z]|[\^$()?*+|]/g, '')
    .replaceAll('\\', '');
}

async function expressionsOf(files: readonly string[]): Promise<Sources> {
  const literals: Expression[] = [];
  const compiling = new Set<string>();
  for (const file of files.filter((name) => name.endsWith('.ts'))) {
    const source = readFileSync(join(ROOT, file), 'utf8');
    await visitSyntax(source, (node) => {
      if (node.type === 'RegExpLiteral') {
        literals.push({ file, pattern: String(node.pattern), flags: String(node.flags) });
      }
      if (node.type !== 'NewExpression' && node.type !== 'CallExpression') return;
      if (isSyntaxNode(node.callee) && node.callee.value === 'RegExp') compiling.add(file);
    });
  }
  return { literals, compiling };
}
