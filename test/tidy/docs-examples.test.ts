/**
 * The code in the documents compiles. Each ```ts block of README, CONTRIBUTING, CHANGELOG and docs/ is a module
 * that is type-checked against src, as a reader's editor would against the installed package.
 *
 * A block whose first line is a comment with a file name (`// tasks.ts`) gets this name, so that the blocks of
 * one document can import one another. A block marked ```ts ignore is not checked: for fragments.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { execute, projectFiles, ROOT, temporaryFolder, writeFiles } from './project.js';

interface Block {
  readonly document: string;
  /** Line of the document where the code begins, from 1. */
  readonly line: number;
  readonly code: string;
}

test('the examples in the documents compile against src', (t) => {
  const documents = ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md']
    .filter((file) => existsSync(join(ROOT, file)))
    .concat(projectFiles('docs').filter((file) => file.endsWith('.md')));
  const blocks = documents.flatMap((document) =>
    blocksOf(document, readFileSync(join(ROOT, document), 'utf8')),
  );
  const errors = typeErrors(temporaryFolder(t), blocks);
  assert.deepEqual(errors, []);
});

test('an example that does not compile is reported with its document and line', (t) => {
  const document = [
    'Text.',
    '```ts',
    '// numbers.ts',
    'export const one: number = 1;',
    '```',
    '```ts',
    "import { one } from './numbers.js';",
    "import { TimerQueue } from 'millrace/timing';",
    'const queue = new TimerQueue();',
    'const text: string = one;',
    '```',
    '```ts ignore',
    'anything ...',
    '```',
  ].join('\n');
  const errors = typeErrors(temporaryFolder(t), blocksOf('docs/page.md', document));
  assert.equal(errors.length, 1, errors.join('\n'));
  assert.match(
    errors[0] ?? '',
    /^docs\/page\.md:10: .*'number' is not assignable to type 'string'/,
  );
});

/** The ```ts blocks of a document that are not marked `ignore`. */
function blocksOf(document: string, text: string): Block[] {
  const blocks: Block[] = [];
  let open: { info: string; line: number; lines: string[] } | undefined;
  for (const [index, line] of text.split('\n').entries()) {
    const fence = /^\s*```(.*)$/.exec(line);
    if (open === undefined) {
      if (fence !== null) open = { info: fence[1] ?? '', line: index + 2, lines: [] };
    } else if (fence !== null) {
      if (/^(ts|typescript)\s*$/.test(open.info)) {
        blocks.push({ document, line: open.line, code: open.lines.join('\n') });
      }
      open = undefined;
    } else {
      open.lines.push(line);
    }
  }
  return blocks;
}

/** What tsc says about the blocks, as "document:line: message". */
function typeErrors(folder: string, blocks: readonly Block[]): string[] {
  const origin = new Map<string, Block>();
  const files: Record<string, string> = {};
  for (const block of blocks) {
    const directory = block.document.replace(/\W+/g, '-');
    const name = /^\/\/ ([\w-]+\.ts)\b/.exec(block.code)?.[1] ?? `line-${block.line}.ts`;
    const file = `${directory}/${name}`;
    origin.set(file, block);
    // The export makes a module of a block without imports, so that it may await and keeps its names.
    files[file] = `${block.code}\nexport {};\n`;
  }
  if (blocks.length === 0) return [];
  files['tsconfig.json'] = JSON.stringify({
    extends: join(ROOT, 'tsconfig.json'),
    compilerOptions: {
      noEmit: true,
      incremental: false,
      declaration: false,
      isolatedDeclarations: false,
      rootDir: '/',
      typeRoots: [join(ROOT, 'node_modules/@types')],
      lib: ['es2023', 'esnext.disposable'],
      paths: sourcePaths(),
    },
    include: ['**/*.ts'],
  });
  files['package.json'] = '{"type":"module"}';
  writeFiles(folder, files);
  // What a reader would have installed beside millrace.
  symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));

  const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
  const { stdout } = execute(process.execPath, [tsc, '-p', '.', '--pretty', 'false'], {
    cwd: folder,
  });
  return stdout.split('\n').flatMap((line) => {
    const match = /^(\S+?)\((\d+),\d+\): error (.*)$/.exec(line);
    // Errors inside src are the build's to report.
    const block = origin.get(match?.[1] ?? '');
    if (match === null || block === undefined) return /^error/.test(line) ? [line] : [];
    return [`${block.document}:${block.line + Number(match[2]) - 1}: ${match[3]}`];
  });
}

/** The package's subpaths, led to their sources. */
function sourcePaths(): Record<string, string[]> {
  const { exports } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
    exports: Record<string, { default?: string }>;
  };
  return Object.fromEntries(
    Object.entries(exports).flatMap(([subpath, target]) => {
      const output = target.default;
      if (output === undefined) return [];
      const source = output.replace('./dist/', '').replace(/\.js$/, '.ts');
      return [[`millrace${subpath.slice(1)}`, [join(ROOT, source)]]];
    }),
  );
}
