#!/usr/bin/env node
/**
 * The `millrace` command: finds the command that was named, runs it, and turns what comes of it into an exit code.
 *
 *   main.ts        words -> command -> exit code; errors -> one line
 *   command.ts     what a command is, exit codes          arguments.ts   options, near misses     help.ts   help texts
 *   demo*.ts       `millrace demo`                        run*.ts        `millrace run`
 *   loadtest*.ts, loadtest/  `millrace loadtest`
 *   ls.ts, show.ts, why.ts, cancel.ts, retry.ts, redrive.ts, top*.ts
 *                                                         for operators; store-access.ts reaches the store for them
 *   doctor*.ts     `millrace doctor`
 *   the rest       one shared piece each: progress, tables, percentiles, folders, globs, NDJSON, interruption
 *
 * Results go to standard output, everything for people who watch goes to standard error. An error is one line that
 * says what is wrong and ends in its code; its stack is shown with --verbose or with DEBUG set.
 */
import { isMillraceError, type MillraceError } from '../core/errors.js';
import { nearMiss } from '../core/near-miss.js';
import { packageVersion } from '../package-version.js';
import { readArguments, usage } from './arguments.js';
import { type Command, ExitCode } from './command.js';
import { DEMO } from './demo-fact.js';
import { DOCTOR } from './doctor-fact.js';
import { commandHelp, generalHelp } from './help.js';
import { LOADTEST } from './loadtest-fact.js';
import { CANCEL, LS, REDRIVE, RETRY, SHOW, TOP, WHY } from './operate-fact.js';
import { RUN } from './run-fact.js';

const COMMANDS: readonly Command[] = [
  { ...DEMO, load: () => import('./demo.js') },
  { ...RUN, load: () => import('./run.js') },
  { ...LOADTEST, load: () => import('./loadtest.js') },
  { ...LS, load: () => import('./ls.js') },
  { ...SHOW, load: () => import('./show.js') },
  { ...WHY, load: () => import('./why.js') },
  { ...CANCEL, load: () => import('./cancel.js') },
  { ...RETRY, load: () => import('./retry.js') },
  { ...REDRIVE, load: () => import('./redrive.js') },
  { ...TOP, load: () => import('./top.js') },
  { ...DOCTOR, load: () => import('./doctor.js') },
];

async function main(words: readonly string[]): Promise<ExitCode> {
  const [first, ...rest] = words;
  switch (first) {
    case undefined:
      process.stderr.write(generalHelp(COMMANDS));
      return ExitCode.USAGE;
    case '--version':
      process.stdout.write(`${packageVersion()}\n`);
      return ExitCode.DONE;
    case 'help':
    case '--help':
    case '-h': {
      const named = rest[0] === undefined ? undefined : commandNamed(rest[0]);
      process.stdout.write(named === undefined ? generalHelp(COMMANDS) : commandHelp(named));
      return ExitCode.DONE;
    }
  }
  const command = commandNamed(first);
  const args = readArguments(command, rest);
  if (args.options.has('help')) {
    process.stdout.write(commandHelp(command));
    return ExitCode.DONE;
  }
  const { run } = await command.load();
  return run(args);
}

/** @throws ERR_MILLRACE_INVALID_OPTION, with the near miss */
function commandNamed(name: string): Command {
  const command = COMMANDS.find((candidate) => candidate.name === name);
  if (command !== undefined) return command;
  const kind = name.startsWith('-') ? 'option' : 'command';
  const known = COMMANDS.map((candidate) => candidate.name);
  const near = kind === 'option' ? undefined : nearMiss(name, known);
  const hint =
    near === undefined ? `; commands are ${known.join(', ')}` : `, did you mean '${near}'?`;
  throw usage(undefined, `unknown ${kind} '${name.slice(0, 60)}'${hint}`);
}

function exitCodeOf(error: unknown): ExitCode {
  if (!isMillraceError(error)) return ExitCode.FAILED;
  if (error.code.startsWith('ERR_MILLRACE_STORE_')) return ExitCode.STORE;
  return error.kind === 'usage' ? ExitCode.USAGE : ExitCode.FAILED;
}

function describe(error: unknown, isVerbose: boolean): string {
  if (isVerbose && error instanceof Error) return `${error.stack}\n${causesOf(error)}`;
  const message = error instanceof Error ? error.message : String(error);
  const code = (error as Partial<MillraceError> | null)?.code;
  const lines = message.split('\n').map((part) => part.trim());
  const line = `millrace: ${lines.filter((part) => part !== '').join(' ')}`;
  if (isMillraceError(error)) return `${line} [${error.code}]\n`;
  return `${line}${code === undefined ? '' : ` [${code}]`} (--verbose shows where)\n`;
}

function causesOf(error: Error): string {
  const { cause } = error;
  return cause instanceof Error ? `caused by: ${cause.stack}\n${causesOf(cause)}` : '';
}

const words = process.argv.slice(2);

function report(error: unknown): ExitCode {
  const isVerbose = words.includes('--verbose') || Boolean(process.env.DEBUG);
  process.stderr.write(describe(error, isVerbose));
  return exitCodeOf(error);
}

// A reader that went away (`millrace ... | head`) is no error; commands that care stop by themselves. A full disk is.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') process.exit(report(error));
});
// There is nobody left to tell.
process.stderr.on('error', () => {});

let code: ExitCode;
try {
  code = await main(words);
} catch (error) {
  code = report(error);
}
// A tasks module may hold something open (a pool of connections, a timer): that does not keep a finished command.
process.stdout.write('', () => process.exit(code));
