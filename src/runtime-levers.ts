/** The levers of a runtime: what healing may do to it, done by the parts that can. */
import { mkdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Levers } from './core/levers.js';
import type { Pool } from './core/pool.js';
import type { Engines } from './engines.js';

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

  limitType(type: string, atMost: number | undefined): void {
    this.#engines.limitType(type, atMost ?? Number.POSITIVE_INFINITY);
  }

  shedBelow(priority: number | undefined): void {
    this.shedPriority = priority;
  }

  allowClaimsAhead(isAllowed: boolean): void {
    this.#engines.allowClaimsAhead(isAllowed);
  }

  async replaceThreads(count: 'one' | 'all'): Promise<void> {
    await this.#threads?.replaceThreads?.(count === 'one' ? 1 : this.#threads.threadCount);
  }

  /** Node's own report: stacks, heap, handles, limits. Without environment variables where Node can leave them out. */
  async captureDiagnostics(): Promise<string> {
    const report = process.report as NodeJS.ProcessReport & { excludeEnv?: boolean };
    report.excludeEnv = true;
    const folder = join(tmpdir(), 'millrace-diagnostics');
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    return report.writeReport(join(folder, `report-${process.pid}-${Date.now()}.json`));
  }

  async exit(code: number): Promise<void> {
    process.exitCode = code;
    // The action that asks for this is under a lock, which closing would wait for.
    setImmediate(() => void this.#close().finally(() => process.exit(code)));
  }
}
