/**
 * A service that hands tasks in, and runs none: it has the contracts, and neither handlers nor threads.
 *
 *   ETCD=http://localhost:2379 node dist/examples/services-on-etcd/producer.js 100
 *
 * Submits so many orders, each once however often it is called, and prints the sum of their invoices.
 */
import { createClient } from 'millrace';
import { etcdStore } from 'millrace/etcd';
import { invoice, type Order } from './contracts.js';

const endpoints = (process.env.ETCD ?? 'http://localhost:2379').split(',');
const client = await createClient({
  tasks: { invoice },
  store: etcdStore({ endpoints, namespace: 'shop' }),
});

function* orders(count: number): Generator<Order> {
  for (let n = 1; n <= count; n++) yield { number: `A${n}`, cents: [n, 100] };
}

const submitted = await client.submitMany(invoice, orders(Number(process.argv[2] ?? 100)), {
  idempotencyKey: ({ number }) => number,
});
let sum = 0;
for await (const end of submitted.results()) {
  if (end.status === 'completed') sum += end.value.total;
  else console.error(end.id, end.error.message);
}
console.log(`${submitted.accepted} new, ${submitted.deduplicated} known, invoices of ${sum} cents`);
await client.close();
