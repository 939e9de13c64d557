// Places two orders, hands their tasks over and waits until they are shipped. Prints `2 orders, each shipped once`.
//
//   DATABASE_URL=postgres://localhost/shop node dist/examples/postgresql/main.js
import { createRuntime, fileStore } from 'millrace';
import pg from 'pg';
import { placeOrder, relayOutbox, SCHEMA } from './outbox.js';

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL });
await pool.query(SCHEMA);
const runtime = await createRuntime({
  tasks: new URL('./tasks.js', import.meta.url),
  store: fileStore(process.env.STORE ?? './data'),
});

const orders = [await placeOrder(pool, 'a clock'), await placeOrder(pool, 'a mill')];
// A service does this in a loop, woken by a timer or by LISTEN.
while ((await relayOutbox(pool, runtime)) > 0);
await runtime.drain();

const { rows } = await pool.query(
  "SELECT FROM orders WHERE id = ANY($1) AND state = 'shipped' AND shipments = 1",
  [orders],
);
console.log(`${rows.length} orders, each shipped once`);
await runtime.close();
await pool.end();
