/** The contenders as functions that run one task. Each is imported in the process that measures it. */
import { fileURLToPath } from 'node:url';
import { Unavailable } from '../lib/bench.js';
import type { Payload, Target } from './load.js';

/**
 * A runtime with everything at its default but the number of threads.
 *
 * @param directory - where the store is; undefined for a store in memory
 */
export async function millrace(threads: number, directory: string | undefined): Promise<Target> {
  const { createRuntime, fileStore, memoryStore } = await import('../../src/index.js');
  const { noop } = await import('./tasks.js');
  const runtime = await createRuntime({
    tasks: new URL('./tasks.js', import.meta.url),
    store: directory === undefined ? memoryStore() : fileStore(directory),
    threads: { max: threads },
  });
  return {
    async run(payload: Payload) {
      const handle = await runtime.submit(noop, payload as never);
      return handle.result();
    },
    close: () => runtime.close(),
  };
}

/** Piscina as its README shows it: a message to the thread per task and one back. */
export async function piscina(threads: number): Promise<Target> {
  const { Piscina } = await import('piscina').catch((error: Error) => {
    throw new Unavailable(`Piscina does not load: ${error.message}`);
  });
  const pool = new Piscina({
    filename: fileURLToPath(new URL('./piscina-worker.js', import.meta.url)),
    minThreads: threads,
    maxThreads: threads,
  });
  return {
    run: (payload) => pool.run(payload),
    close: () => pool.close(),
  };
}
