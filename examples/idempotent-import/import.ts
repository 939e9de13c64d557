/**
 * An import that may be started again at any time: after a crash, by an impatient colleague, or twice by cron.
 *
 *   node dist/examples/idempotent-import/import.js orders.ndjson
 *
 * The order's number is the idempotency key. An order that an earlier run handed over is not booked again: submit()
 * answers with that run's task, whose result is printed just the same. STORE (a folder) comes from the environment.
 */
import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { createRuntime, fileStore } from 'millrace';
import { bookOrder, type Order } from './tasks.js';

const [file] = process.argv.slice(2);
if (file === undefined) throw new Error('usage: import.js <orders.ndjson>');

const runtime = await createRuntime({
  tasks: new URL('./tasks.js', import.meta.url),
  store: fileStore(process.env.STORE ?? 'orders.millrace'),
  queue: { maxTasks: 1_000 },
  retention: { idempotency: '30d', completed: { age: '60d' }, failed: { age: '60d' } },
});

const prints: Promise<void>[] = [];
for await (const line of createInterface({ input: createReadStream(file) })) {
  const order = JSON.parse(line) as Order;
  const task = await runtime.submit(bookOrder, order, { idempotencyKey: order.number });
  const print = async (): Promise<void> => {
    const settled = await task.settled();
    const end = settled.status === 'completed' ? settled.value.total : settled.error.message;
    console.log(`${order.number}: ${end}${task.created ? '' : ' (earlier)'}`);
  };
  prints.push(print());
}
await Promise.all(prints);
await runtime.close();
