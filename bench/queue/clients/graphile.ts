/**
 * graphile-worker on PostgreSQL, with the batch options of its documentation: a local queue that fetches many jobs at
 * once, and completions that share a statement.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { importPeer } from '../../lib/peers.js';
import { Ledger } from '../ledger.js';
import { GRAPHILE } from '../peers.js';
import type { Contestant, Item, Producer, Worker } from '../queue.js';
import { startPostgres } from '../servers.js';
import { onDatabase, openDatabase } from './postgres.js';

interface Utils {
  addJob(task: string, payload: Item): Promise<unknown>;
  addJobs(jobs: readonly object[]): Promise<unknown>;
  release(): Promise<void>;
}
interface Package {
  readonly Logger: new (factory: () => () => void) => object;
  makeWorkerUtils(options: object): Promise<Utils>;
  run(options: object): Promise<{ stop(): Promise<void> }>;
}

const TASK = 'noop';
const CONCURRENCY = 100;
const LOCAL_QUEUE = 1_000;
const POLL_MS = 5;

export async function graphile(folder: string): Promise<Contestant & { readonly url: string }> {
  // Before the server: what is not installed needs none.
  await importPeer(GRAPHILE);
  const server = await startPostgres(folder);
  const { url } = server;
  const database = await openDatabase(GRAPHILE, url);
  return {
    ...onDatabase(server, database),
    url,
    producer: 'process',
    openProducer: (space) => openProducer(url, space),
    openWorker: (space) => openWorker(url, space),
  };
}

function schemaOf(space: string): string {
  return `graphile_${space}`;
}

export async function openProducer(url: string, space: string): Promise<Producer> {
  const { makeWorkerUtils, Logger } = await importPeer<Package>(GRAPHILE);
  const utils = await makeWorkerUtils({
    connectionString: url,
    schema: schemaOf(space),
    logger: new Logger(() => () => {}),
  });
  return {
    bulk: { items: 2_000, lanes: 2 },
    async submitAll(items, dueAtMs) {
      const runAt = dueAtMs === undefined ? {} : { runAt: new Date(dueAtMs) };
      await utils.addJobs(items.map((payload) => ({ identifier: TASK, payload, ...runAt })));
    },
    async submit(item) {
      await utils.addJob(TASK, item);
    },
    close: () => utils.release(),
  };
}

async function openWorker(url: string, space: string): Promise<Worker> {
  const { run, Logger } = await importPeer<Package>(GRAPHILE);
  const ledger = Ledger.inherited();
  const producer = await openProducer(url, space);
  const database = await openDatabase(GRAPHILE, url);
  const runner = await run({
    noHandleSignals: true,
    taskList: { [TASK]: ({ id }: Item) => ledger.run(id) },
    preset: {
      worker: {
        connectionString: url,
        schema: schemaOf(space),
        concurrentJobs: CONCURRENCY,
        pollInterval: 100,
        localQueue: { size: LOCAL_QUEUE },
        completeJobBatchDelay: 0,
        failJobBatchDelay: 0,
        logger: new Logger(() => () => {}),
      },
    },
  });
  return {
    ...producer,
    async settled() {
      const open = `select 1 from ${schemaOf(space)}.jobs limit 1`;
      while ((await database.query(open)).rows.length > 0) await sleep(POLL_MS);
    },
    async close() {
      await runner.stop();
      await producer.close();
      await database.end();
    },
  };
}
