/**
 * The examples run, and print what their first comment says.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';

function setup(t: TestContext): {
  readonly folder: string;
  readonly start: (script: string, ...args: string[]) => ChildProcess;
  readonly startWith: (
    environment: Readonly<Record<string, string>>,
    script: string,
    ...args: string[]
  ) => ChildProcess;
} {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-examples-'));
  const children: ChildProcess[] = [];
  t.after(() => {
    for (const child of children) child.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
  });
  const startWith = (
    environment: Readonly<Record<string, string>>,
    script: string,
    ...args: string[]
  ): ChildProcess => {
    const file = fileURLToPath(new URL(`../../examples/${script}`, import.meta.url));
    const child = spawn(process.execPath, [file, ...args], {
      env: { ...process.env, PORT: '0', STORE: join(folder, 'store'), ...environment },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    children.push(child);
    return child;
  };
  return { folder, startWith, start: (script, ...args) => startWith({}, script, ...args) };
}

test('embed: a task handed over by one request is answered by another, also after a restart', async (t) => {
  const { start } = setup(t);
  const service = async (): Promise<{ url: string; stop: () => Promise<unknown> }> => {
    const child = start('embed/server.js');
    const [address] = (await once(createInterface({ input: child.stdout! }), 'line')) as [string];
    const { port } = JSON.parse(address) as { port: number };
    const exited = once(child, 'exit');
    const stop = (): Promise<unknown> => {
      child.kill('SIGTERM');
      return exited;
    };
    return { url: `http://127.0.0.1:${port}/`, stop };
  };
  // No kept-alive connection holds the server back when it is asked to end.
  const headers = { connection: 'close' };

  const first = await service();
  const posted = await fetch(first.url, { method: 'POST', headers, body: 'To be or not to be' });
  assert.equal(posted.status, 202);
  const { id } = (await posted.json()) as { id: string };
  const result = await fetch(first.url + id, { headers });
  assert.equal(result.status, 200);
  assert.deepEqual(await result.json(), { words: 6, distinct: 4 });
  assert.deepEqual(await first.stop(), [0, null]);

  const second = await service();
  const again = await fetch(second.url + id, { headers });
  assert.deepEqual(await again.json(), { words: 6, distinct: 4 });
  assert.equal((await fetch(`${second.url}no-id`, { headers })).status, 400);
  const unknown = await fetch(second.url + id.replace(/00$/, '01'), { headers });
  assert.equal(unknown.status, 404);
  assert.equal(((await unknown.json()) as { code: string }).code, 'ERR_MILLRACE_TASK_GONE');
  assert.deepEqual(await second.stop(), [0, null]);
});

test('idempotent-import: a second run books only what is new, and prints all results', async (t) => {
  const { folder, start } = setup(t);
  const orders = join(folder, 'orders.ndjson');
  const run = async (): Promise<string[]> => {
    const child = start('idempotent-import/import.js', orders);
    const exited = once(child, 'exit');
    const lines = (await text(child.stdout!)).trim().split('\n').sort();
    assert.deepEqual(await exited, [0, null]);
    return lines;
  };
  const lines = ['{"number":"A1","cents":[100,50]}', '{"number":"A2","cents":[-1]}'];
  writeFileSync(orders, lines.join('\n'));
  const failed = "task 'orders.book' failed in attempt 1: order A2 has a negative amount";
  assert.deepEqual(await run(), ['A1: 150', `A2: ${failed}`]);

  lines.push('{"number":"A3","cents":[7]}');
  writeFileSync(orders, lines.join('\n'));
  assert.deepEqual(await run(), ['A1: 150 (earlier)', `A2: ${failed} (earlier)`, 'A3: 7']);
});

test('testing: the tests of a small service pass, a day of it in milliseconds', async (t) => {
  const { start } = setup(t);
  const child = start('testing/shop.test.js');
  const exited = once(child, 'exit');
  const output = await text(child.stdout!);
  assert.deepEqual(await exited, [0, null], output);
  assert.match(output, /pass 3/);
});

test('webhooks: what fails is retried, what is busy is asked again when it says so, what is gone is left', async (t) => {
  const { startWith } = setup(t);
  const seen: { readonly path: string; readonly id: unknown }[] = [];
  const answers: Record<string, readonly [number, Record<string, string>?][]> = {
    '/down': [[500], [502], [200]],
    '/busy': [[429, { 'retry-after': '0' }], [503, { 'retry-after': '0' }], [204]],
    '/gone': [[410]],
  };
  const server = createServer((request: IncomingMessage, response) => {
    const path = request.url ?? '';
    const before = seen.filter((one) => one.path === path).length;
    seen.push({ path, id: request.headers['webhook-id'] });
    const [status, headers = {}] = answers[path]?.[before] ?? [200];
    response.writeHead(status, headers).end();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  const at = (path: string): string =>
    `http://127.0.0.1:${(server.address() as AddressInfo).port}${path}`;
  const urls = ['/down', '/busy', '/gone'].map(at);
  const child = startWith(
    { RETRY_MIN: 'short' },
    'webhooks/send.js',
    ...['order.shipped', '{"order":7}', ...urls],
  );
  const exited = once(child, 'exit');
  const lines = (await text(child.stdout!)).trim().split('\n').sort();
  assert.deepEqual(await exited, [0, null]);
  assert.deepEqual(lines, [
    `${at('/busy')}: {"status":204,"attempts":1}`,
    `${at('/down')}: {"status":200,"attempts":3}`,
    `${at('/gone')}: ${at('/gone')} answered 410`,
  ]);
  assert.equal(seen.length, 7);
  assert.equal(new Set(seen.map(({ id }) => id)).size, 3);
});

test('nightly: the entry fires, is there once, and comes at three in the morning in Berlin', async (t) => {
  const { startWith, start } = setup(t);
  const first = startWith({ CRON: '* * * * * *' }, 'nightly/service.js');
  const lines = createInterface({ input: first.stdout! })[Symbol.asyncIterator]();
  const line = async (): Promise<string> => String((await lines.next()).value);
  assert.match(await line(), /^next: /);
  assert.equal(await line(), 'sales: 5 rows');
  assert.equal(await line(), 'sales: 5 rows');
  const ended = once(first, 'exit');
  first.kill('SIGTERM');
  assert.deepEqual(await ended, [0, null]);

  const second = start('nightly/service.js');
  const [next] = (await once(createInterface({ input: second.stdout! }), 'line')) as [string];
  const [fire] = next.replace('next: ', '').split(', ');
  const hour = new Date(fire!).toLocaleString('en-GB', {
    timeZone: 'Europe/Berlin',
    timeStyle: 'short',
  });
  assert.equal(hour, '03:00');
});
