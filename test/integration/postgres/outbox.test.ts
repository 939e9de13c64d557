/** The recipe of docs/guides/postgresql.md, against a real PostgreSQL: nothing is lost, doubled, or written by a zombie. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import {
  createRuntime,
  defineTask,
  defineTasks,
  type ExecutionContext,
  memoryStore,
  type Runtime,
} from '../../../src/index.js';
import { soon } from '../../support/limit.js';
import { type PostgresServer, startPostgres } from '../../support/postgres.js';

/** Absolute path of the project: four levels above dist/test/integration/postgres. */
const ROOT = fileURLToPath(new URL('../../../..', import.meta.url));
const EXAMPLE = path.join(ROOT, 'dist/examples/postgresql');

/** As that of the example's task, whatever it returns. */
type Run = (input: { readonly orderId: number }, ctx: ExecutionContext) => Promise<string> | string;
type Outbox = typeof import('../../../examples/postgresql/outbox.js');
type Tasks = typeof import('../../../examples/postgresql/tasks.js');

describe('tasks with effects in PostgreSQL', () => {
  let folder: string;
  let server: PostgresServer;
  let pool: pg.Pool;
  let outbox: Outbox;
  let tasks: Tasks;

  before(async () => {
    mkdirSync(path.join(ROOT, 'build'), { recursive: true });
    folder = mkdtempSync(path.join(ROOT, 'build/postgres-'));
    server = await startPostgres(folder);
    process.env.DATABASE_URL = server.url;
    pool = new pg.Pool({ connectionString: server.url });
    outbox = (await import(path.join(EXAMPLE, 'outbox.js'))) as Outbox;
    tasks = (await import(path.join(EXAMPLE, 'tasks.js'))) as Tasks;
    await pool.query(outbox.SCHEMA);
  });
  after(async () => {
    await pool.end();
    await tasks.close();
    await server.close();
    rmSync(folder, { recursive: true, force: true });
  });

  const order = async (id: number): Promise<{ state: string; shipments: number }> => {
    const { rows } = await pool.query('SELECT state, shipments FROM orders WHERE id = $1', [id]);
    return rows[0] as { state: string; shipments: number };
  };
  const runtimeOf = (run: Run): Promise<Runtime> => {
    const ship = defineTask({
      name: 'orders.ship',
      exec: 'inline',
      retry: { attempts: 5, min: '10ms' },
      run,
    });
    return createRuntime({ tasks: defineTasks({ ship }), store: memoryStore() });
  };

  test('the example runs, and ships each order once', async () => {
    const child = spawn(process.execPath, [path.join(EXAMPLE, 'main.js')], {
      env: { ...process.env, STORE: path.join(folder, 'store') },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    assert.equal(await soon('the example', text(child.stdout)), '2 orders, each shipped once\n');
  });

  test('an order that is rolled back submits nothing', async () => {
    await using runtime = await runtimeOf(() => 'never');
    const client = await pool.connect();
    await client.query('BEGIN');
    await client.query("INSERT INTO outbox (task, input) VALUES ('orders.ship', '{}')");
    await client.query('ROLLBACK');
    client.release();
    assert.equal(await outbox.relayOutbox(pool, runtime), 0);
  });

  test('who dies between submit and delete leaves a row, and the task is the same one the next time', async () => {
    await using runtime = await runtimeOf(async ({ orderId }, ctx) => {
      return String(await tasks.shipOrder(orderId, ctx.execution.token));
    });
    const id = await outbox.placeOrder(pool, 'a bell');
    const dies: Pick<Runtime, 'submit'> = {
      async submit(...args) {
        await runtime.submit(...args);
        throw new Error('the process died');
      },
    };
    await assert.rejects(outbox.relayOutbox(pool, dies), /the process died/);
    assert.equal(await outbox.relayOutbox(pool, runtime), 1);
    assert.equal(await outbox.relayOutbox(pool, runtime), 0);
    await soon('the task', runtime.drain());
    assert.deepEqual(await order(id), { state: 'shipped', shipments: 1 });
    assert.equal(runtime.stats().open, 0);
  });

  test('two relays at once hand each row over once', async () => {
    const handed: unknown[] = [];
    const counting = {
      async submit(_: unknown, input: unknown) {
        handed.push(input);
      },
    } as unknown as Pick<Runtime, 'submit'>;
    for (let i = 0; i < 20; i++) await outbox.placeOrder(pool, `item ${i}`);
    const taken = await Promise.all([1, 2, 3].map(() => outbox.relayOutbox(pool, counting)));
    const rest = await outbox.relayOutbox(pool, counting);
    assert.equal(
      taken.reduce((sum, count) => sum + count, rest),
      20,
    );
    assert.equal(handed.length, 20);
  });

  test('an execution that has been replaced and does not know it changes nothing', async () => {
    const id = await outbox.placeOrder(pool, 'a lamp');
    let wake = (): void => {};
    const slept = new Promise<void>((resolve) => {
      wake = resolve;
    });
    const tokens: bigint[] = [];
    let zombie: Promise<boolean> | undefined;
    await using runtime = await runtimeOf(async ({ orderId }, ctx) => {
      const { token } = ctx.execution;
      tokens.push(token);
      if (tokens.length === 1) {
        // It stands still, is given up, and goes on later where it was.
        zombie = slept.then(() => tasks.shipOrder(orderId, token));
        throw new Error('given up');
      }
      return String(await tasks.shipOrder(orderId, token));
    });
    assert.equal(await outbox.relayOutbox(pool, runtime), 1);
    await soon('the second execution', runtime.drain());
    assert.deepEqual(await order(id), { state: 'shipped', shipments: 1 });
    wake();
    assert.equal(await zombie, false);
    assert.deepEqual(await order(id), { state: 'shipped', shipments: 1 });
    assert.ok(tokens[1]! > tokens[0]!);
  });
});
