/**
 * Writes docs/reference/errors.md from the table of error codes in src/core/errors.ts.
 *
 *   node scripts/docs-errors.mjs           writes the page
 *   node scripts/docs-errors.mjs --check   says what is missing or old, and fails then (a test runs this)
 *
 * Reads the compiled table: run `npm run build` first.
 */

import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { at, fail, readText } from './lib/project.mjs';

const PAGE = at('docs/reference/errors.md');

/** What each kind means for whoever catches the error, in the order of the page. */
const KINDS = {
  usage: [
    'The calling code or its input is wrong.',
    'Thrown at once. Fix the call; a retry gives the same.',
  ],
  capacity: [
    'A limit is reached: backpressure, a quota, a full disk.',
    'Slow down and try again later.',
  ],
  deadline: ['A time budget is spent.', 'Allow more time, or find out what is slow.'],
  cancelled: ['Somebody asked for it.', 'Nothing: this is not a failure.'],
  conflict: ['Somebody else was first, or the thing is gone.', 'Read again and decide anew.'],
  coordination: [
    'Trouble with the store, a lease or a lock.',
    'Look at the store; the message names it.',
  ],
  task: ["The task's own code failed, or its thread or process died.", 'Look at `cause`.'],
  internal: ['A bug in millrace.', 'Report it with `details.tag`.'],
};

const INTRODUCTION = `<!-- Generated from src/core/errors.ts by scripts/docs-errors.mjs. -->

# Errors

Everything that can go wrong in operation is a \`MillraceError\` with

- \`code\`: a stable identifier out of the tables below. Match on it, not on the class or the message: it
  survives threads, processes, the store, and two installed copies of the package;
- \`kind\`: who has to act; the sections below are the kinds;
- \`details\`: plain facts, such as the datum and the limit;
- \`cause\`: the error underneath, when there is one.

\`isMillraceError(value)\` and \`hasCode(value, code)\` tell such errors apart from others and never throw.`;

const { ERRORS } = await import(at('dist/src/core/errors.js')).catch((error) =>
  fail(`the error table cannot be read (${error.message}); run: npm run build`),
);

const page = render(ERRORS);
if (process.argv.includes('--check')) {
  check(page);
} else {
  mkdirSync(dirname(PAGE), { recursive: true });
  writeFileSync(PAGE, page);
}

function check(expected) {
  const present = readText(PAGE) ?? '';
  const missing = Object.keys(ERRORS).filter((code) => !present.includes(`\`${code}\``));
  if (missing.length > 0) {
    fail(`docs/reference/errors.md lacks ${missing.join(', ')}; run: node scripts/docs-errors.mjs`);
  }
  if (present !== expected) {
    fail(
      'docs/reference/errors.md differs from src/core/errors.ts; run: node scripts/docs-errors.mjs',
    );
  }
}

function render(errors) {
  const unknown = Object.values(errors).filter(({ kind }) => !Object.hasOwn(KINDS, kind));
  if (unknown.length > 0) fail(`scripts/docs-errors.mjs does not know the kind ${unknown[0].kind}`);
  const sections = Object.entries(KINDS).map(([kind, [meaning, advice]]) => {
    const rows = Object.entries(errors)
      .filter(([, fact]) => fact.kind === kind)
      .map(([code, fact]) => `| \`${code}\` | ${fact.doc.replaceAll('|', '\\|')} |`);
    if (rows.length === 0) return undefined;
    return [
      `## ${kind}`,
      '',
      `${meaning} ${advice}`,
      '',
      '| code | means |',
      '|---|---|',
      ...rows,
    ].join('\n');
  });
  return `${[INTRODUCTION, ...sections.filter((section) => section !== undefined)].join('\n\n')}\n`;
}
