/**
 * The processes that run the tasks of a load test, where it is shared over etcd: started, killed, paused, replaced.
 *
 * What a process says of itself it says each second, so that of one that is killed no more than a second is unknown.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { MillraceError } from '../../core/errors.js';
import type { FromNode, NodeAssignment, ToNode } from './node-protocol.js';
import { type ProcessReport, reportOfLives } from './process-report.js';
import type { VitalFacts } from './process-vitals.js';

const STOP_MS_MAX = 30_000;

/** One node, in all its lives. */
class Node {
  readonly name: string;
  readonly #assignment: NodeAssignment;
  /** By life. */
  readonly #said: VitalFacts[][] = [];
  #child: ChildProcess | undefined;
  #startMs: number | undefined;
  #lastWords = '';

  constructor(name: string, assignment: NodeAssignment) {
    this.name = name;
    this.#assignment = assignment;
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  /** Resolves when it runs tasks. @throws ERR_MILLRACE_STORE_UNAVAILABLE when it ends instead */
  async start(): Promise<void> {
    const said: VitalFacts[] = [];
    this.#said.push(said);
    const child = fork(
      new URL('./node-main.js', import.meta.url),
      [JSON.stringify(this.#assignment)],
      { stdio: ['ignore', 'ignore', 'pipe', 'ipc'] },
    );
    this.#child = child;
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#lastWords = (this.#lastWords + text).slice(-1_000);
    });
    const ready = new Promise<void>((resolve, reject) => {
      child.on('message', (message: FromNode) => {
        if (message.kind === 'ready') resolve();
        else said.push(message.facts);
      });
      child.once('exit', (code, signal) => {
        reject(
          new MillraceError(
            'ERR_MILLRACE_STORE_UNAVAILABLE',
            `${this.name} ended with ${signal ?? code}: ${this.#lastWords.trim()}`,
          ),
        );
      });
    });
    await ready;
    if (this.#startMs !== undefined) this.begin(this.#startMs);
  }

  /** The load begins. */
  begin(startMs: number): void {
    this.#startMs = startMs;
    this.#tell({ kind: 'begin', startMs });
  }

  async kill(): Promise<void> {
    const child = this.#child!;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  }

  async pause(ms: number): Promise<void> {
    const child = this.#child!;
    child.kill('SIGSTOP');
    await sleep(ms);
    child.kill('SIGCONT');
  }

  async stop(): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    this.#tell({ kind: 'stop' });
    const impatient = setTimeout(() => child.kill('SIGKILL'), STOP_MS_MAX);
    await ended;
    clearTimeout(impatient);
  }

  report(): ProcessReport {
    return reportOfLives(this.name, this.#said);
  }

  #tell(message: ToNode): void {
    // It may just have ended: who waits for that hears of it.
    this.#child?.send(message, () => {});
  }
}

export class Fleet {
  readonly #nodes: readonly Node[];
  /** Replaced or paused right now. */
  readonly #busy = new Set<Node>();

  constructor(count: number, assignment: NodeAssignment) {
    this.#nodes = Array.from({ length: count }, (_, i) => new Node(`node ${i + 1}`, assignment));
  }

  /** Resolves when all run tasks. */
  async start(): Promise<void> {
    await Promise.all(this.#nodes.map((node) => node.start()));
  }

  begin(startMs: number): void {
    for (const node of this.#nodes) node.begin(startMs);
  }

  /** Kills one node and starts another in its place. @param pick - from `[0, 1)`: which */
  kill(pick: number): Promise<string> {
    return this.#with(pick, async (node) => {
      const { pid } = node;
      await node.kill();
      await node.start();
      return `killed ${node.name} (pid ${pid}), replaced by pid ${node.pid}`;
    });
  }

  /** Stops one node for a while, as a frozen machine does. */
  pause(pick: number, ms: number): Promise<string> {
    return this.#with(pick, async (node) => {
      await node.pause(ms);
      return `paused ${node.name} (pid ${node.pid}) for ${ms} ms`;
    });
  }

  async stop(): Promise<void> {
    await Promise.all(this.#nodes.map((node) => node.stop()));
  }

  reports(): ProcessReport[] {
    return this.#nodes.map((node) => node.report());
  }

  async #with(pick: number, act: (node: Node) => Promise<string>): Promise<string> {
    const free = this.#nodes.filter((node) => !this.#busy.has(node));
    const node = free[Math.floor(pick * free.length)];
    if (node === undefined) return 'no node was there to be harmed';
    this.#busy.add(node);
    try {
      return await act(node);
    } finally {
      this.#busy.delete(node);
    }
  }
}
