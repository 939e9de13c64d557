/** The HTTP server by itself: who may ask for what, and what is too much. Real sockets of this machine. */
import assert from 'node:assert/strict';
import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { type TestContext, test } from 'node:test';
import { type AdminOptions, resolveAdmin } from '../../src/admin/admin-options.js';
import { AdminServer, type Route } from '../../src/admin/admin-server.js';
import { watchRoutes } from '../../src/admin/routes.js';

const TOKEN = 'a'.repeat(40);
const OTHER = 'b'.repeat(40);

interface Answer {
  readonly status: number;
  readonly text: string;
  readonly type: string | undefined;
}

async function setup(t: TestContext, options: AdminOptions = {}, routes: readonly Route[] = []) {
  let nowMs = 0;
  let scrapes = 0;
  const health = { live: true, ready: false };
  const watched = { prometheus: () => `scrape ${++scrapes}\n`, health: () => health };
  const server = new AdminServer(
    resolveAdmin({ listen: 0, ...options })!,
    [...watchRoutes(watched, () => nowMs), ...routes],
    () => nowMs,
  );
  await server.start();
  t.after(() => server.stop());
  const { port } = server.address;
  const ask = (
    path: string,
    headers: Record<string, string> = {},
    { method = 'GET', body = '' } = {},
  ): Promise<Answer> =>
    new Promise((resolve, reject) => {
      const asked = httpRequest({ port, host: '127.0.0.1', path, method, headers }, (answer) => {
        let text = '';
        answer.setEncoding('utf8').on('data', (part: string) => {
          text += part;
        });
        answer.on('end', () =>
          resolve({ status: answer.statusCode!, text, type: answer.headers['content-type'] }),
        );
      });
      asked.on('error', reject);
      asked.end(body);
    });
  const pass = (ms: number): void => {
    nowMs += ms;
  };
  return { server, port, ask, health, pass };
}

const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

const echo: Route = {
  method: 'POST',
  path: '/echo',
  access: { token: OTHER },
  bodyBytesMax: 1_024,
  handle: ({ body }) => ({ status: 202, body: String(body.length) }),
};

test('metrics are text of Prometheus, made at most four times a second', async (t) => {
  const { ask, pass } = await setup(t);
  const first = await ask('/metrics');
  assert.deepEqual(first, {
    status: 200,
    text: 'scrape 1\n',
    type: 'text/plain; version=0.0.4; charset=utf-8',
  });
  assert.equal((await ask('/metrics?x=1')).text, 'scrape 1\n');
  pass(250);
  assert.equal((await ask('/metrics')).text, 'scrape 2\n');
});

test('health is public and says yes or no', async (t) => {
  const { ask, health } = await setup(t, { token: TOKEN });
  assert.deepEqual([(await ask('/healthz')).status, (await ask('/readyz')).status], [200, 503]);
  Object.assign(health, { live: false, ready: true });
  assert.deepEqual([(await ask('/healthz')).text, (await ask('/readyz')).text], ['no\n', 'ok\n']);
});

test('with a token every route but health wants it, and so does a path that does not exist', async (t) => {
  const { ask } = await setup(t, { token: TOKEN }, [echo]);
  for (const path of ['/metrics', '/echo', '/', '/nothing', '/metrics/', '/%2e%2e/etc/passwd']) {
    for (const headers of [
      {},
      bearer(`${TOKEN}x`),
      bearer(TOKEN.slice(1)),
      { authorization: `Basic ${TOKEN}` },
    ]) {
      const { status } = await ask(path, headers as Record<string, string>);
      assert.ok(status === 401 || status === 429, `${path} gave ${status}`);
    }
  }
});

test('the right token opens; what is not there is not found', async (t) => {
  const { ask } = await setup(t, { token: TOKEN }, [echo]);
  assert.equal((await ask('/metrics', bearer(TOKEN))).status, 200);
  assert.equal((await ask('/nothing', bearer(TOKEN))).status, 404);
  assert.equal((await ask('/metrics', bearer(TOKEN), { method: 'POST' })).status, 405);
});

test("a route's own token is not the server's, and the other way round", async (t) => {
  const { ask } = await setup(t, { token: TOKEN }, [echo]);
  const post = { method: 'POST', body: 'xyz' };
  assert.equal((await ask('/echo', bearer(TOKEN), post)).status, 401);
  assert.deepEqual((await ask('/echo', bearer(OTHER), post)).text, '3');
  assert.equal((await ask('/metrics', bearer(OTHER))).status, 401);
});

