/**
 * Sends an event to each address, and prints what came of it.
 *
 *   node dist/examples/webhooks/send.js order.shipped '{"order":7}' https://example.org/hook ...
 *
 * STORE (a folder) comes from the environment. What is not delivered when it is stopped is delivered by the next run.
 */
import { createRuntime, fileStore } from 'millrace';
import { deliver } from './tasks.js';

const [event, json, ...urls] = process.argv.slice(2);
if (event === undefined || json === undefined || urls.length === 0) {
  throw new Error('usage: send.js <event> <JSON> <url> ...');
}
const data: unknown = JSON.parse(json);

await using runtime = await createRuntime({
  tasks: new URL('./tasks.js', import.meta.url),
  store: fileStore(process.env.STORE ?? 'webhooks.millrace'),
});
await Promise.all(
  urls.map(async (url) => {
    const handle = await runtime.submit(deliver, { url, event, data });
    const end = await handle.settled();
    if (end.status === 'completed') console.log(`${url}: ${JSON.stringify(end.value)}`);
    else console.log(`${url}: ${(end.error.cause as Error | undefined)?.message ?? end.error}`);
  }),
);
