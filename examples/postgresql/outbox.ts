// A transactional outbox: the task is written down in the same transaction as the data it is about, and handed to millrace
// afterwards. Nothing is submitted for a transaction that was rolled back, and nothing is forgotten for one that was not.
import type { Runtime } from 'millrace';
import type pg from 'pg';

export const SCHEMA = `
  CREATE TABLE IF NOT EXISTS orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    item text NOT NULL,
    state text NOT NULL DEFAULT 'placed',
    shipments int NOT NULL DEFAULT 0,
    fence bigint NOT NULL DEFAULT 0
  );
  CREATE TABLE IF NOT EXISTS outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    task text NOT NULL,
    input jsonb NOT NULL
  );
`;

/** Places an order: the order and its task, or neither. */
export async function placeOrder(pool: pg.Pool, item: string): Promise<number> {
  return transaction(pool, async (client) => {
    const { rows } = await client.query<{ id: string }>(
      'INSERT INTO orders (item) VALUES ($1) RETURNING id',
      [item],
    );
    const orderId = Number(rows[0]?.id);
    await client.query('INSERT INTO outbox (task, input) VALUES ($1, $2)', [
      'orders.ship',
      { orderId },
    ]);
    return orderId;
  });
}

/**
 * Hands over what is in the outbox; any number of processes may do it at once. Who dies between the submit and the delete
 * leaves the row: it is submitted again, under the same key, and is the same task.
 *
 * @returns how many rows it took
 */
export async function relayOutbox(
  pool: pg.Pool,
  runtime: Pick<Runtime, 'submit'>,
): Promise<number> {
  return transaction(pool, async (client) => {
    const { rows } = await client.query<{ id: string; task: string; input: unknown }>(
      'SELECT id, task, input FROM outbox ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED',
    );
    await Promise.all(
      rows.map(({ id, task, input }) =>
        runtime.submit(task, input, { idempotencyKey: `outbox-${id}` }),
      ),
    );
    await client.query('DELETE FROM outbox WHERE id = ANY($1)', [rows.map(({ id }) => id)]);
    return rows.length;
  });
}

async function transaction<T>(
  pool: pg.Pool,
  work: (client: pg.PoolClient) => Promise<T>,
): Promise<T> {
  const client = await pool.connect();
  try {
    await client.query('BEGIN');
    const result = await work(client);
    await client.query('COMMIT');
    client.release();
    return result;
  } catch (error) {
    // The connection goes with what it began.
    client.release(true);
    throw error;
  }
}
