import assert from 'node:assert/strict';
import { on, once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { describe, type TestContext, test } from 'node:test';
import { TcpProxy } from './tcp-proxy.js';

/** An echo server behind a proxy, and what it received. */
async function setup(t: TestContext) {
  const received: Buffer[] = [];
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      received.push(chunk);
      socket.write(chunk);
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const proxy = await TcpProxy.listen({ port: (server.address() as AddressInfo).port });
  t.after(async () => {
    await proxy.close();
    server.close();
  });
  const client = (): Socket => {
    const socket = connect(proxy.port, '127.0.0.1');
    socket.on('error', () => {});
    t.after(() => socket.destroy());
    return socket;
  };
  return { proxy, client, received: () => Buffer.concat(received).toString() };
}

async function read(socket: Socket, bytes: number): Promise<string> {
  let text = '';
  for await (const [chunk] of on(socket, 'data')) {
    text += chunk;
    if (text.length >= bytes) break;
  }
  return text;
}

describe('TcpProxy', () => {
  test('passes bytes both ways, and counts connections', async (t) => {
    const { proxy, client } = await setup(t);
    const first = client();
    first.write('hello');
    assert.equal(await read(first, 5), 'hello');
    const second = client();
    second.write('world');
    assert.equal(await read(second, 5), 'world');
    assert.deepEqual([proxy.acceptedCount, proxy.connections.size], [2, 2]);
    first.destroy();
    await once(proxy, 'closed');
    assert.deepEqual([proxy.acceptedCount, proxy.connections.size], [2, 1]);
  });

  test('passes the end of a stream on, and what comes back after it', async (t) => {
    const { client } = await setup(t);
    const socket = client();
    socket.end('last words');
    const ended = once(socket, 'end');
    assert.equal(await read(socket, 10), 'last words');
    await ended;
  });

  test('cut resets what is connected and serves who comes next', async (t) => {
    const { proxy, client } = await setup(t);
    const socket = client();
    await once(proxy, 'connection');
    const failed = once(socket, 'error');
    proxy.cut();
    assert.equal((await failed)[0].code, 'ECONNRESET');
    const next = client();
    next.write('again');
    assert.equal(await read(next, 5), 'again');
  });

  test('cuts once so many bytes have come down, and those do arrive', async (t) => {
    const { proxy, client } = await setup(t);
    const socket = client();
    proxy.cutAfterDown(10);
    socket.write('12345');
    assert.equal(await read(socket, 5), '12345');
    const closed = once(proxy, 'closed');
    socket.write('67890');
    await closed;
    const next = client();
    next.write('uncut after that');
    assert.equal(await read(next, 16), 'uncut after that');
  });

  test('drops answers: the server has got the request, the client gets nothing', async (t) => {
    const { proxy, client, received } = await setup(t);
    const socket = client();
    socket.write('before');
    assert.equal(await read(socket, 6), 'before');
    proxy.dropDown();
    const answers: string[] = [];
    socket.on('data', (chunk) => answers.push(`${chunk}`));
    socket.write('lost');
    const [, bytes] = await once(proxy, 'swallowed');
    assert.deepEqual([bytes, received(), answers], [4, 'beforelost', []]);
    const failed = once(socket, 'error');
    proxy.stopDropping();
    await failed;
    assert.deepEqual(answers, []);
  });

  test('holds bytes both ways, and lets them go in order', async (t) => {
    const { proxy, client, received } = await setup(t);
    const held = client();
    const connected = once(proxy, 'connection');
    held.write('a');
    await connected;
    assert.equal(await read(held, 1), 'a');
    proxy.hold();
    held.write('b');
    const late = client();
    late.write('c');
    await once(proxy, 'connection');
    // A connection that is not held passes everything in a few turns of the loop.
    const probe = await setup(t);
    const other = probe.client();
    other.write('x');
    await read(other, 1);
    assert.equal(received(), 'a');
    const answers = Promise.all([read(held, 1), read(late, 1)]);
    proxy.release();
    assert.deepEqual(await answers, ['b', 'c']);
  });

  test('holds one connection and not the other', async (t) => {
    const { proxy, client } = await setup(t);
    proxy.once('connection', (connection) => connection.hold());
    const held = client();
    held.write('held');
    const [connection] = await once(proxy, 'connection');
    const free = client();
    free.write('free');
    assert.equal(await read(free, 4), 'free');
    assert.equal(connection.clientPort, held.localPort);
    const answer = read(held, 4);
    connection.release();
    assert.equal(await answer, 'held');
  });

  test('refuses new connections, and leaves old ones alone', async (t) => {
    const { proxy, client } = await setup(t);
    const old = client();
    await once(proxy, 'connection');
    proxy.refuse();
    const refused = client();
    await Promise.all([once(refused, 'error'), once(proxy, 'refused')]);
    assert.deepEqual([proxy.refusedCount, proxy.acceptedCount], [1, 1]);
    old.write('still here');
    assert.equal(await read(old, 10), 'still here');
    proxy.accept();
    const welcome = client();
    welcome.write('hello');
    assert.equal(await read(welcome, 5), 'hello');
  });

  test('delays every chunk, both ways', async (t) => {
    const { proxy, client } = await setup(t);
    proxy.delayMs = 30;
    const socket = client();
    const sentAt = performance.now();
    socket.write('slow');
    assert.equal(await read(socket, 4), 'slow');
    // Timers may fire up to a millisecond early.
    assert.ok(performance.now() - sentAt >= 58);
  });

  test('a client is reset when nobody listens behind the proxy', async (t) => {
    const proxy = await TcpProxy.listen({ port: 1 });
    t.after(() => proxy.close());
    const socket = connect(proxy.port, '127.0.0.1');
    const [error] = await once(socket, 'error');
    assert.equal(error.code, 'ECONNRESET');
  });
});
