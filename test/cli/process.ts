/**
 * Runs the `millrace` command as its users do: as a process of its own, in a folder of its own.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { linkSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';

export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A command at work. */
export interface Running {
  readonly child: ChildProcess;
  readonly outcome: Promise<Outcome>;
  /** The first line of standard error that passes. */
  line(passes: (line: string) => boolean): Promise<string>;
}

export interface Place {
  /** A folder of this test, where the commands run. */
  readonly folder: string;
  write(files: Readonly<Record<string, string | Uint8Array>>): void;
  /** @param through - a program with arguments that starts the command */
  start(args: readonly string[], through?: readonly string[]): Running;
  /** Runs a command to its end, with `input` on standard input. */
  millrace(args: readonly string[], input?: string | Uint8Array): Promise<Outcome>;
}

const MAIN = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
/** What a tasks module imports millrace from. */
export const MILLRACE = new URL('../../src/index.js', import.meta.url).href;

export function setup(t: TestContext): Place {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-cli-'));
  const children: ChildProcess[] = [];
  t.after(() => {
    for (const child of children) child.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  });

  const start: Place['start'] = (args, through = []) => {
    const [program, ...words] = [...through, process.execPath, MAIN, ...args];
    const child = spawn(program!, words, {
      cwd: folder,
      env: { ...process.env, MILLRACE_STORE: '', DEBUG: '' },
    });
    children.push(child);
    child.stdin?.on('error', () => {});
    return { child, outcome: outcomeOf(child), line: (passes) => lineOf(child, passes) };
  };
  return {
    folder,
    write(files) {
      for (const [name, content] of Object.entries(files)) {
        const file = join(folder, name);
        mkdirSync(dirname(file), { recursive: true });
        writeFileSync(file, content);
      }
    },
    start,
    millrace(args, input = '') {
      const { child, outcome } = start(args);
      child.stdin?.end(input);
      return outcome;
    },
  };
}

/** Starts a command so that permissions count: root reads everything, unless it gives up what lets it. */
export const AS_EVERYBODY: readonly string[] =
  process.getuid?.() === 0 ? ['setpriv', '--bounding-set=-dac_override,-dac_read_search'] : [];

/** A folder with many files that are one on disk: each costs a task its time, together they cost little space. */
export function linkedFiles(folder: string, count: number, content: Uint8Array): void {
  mkdirSync(folder, { recursive: true });
  const first = join(folder, 'file-0');
  writeFileSync(first, content);
  for (let i = 1; i < count; i++) linkSync(first, join(folder, `file-${i}`));
}

/** The lines of NDJSON output as values. */
export function records<T = Record<string, unknown>>(output: string): T[] {
  return output
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as T);
}

async function outcomeOf(child: ChildProcess): Promise<Outcome> {
  const closed = once(child, 'close') as Promise<[number | null]>;
  const [stdout, stderr, [code]] = await Promise.all([
    // A test may close its end early.
    child.stdout ? text(child.stdout).catch(() => '') : '',
    child.stderr ? text(child.stderr) : '',
    closed,
  ]);
  return { code, stdout, stderr };
}

async function lineOf(child: ChildProcess, passes: (line: string) => boolean): Promise<string> {
  const seen: string[] = [];
  const lines = createInterface({ input: child.stderr! });
  return new Promise((resolve, reject) => {
    lines.on('line', (line) => {
      seen.push(line);
      if (passes(line)) resolve(line);
    });
    lines.once('close', () => reject(new Error(`no such line among:\n${seen.join('\n')}`)));
  });
}
