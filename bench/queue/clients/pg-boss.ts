/**
 * pg-boss on PostgreSQL: `insert` for many, `send` for one. Its `work` sleeps half a second at least between fetches,
 * so several loops of `fetch` and `complete` in batches take its place, as its documentation offers.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { importPeer } from '../../lib/peers.js';
import { Ledger } from '../ledger.js';
import { PG_BOSS } from '../peers.js';
import type { Contestant, Item, Producer, Worker } from '../queue.js';
import { startPostgres } from '../servers.js';
import { onDatabase, openDatabase } from './postgres.js';

interface Boss {
  start(): Promise<unknown>;
  stop(options: { readonly graceful: boolean }): Promise<void>;
  on(event: 'error', listener: (error: Error) => void): void;
  createQueue(name: string): Promise<void>;
  insert(jobs: readonly object[]): Promise<void>;
  send(name: string, data: Item): Promise<string | null>;
  fetch(name: string, options: object): Promise<{ readonly id: string; readonly data: Item }[]>;
  complete(name: string, ids: readonly string[]): Promise<void>;
}

const BATCH = 1_000;
const LOOPS = 2;
const IDLE_MS = 5;
const POLL_MS = 5;

export async function pgBoss(folder: string): Promise<Contestant & { readonly url: string }> {
  // Before the server: what is not installed needs none.
  await importPeer(PG_BOSS);
  const server = await startPostgres(folder);
  const { url } = server;
  const database = await openDatabase(PG_BOSS, url);
  return {
    ...onDatabase(server, database),
    url,
    producer: 'process',
    openProducer: (space) => openProducer(url, space),
    openWorker: (space) => openWorker(url, space),
  };
}

export async function openProducer(url: string, space: string): Promise<Producer> {
  return producerOn(await openBoss(url, space), space);
}

async function openBoss(url: string, space: string): Promise<Boss> {
  const { default: PgBoss } = await importPeer<{ default: new (options: unknown) => Boss }>(
    PG_BOSS,
  );
  const boss = new PgBoss({ connectionString: url, supervise: false, schedule: false });
  boss.on('error', () => {});
  await boss.start();
  await boss.createQueue(space);
  return boss;
}

function producerOn(boss: Boss, space: string): Producer {
  return {
    bulk: { items: 2_000, lanes: 2 },
    async submitAll(items, dueAtMs) {
      const startAfter = dueAtMs === undefined ? {} : { startAfter: new Date(dueAtMs) };
      await boss.insert(items.map((data) => ({ name: space, data, ...startAfter })));
    },
    async submit(item) {
      await boss.send(space, item);
    },
    close: () => boss.stop({ graceful: false }),
  };
}

async function openWorker(url: string, space: string): Promise<Worker> {
  const ledger = Ledger.inherited();
  const boss = await openBoss(url, space);
  const database = await openDatabase(PG_BOSS, url);
  let isClosing = false;
  const loop = async (): Promise<void> => {
    while (!isClosing) {
      const jobs = await boss.fetch(space, { batchSize: BATCH });
      if (jobs.length === 0) {
        await sleep(IDLE_MS);
        continue;
      }
      await Promise.all(jobs.map(({ data }) => ledger.run(data.id)));
      await boss.complete(
        space,
        jobs.map(({ id }) => id),
      );
    }
  };
  const loops = Array.from({ length: LOOPS }, loop);
  return {
    ...producerOn(boss, space),
    async settled() {
      const open = `select 1 from pgboss.job where name = $1 and state < 'completed' limit 1`;
      while ((await database.query(open, [space])).rows.length > 0) await sleep(POLL_MS);
    },
    async close() {
      isClosing = true;
      await Promise.all(loops);
      await database.end();
      await boss.stop({ graceful: false });
    },
  };
}
