/**
 * Submits so many tasks out of an endless source and prints how it went: to be run with a small heap.
 *
 *   node --max-old-space-size=64 bulk-program.js <items> call | stream <folder>        runs them, too
 *   node --max-old-space-size=64 bulk-program.js <items> call | stream <endpoints> <namespace>
 */
import { ReadableStream } from 'node:stream/web';
import {
  createClient,
  createRuntime,
  defineTask,
  defineTasks,
  fileStore,
} from '../../src/index.js';
import { etcdStore } from '../../src/store/etcd/index.js';

export const contract = defineTask<{ readonly n: number }, void>({ name: 'add', exec: 'inline' });

async function* upTo(items: number): AsyncGenerator<{ readonly n: number }> {
  for (let n = 1; n <= items; n++) yield { n };
}

async function main([count = '', way = '', place = '', namespace]: string[]): Promise<void> {
  let sum = 0;
  const add = contract.implement({
    run: ({ n }) => {
      sum += n;
    },
  });
  const runtime =
    namespace === undefined
      ? await createRuntime({
          tasks: defineTasks({ add }),
          store: fileStore(place),
          queue: { maxTasks: 20_000 },
          retention: { completed: { age: 0 } },
        })
      : undefined;
  const submitter =
    runtime ??
    (await createClient({
      tasks: [contract],
      store: etcdStore({ endpoints: place.split(','), namespace: namespace! }),
    }));
  const beganAtMs = performance.now();
  if (way === 'stream') {
    await ReadableStream.from(upTo(Number(count))).pipeTo(submitter.writable(contract));
  } else await submitter.submitMany(contract, upTo(Number(count)));
  await runtime?.drain();
  const seconds = (performance.now() - beganAtMs) / 1_000;
  await submitter.close();
  const { heapUsed: heapBytes, rss: rssBytes } = process.memoryUsage();
  console.log(JSON.stringify({ sum, heapBytes, rssBytes, perSecond: Number(count) / seconds }));
}

if (process.argv[1] === import.meta.filename) await main(process.argv.slice(2));
