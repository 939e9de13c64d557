/** What both PostgreSQL peers need of PostgreSQL itself. */

import type { Peer } from '../../lib/bench.js';
import { importPeer } from '../../lib/peers.js';
import { type Contestant, itemOf } from '../queue.js';
import type { Server } from '../servers.js';

export interface Database {
  query(text: string, values?: readonly unknown[]): Promise<{ rows: Record<string, unknown>[] }>;
  end(): Promise<void>;
}

/** @param peer - whose copy of the driver is used */
export async function openDatabase(peer: Peer, url: string): Promise<Database> {
  const { default: pg } = await importPeer<{
    default: { Pool: new (options: unknown) => Database };
  }>(peer, 'pg');
  return new pg.Pool({ connectionString: url, max: 1 });
}

/** The parts of a contestant that do not depend on the peer. */
export function onDatabase(
  server: Server,
  database: Database,
): Pick<Contestant, 'commitTimesMs' | 'notes' | 'close'> {
  return {
    async commitTimesMs(count) {
      const value = JSON.stringify(itemOf(0));
      await database.query('create table bare (id int primary key, value text)');
      const times = new Float64Array(count);
      for (let index = 0; index < count; index++) {
        const sentAt = performance.now();
        await database.query('insert into bare values ($1, $2)', [index, value]);
        times[index] = performance.now() - sentAt;
      }
      return times;
    },
    async notes() {
      const { rows } = await database.query('select pg_database_size(current_database()) as size');
      return { postgres: server.version, databaseMiB: Number(rows[0]?.size) / 2 ** 20 };
    },
    async close() {
      await database.end();
      await server.close();
    },
  };
}
