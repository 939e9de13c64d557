// The task writes into the service's own PostgreSQL. Its token fences it: an execution that has been replaced, and does not
// know it yet, changes nothing.
import { defineTask, defineTasks } from 'millrace';
import pg from 'pg';

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL });

export interface Order {
  readonly orderId: number;
}

/** Ships an order, unless an execution with a higher token has been there. */
export async function shipOrder(orderId: number, token: bigint): Promise<boolean> {
  const { rowCount } = await pool.query(
    `UPDATE orders SET state = 'shipped', shipments = shipments + 1, fence = $1
     WHERE id = $2 AND fence < $1`,
    [token, orderId],
  );
  return rowCount === 1;
}

/** Ends the connections of a process that is done. */
export function close(): Promise<void> {
  return pool.end();
}

export const ship = defineTask({
  name: 'orders.ship',
  retry: { attempts: 5, min: '50ms' },
  async run({ orderId }: Order, ctx) {
    const isShipped = await shipOrder(orderId, ctx.execution.token);
    // Whoever replaced this execution has shipped it; nobody takes this one's result any more.
    return isShipped ? 'shipped' : 'shipped by another execution';
  },
});

export default defineTasks({ ship });
