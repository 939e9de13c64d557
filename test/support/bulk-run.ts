/** Runs bulk-program.ts in a process of its own, with a heap that could not hold what goes through it. */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

export interface BulkRun {
  /** Of all that ran in the process. */
  readonly sum: number;
  readonly heapBytes: number;
  readonly rssBytes: number;
  readonly perSecond: number;
}

const PROGRAM = fileURLToPath(new URL('./bulk-program.js', import.meta.url));

/** @param place - a folder is made when it is absent; else endpoints and namespace on etcd */
export async function runBulk(
  t: TestContext,
  items: number,
  way: 'call' | 'stream',
  place?: { readonly endpoints: readonly string[]; readonly namespace: string },
): Promise<BulkRun> {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-bulk-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const where = place ? [place.endpoints.join(), place.namespace] : [join(folder, 'data')];
  const { stdout } = await promisify(execFile)(process.execPath, [
    '--max-old-space-size=64',
    PROGRAM,
    String(items),
    way,
    ...where,
  ]);
  return JSON.parse(stdout) as BulkRun;
}
