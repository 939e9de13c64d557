/**
 * Prometheus and Alertmanager out of Debian's packages, as tests need them: a program, a folder of its own, free ports.
 *
 * Debian's Alertmanager reads its default template from /usr/share, where nothing is installed here. So a copy of the
 * program gets a folder name of the same length that means its working directory, and the template is put there.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { chmod, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { debianPackages } from './debian.js';
import { killAtEnd, removeAtEnd } from './guardian.js';
import { freePorts } from './ports.js';

export interface PrometheusPrograms {
  readonly prometheus: string;
  readonly promtool: string;
  readonly alertmanager: string;
  readonly amtool: string;
  /** Has to be in Alertmanager's working directory as default.tmpl. */
  readonly template: string;
}

/** Of an even number of characters. */
const ASSETS = '/usr/share/prometheus/alertmanager';
const SLASH = 0x2f;
const START_LIMIT_MS = 30_000;

let found: Promise<PrometheusPrograms> | undefined;

/** @throws NotToBeHad when the packages cannot be downloaded */
export function prometheusPrograms(): Promise<PrometheusPrograms> {
  found ??= find();
  return found;
}

async function find(): Promise<PrometheusPrograms> {
  const folder = await debianPackages('prometheus', ['prometheus', 'prometheus-alertmanager']);
  const bin = (name: string): string => path.join(folder, 'usr/bin', name);
  const alertmanager = path.join(folder, 'alertmanager-here');
  await moveTemplate(bin('prometheus-alertmanager'), alertmanager);
  return {
    prometheus: bin('prometheus'),
    promtool: bin('promtool'),
    alertmanager,
    amtool: bin('amtool'),
    template: path.join(folder, ASSETS, 'default.tmpl'),
  };
}

async function moveTemplate(from: string, to: string): Promise<void> {
  const program = await readFile(from);
  const { length } = ASSETS;
  for (let at = program.indexOf(ASSETS); at >= 0; at = program.indexOf(ASSETS, at + 1)) {
    // Longer paths that begin like it are those of its pages.
    if (program[at + length] !== SLASH) program.write('./'.repeat(length >> 1), at, 'latin1');
  }
  const fresh = `${to}-${process.pid}`;
  await writeFile(fresh, program);
  await chmod(fresh, 0o755);
  await rename(fresh, to);
}

/** Runs promtool or amtool. @returns what it says @throws when it finds a mistake */
export async function check(program: string, args: readonly string[], input = ''): Promise<string> {
  const running = promisify(execFile)(program, args);
  running.child.stdin?.end(input);
  const { stdout, stderr } = await running;
  return stdout + stderr;
}

/** A server of these programs that runs until the test ends. */
export interface RunningServer {
  readonly url: string;
  readonly folder: string;
}

/**
 * @param start - the program's arguments, and the files of its folder, for the port it gets
 */
export async function startServer(
  t: TestContext,
  program: string,
  start: (port: number) => {
    readonly args: readonly string[];
    readonly files: Record<string, string>;
  },
): Promise<RunningServer> {
  const folder = await mkdtemp(path.join(tmpdir(), 'millrace-prometheus-'));
  removeAtEnd(folder);
  const [port = 0] = await freePorts(1);
  const { args, files } = start(port);
  for (const [name, text] of Object.entries(files)) await writeFile(path.join(folder, name), text);
  const server = spawn(program, args, { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
  const callOff = killAtEnd(server.pid!);
  const said: string[] = [];
  for (const stream of [server.stdout, server.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => void said.push(text));
  }
  t.after(async () => {
    await ended(server);
    callOff();
    await rm(folder, { recursive: true, force: true });
  });
  const url = `http://127.0.0.1:${port}`;
  await untilReady(`${url}/-/ready`, server, said);
  return { url, folder };
}

async function ended(server: ChildProcess): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null) return;
  const exit = new Promise((resolve) => server.once('exit', resolve));
  server.kill('SIGKILL');
  await exit;
}

/** These servers say that they are ready on a page only, so it is asked for again and again. */
async function untilReady(
  url: string,
  server: ChildProcess,
  said: readonly string[],
): Promise<void> {
  const untilMs = performance.now() + START_LIMIT_MS;
  while (performance.now() < untilMs && server.exitCode === null) {
    const answer = await fetch(url).catch(() => undefined);
    if (answer?.ok) return;
    await sleep(50);
  }
  throw new Error(`${url} is not ready: ${said.join('').slice(-2_000)}`);
}
