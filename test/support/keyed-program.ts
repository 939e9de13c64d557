/**
 * Submits so many tasks with keys, which another process submits at the same time, and prints how many were new.
 *
 *   node keyed-program.js <count> <endpoints> <namespace>
 *
 * Says `ready` when it is connected, and begins when standard input ends.
 */
import { text } from 'node:stream/consumers';
import { createClient, defineTask } from '../../src/index.js';
import { etcdStore } from '../../src/store/etcd/index.js';

async function main([count = '', endpoints = '', namespace = '']: string[]): Promise<void> {
  const client = await createClient({
    tasks: [defineTask({ name: 'keyed' })],
    store: etcdStore({ endpoints: endpoints.split(','), namespace }),
  });
  console.log('ready');
  await text(process.stdin);
  function* numbers(): Generator<number> {
    for (let n = 0; n < Number(count); n++) yield n;
  }
  const beganAtMs = performance.now();
  const many = await client.submitMany('keyed', numbers(), {
    idempotencyKey: (n) => `key ${n}`,
    // Nobody runs them meanwhile.
    delay: '1d',
  });
  const seconds = (performance.now() - beganAtMs) / 1_000;
  const { accepted, deduplicated } = many;
  console.log(JSON.stringify({ accepted, deduplicated, seconds }));
  await client.close();
}

if (process.argv[1] === import.meta.filename) await main(process.argv.slice(2));