test('whoever guesses is not listened to for the rest of the minute', async (t) => {
  const { ask, pass } = await setup(t, { token: TOKEN });
  for (let i = 0; i < 10; i++) assert.equal((await ask('/metrics', bearer(OTHER))).status, 401);
  assert.equal((await ask('/metrics', bearer(TOKEN))).status, 429);
  pass(60_000);
  assert.equal((await ask('/metrics', bearer(TOKEN))).status, 200);
});

test('without a token only an address of this machine is served', async (t) => {
  const { ask, port } = await setup(t);
  for (const host of ['evil.example', `evil.example:${port}`, '10.0.0.1']) {
    assert.equal((await ask('/metrics', { host })).status, 421, host);
  }
  for (const host of ['localhost', `127.0.0.1:${port}`, '[::1]:1']) {
    assert.equal((await ask('/metrics', { host })).status, 200, host);
  }
});

test('a body that is too long is refused, told or not, and the server goes on', async (t) => {
  const { ask } = await setup(t, {}, [echo]);
  const own = bearer(OTHER);
  const body = 'x'.repeat(1_025);
  assert.equal((await ask('/echo', own, { method: 'POST', body })).status, 413);
  const chunked = { ...own, 'transfer-encoding': 'chunked' };
  assert.equal((await ask('/echo', chunked, { method: 'POST', body })).status, 413);
  assert.equal((await ask('/echo', own, { method: 'POST', body: body.slice(1) })).text, '1024');
});

test('what is not HTTP, and headers without end, are refused and harm nobody', async (t) => {
  const { ask, port } = await setup(t);
  for (const bytes of [
    '\u0000\u0001nonsense\r\n\r\n',
    `GET / HTTP/1.1\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`,
  ]) {
    const answer = await new Promise<string>((resolve) => {
      let text = '';
      const socket = connect(port, '127.0.0.1', () => socket.write(bytes));
      socket.on('data', (part) => {
        text += String(part);
      });
      socket.on('error', () => {});
      socket.on('close', () => resolve(text));
    });
    assert.match(answer, /^HTTP\/1\.1 4(00|31) /);
  }
  assert.equal((await ask('/healthz')).status, 200);
});

test('a handler that throws says nothing about it', async (t) => {
  const broken: Route = {
    ...echo,
    handle: () => {
      throw new Error('canary');
    },
  };
  const { ask } = await setup(t, {}, [broken]);
  const answer = await ask('/echo', bearer(OTHER), { method: 'POST' });
  assert.deepEqual([answer.status, answer.text], [500, 'failed\n']);
});

test('an address that others can reach needs a token; nonsense is refused with its name', () => {
  assert.deepEqual(resolveAdmin(true), {
    host: '127.0.0.1',
    port: 9_464,
    token: undefined,
    tls: undefined,
  });
  assert.equal(resolveAdmin(false), undefined);
  assert.equal(resolveAdmin({ listen: '[::1]:0' })?.host, '::1');
  assert.equal(resolveAdmin({ listen: '0.0.0.0:9464', token: TOKEN })?.host, '0.0.0.0');
  for (const [options, message] of [
    [{ listen: '0.0.0.0:9464' }, /others can reach this one/],
    [{ listen: 'host.example:1' }, /or an admin.token as well/],
    [{ listen: '127.0.0.1' }, /give host:port/],
    [{ listen: 70_000 }, /a port from 0 to 65535/],
    [{ token: 'short' }, /admin.token is 'a token of 5 characters'; give 32 to 1024/],
    [{ tls: { cert: 'x' } }, /give both `cert` and `key`/],
    [{ listn: 1 }, /did you mean admin.listen\?/],
  ] as const) {
    assert.throws(() => resolveAdmin(options as AdminOptions), { message });
  }
  assert.throws(
    () => resolveAdmin({ token: 'secret with spaces '.repeat(3) }),
    (error: Error) => !error.message.includes('secret'),
  );
});

test('an address in use is named, and stopping ends open connections', async (t) => {
  const { server, port } = await setup(t);
  const second = new AdminServer(resolveAdmin({ listen: port })!, [], () => 0);
  await assert.rejects(second.start(), { message: /127\.0\.0\.1:\d+, where nobody can listen/ });
  await second.stop();
  const idle = connect(port, '127.0.0.1');
  idle.on('error', () => {});
  await new Promise((resolve) => idle.once('connect', resolve));
  const closed = new Promise((resolve) => idle.once('close', resolve));
  await server.stop();
  await closed;
});
