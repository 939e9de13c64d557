/**
 * Packs the project as `npm publish` would and installs the tarball into an empty project, on a machine that
 * has Node and npm and nothing else: no compiler, no make, no install scripts.
 */
import { mkdirSync, mkdtempSync, readdirSync, realpathSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { type Ended, execute, writeFiles } from '../tidy/project.js';

/** Packs the project into a new folder and returns the path of the tarball. */
export function pack(): string {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-pack-'));
  // The hook by itself, so that `npm pack` runs no scripts: `prepare` would compile under the running tests.
  check(execute('npm', ['run', '--silent', 'prepack'], { env: cleanEnvironment() }));
  check(
    execute('npm', ['pack', '--silent', '--ignore-scripts', '--pack-destination', folder], {
      env: cleanEnvironment(),
    }),
  );
  const [tarball] = readdirSync(folder);
  if (tarball === undefined) throw new Error('npm pack left no tarball');
  return join(folder, tarball);
}

/** A new project with the tarball installed, and the means to run programs in it. */
export class InstalledProject {
  readonly folder: string;
  readonly #env: NodeJS.ProcessEnv;

  constructor(tarball: string) {
    this.folder = mkdtempSync(join(tmpdir(), 'millrace-installed-'));
    const programs = join(this.folder, '.bin-only-node');
    mkdirSync(programs);
    symlinkSync(process.execPath, join(programs, 'node'));
    for (const name of ['npm', 'sh', 'env']) symlinkSync(whereIs(name), join(programs, name));
    this.#env = { ...cleanEnvironment(), PATH: programs };
    writeFiles(this.folder, {
      'package.json': '{"name":"service","private":true,"type":"module"}',
    });
    check(
      this.execute('npm', [
        'install',
        ...['--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund', tarball],
      ]),
    );
  }

  /** Where the package was installed. */
  get packageFolder(): string {
    return join(this.folder, 'node_modules/millrace');
  }

  /** Runs a program of the bare machine in the project. */
  execute(command: string, args: readonly string[]): Ended {
    return execute(command, args, { cwd: this.folder, env: this.#env });
  }

  /** Runs a module of the project with Node and returns what it printed; throws with its errors if it fails. */
  runModule(file: string): string {
    const ended = this.execute('node', [file]);
    check(ended);
    return ended.stdout;
  }
}

/** Throws with everything a program said unless it ended well. */
function check(ended: Ended): void {
  if (ended.status !== 0) throw new Error(`ended with ${ended.status}: ${ended.output}`);
}

/** The environment without what npm sets for scripts and node:test for test files. */
function cleanEnvironment(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(
    ([name]) => !/^(npm_|INIT_CWD$|NODE_TEST_CONTEXT$|NODE_OPTIONS$)/i.test(name),
  );
  return Object.fromEntries(kept);
}

/** The file of a program on PATH, links followed. */
function whereIs(name: string): string {
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    try {
      return realpathSync(join(folder, name));
    } catch {
      // Not in this folder.
    }
  }
  throw new Error(`${name} is not on PATH`);
}
