/** The levers of a runtime: what healing may do to it, done by the parts that can. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Levers } from './core/levers.js';
import type { Pool } from './core/pool.js';
import type { Engines } from './engines.js';

const EVIDENCE_CHARS_MAX = 1_048_576;

export class RuntimeLevers implements Levers {
  readonly #engines: Engines;
  readonly #threads: Pool | undefined;
  readonly #close: () => Promise<void>;
  /** Submits with a lower priority are refused; undefined: none is. */
  shedPriority: number | undefined;

  /** @param close - closes the runtime */
  constructor(engines: Engines, threads: Pool | undefined, close: () => Promise<void>) {
    this.#engines = engines;
    this.#threads = threads;
    this.#close = close;
  }

  runsType(type: string): boolean {
    return this.#engines.runsType(type);
  }

  limitType(type: string, atMost: number | undefined): void {
    this.#engines.limitType(type, atMost ?? Number.POSITIVE_INFINITY);
  }

  shedBelow(priority: number | undefined): void {
    this.shedPriority = priority;
  }

  allowClaimsAhead(isAllowed: boolean): void {
    this.#engines.allowClaimsAhead(isAllowed);
  }

  lingerCommits(lingerMs: number): void {
    this.#engines.lingerCommits(lingerMs);
  }

  async replaceThreads(count: 'one' | 'all', threadId?: number): Promise<void> {
    const threads = count === 'one' ? 1 : (this.#threads?.threadCount ?? 0);
    await this.#threads?.replaceThreads?.(threads, threadId);
  }

  get running(): number {
    return this.#engines.stats.running;
  }

  holdStarts(isHeld: boolean): void {
    this.#engines.holdStarts(isHeld);
  }

  inspectThreads(forMs: number): void {
    this.#threads?.inspectThreads?.(forMs);
  }

  /** Node's own report: stacks, heap, handles, limits. Without environment variables where Node can leave them out. */
  async captureDiagnostics(evidence?: object): Promise<string> {
    const report = process.report as NodeJS.ProcessReport & { excludeEnv?: boolean };
    report.excludeEnv = true;
    const folder = join(tmpdir(), 'millrace-diagnostics');
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const name = `${process.pid}-${Date.now()}.json`;
    if (evidence !== undefined) {
      const text = JSON.stringify(evidence, null, 2).slice(0, EVIDENCE_CHARS_MAX);
      writeFileSync(join(folder, `evidence-${name}`), text, { mode: 0o600 });
    }
    return report.writeReport(join(folder, `report-${name}`));
  }

  async exit(code: number): Promise<void> {
    process.exitCode = code;
    // The action that asks for this is under a lock, which closing would wait for.
    setImmediate(() => void this.#close().finally(() => process.exit(code)));
  }
}
