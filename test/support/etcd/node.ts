/** One etcd server as a child process: start, kill, stop and continue, end. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { type CallOff, killAtEnd } from '../guardian.js';

/** Logged once the server answers clients: by 3.4, and since 3.5. */
const READY = /serving client traffic|ready to serve client requests/;
const START_TIMEOUT_MS = 60_000;
const LOG_LINES_KEPT = 200;

export interface EtcdNodeOptions {
  readonly program: string;
  readonly name: string;
  readonly args: readonly string[];
  readonly clientPort: number;
  readonly metricsPort: number;
  /** `https` when it has a certificate. */
  readonly scheme: 'http' | 'https';
  /** Where its log goes when the server is to outlive this process. */
  readonly logFile?: string | undefined;
}

/** Thrown when a server ends while starting, with the end of its log. */
export class EtcdDidNotStart extends Error {
  override readonly name = 'EtcdDidNotStart';
}

export class EtcdNode {
  readonly name: string;
  /** What clients connect to. */
  readonly endpoint: string;
  readonly clientPort: number;
  readonly #options: EtcdNodeOptions;
  #process: ChildProcess | undefined;
  #exited: Promise<unknown> = Promise.resolve();
  #callOff: CallOff | undefined;
  #log: string[] = [];

  constructor(options: EtcdNodeOptions) {
    this.name = options.name;
    this.clientPort = options.clientPort;
    this.endpoint = `${options.scheme}://127.0.0.1:${options.clientPort}`;
    this.#options = options;
  }

  get pid(): number | undefined {
    return this.#process?.pid;
  }

  get isRunning(): boolean {
    return this.#process !== undefined;
  }

  /** The newest lines of its log. */
  get log(): readonly string[] {
    return this.#log;
  }

  /** Starts it, on the data it has. Resolves when it answers clients, for which a cluster needs its majority. */
  async start(): Promise<void> {
    if (this.#process !== undefined) throw new Error(`${this.name} runs`);
    const { program, args, logFile } = this.#options;
    const output = logFile === undefined ? 'pipe' : openSync(logFile, 'a');
    const child = spawn(program, args, {
      stdio: ['ignore', 'ignore', output],
      detached: logFile !== undefined,
    });
    this.#process = child;
    this.#exited = new Promise((resolve) => {
      child.once('exit', resolve);
      child.once('error', resolve);
    }).then(() => {
      this.#process = undefined;
      this.#callOff?.();
    });
    if (logFile === undefined) {
      if (child.pid !== undefined) this.#callOff = killAtEnd(child.pid);
      await this.#untilReady(child);
    } else {
      closeSync(output as number);
      await this.#untilLogged(logFile);
      child.unref();
    }
  }

  /** SIGKILL: as when the machine's power is cut, but for what the kernel has not written yet. */
  async kill(): Promise<void> {
    this.#process?.kill('SIGKILL');
    await this.#exited;
  }

  /** SIGSTOP: it is there, its connections stay, and it does nothing. */
  stop(): void {
    this.#process?.kill('SIGSTOP');
  }

  /** SIGCONT. */
  cont(): void {
    this.#process?.kill('SIGCONT');
  }

  /** Ends it, gracefully unless it is stopped or does not react. */
  async close(): Promise<void> {
    if (this.#process === undefined) return;
    this.cont();
    this.#process.kill('SIGTERM');
    const timer = setTimeout(() => this.#process?.kill('SIGKILL'), 5_000);
    await this.#exited;
    clearTimeout(timer);
  }

  /** Ends it and starts it again on the same data and ports. */
  async restart(): Promise<void> {
    await this.close();
    await this.start();
  }

  /** The value of a metric the server publishes, e.g. `etcd_server_is_leader`; undefined when it does not answer. */
  async metric(name: string): Promise<number | undefined> {
    try {
      const response = await fetch(`http://127.0.0.1:${this.#options.metricsPort}/metrics`, {
        signal: AbortSignal.timeout(1_000),
      });
      const line = (await response.text())
        .split('\n')
        .find((text) => text.startsWith(`${name} `) || text.startsWith(`${name}{`));
      return line === undefined ? undefined : Number(line.slice(line.lastIndexOf(' ') + 1));
    } catch {
      return undefined;
    }
  }

  async #untilReady(child: ChildProcess): Promise<void> {
    const lines = createInterface({ input: child.stderr as NodeJS.ReadableStream });
    const ready = new Promise<void>((resolve) => {
      lines.on('line', (line) => {
        this.#log.push(line);
        if (this.#log.length > LOG_LINES_KEPT) this.#log = this.#log.slice(LOG_LINES_KEPT / 2);
        if (READY.test(line)) resolve();
      });
    });
    const closed = once(lines, 'close');
    await this.#startedBy(ready, closed);
  }

  /** Of a server that writes to a file there are no events: looks into the file every so often. */
  async #untilLogged(file: string): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const ready = new Promise<void>((resolve) => {
      timer = setInterval(() => {
        this.#log = readFileSync(file, 'utf8').split('\n').slice(-LOG_LINES_KEPT);
        if (this.#log.some((line) => READY.test(line))) resolve();
      }, 50);
    });
    await this.#startedBy(ready, this.#exited).finally(() => clearInterval(timer));
  }

  async #startedBy(ready: Promise<void>, ended: Promise<unknown>): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const failed = (why: string): Error =>
      new EtcdDidNotStart(`${this.name} ${why}:\n${this.#log.slice(-8).join('\n')}`);
    await Promise.race([
      ready,
      ended.then(() => Promise.reject(failed('ended while starting'))),
      new Promise((_, reject) => {
        timer = setTimeout(() => reject(failed('is not ready')), START_TIMEOUT_MS);
      }),
    ]).finally(() => clearTimeout(timer));
  }
}
