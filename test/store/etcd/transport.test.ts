import assert from 'node:assert/strict';
import { constants } from 'node:http2';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { describe, type TestContext, test } from 'node:test';
import fc from 'fast-check';
import { parseEndpoint } from '../../../src/store/etcd/endpoint.js';
import { isNotApplied } from '../../../src/store/etcd/failures.js';
import {
  FramingError,
  MESSAGE_BYTES_MAX,
  MessageSplitter,
} from '../../../src/store/etcd/message-splitter.js';
import { Reader, Writer } from '../../../src/store/etcd/protobuf.js';
import { CallFailure, GrpcStatus } from '../../../src/store/etcd/transport.js';
import { VirtualClock } from '../../../src/testing/virtual-clock.js';
import {
  answer,
  type FakeServer,
  fakeServer,
  type Handler,
  messageOf,
  refuse,
  transportTo,
} from './fake-server.js';

const { NGHTTP2_REFUSED_STREAM } = constants;
const PING = '/test/Ping';
const KV = { role: 'kv', deadlineMs: 5_000 } as const;
const EMPTY = new Writer(8).finish();

async function failure(promise: Promise<unknown>): Promise<CallFailure> {
  const thrown = await promise.then(
    () => assert.fail('it should fail'),
    (reason) => reason,
  );
  assert.ok(thrown instanceof CallFailure, String(thrown));
  return thrown;
}

/** How many of the requests were the test's own. */
function pings({ requests }: FakeServer): number {
  return requests.filter((path) => path === PING).length;
}

/** One server that treats `PING` so, and a transport to it. */
async function setup(t: TestContext, handler: Handler) {
  const server = await fakeServer(t, { [PING]: handler });
  const transport = transportTo(t, [server.endpoint]);
  return { server, transport, ping: () => transport.call(PING, EMPTY, KV) };
}

describe('etcd transport: calls', () => {
  test('an answer comes back without its prefix, and all calls share one connection', async (t) => {
    const { server, ping } = await setup(t, answer(messageOf(300)));
    const bodies = await Promise.all(Array.from({ length: 50 }, ping));
    for (const body of bodies) assert.equal(new Reader(body).tag(body.length), 0x0a);
    assert.equal(server.sessions.length, 1);
  });

  test('roles have connections of their own', async (t) => {
    const { server, transport } = await setup(t, answer(EMPTY));
    for (const role of ['kv', 'lease', 'watch', 'kv'] as const) {
      await transport.call(PING, EMPTY, { role, deadlineMs: 5_000 });
    }
    assert.equal(server.sessions.length, 3);
  });

  test('a refusal carries the status and the words of the server', async (t) => {
    for (const handler of [refuse(11, 'a%20b %E2%82%AC 100%'), answer(EMPTY, 11, 'a%20b')]) {
      const { ping } = await setup(t, handler);
      const { status, message, isFromServer, wasSent } = await failure(ping());
      assert.deepEqual([status, isFromServer, wasSent], [11, true, true]);
      assert.ok(message.startsWith('a'), message);
    }
  });

  test('a lost reply is UNAVAILABLE and was sent, and the next call finds a new connection', async (t) => {
    let isFirst = true;
    const { server, ping } = await setup(t, (stream, headers) => {
      if (!isFirst) return answer(EMPTY)(stream, headers);
      isFirst = false;
      stream.session?.destroy();
    });
    const { status, wasSent, isFromServer } = await failure(ping());
    assert.deepEqual([status, wasSent, isFromServer], [GrpcStatus.UNAVAILABLE, true, false]);
    assert.equal(pings(server), 1);
    await ping();
    assert.equal(server.sessions.length, 2);
  });

  test('a request that the server did not look at is placed again, and comes to one answer', async (t) => {
    let refusals = 2;
    const { server, ping } = await setup(t, (stream, headers) => {
      if (refusals-- > 0) stream.close(NGHTTP2_REFUSED_STREAM);
      else void answer(EMPTY)(stream, headers);
    });
    await ping();
    assert.equal(pings(server), 3);
  });

  test('a request that nobody looks at is placed a few times, then told as not sent', async (t) => {
    const { server, ping } = await setup(t, (stream) => stream.close(NGHTTP2_REFUSED_STREAM));
    const { status, wasSent } = await failure(ping());
    assert.deepEqual([status, wasSent], [GrpcStatus.UNAVAILABLE, false]);
    assert.equal(pings(server), 5);
  });

  test('a request that nobody looks at is placed no more after its deadline, or when it is given up', async (t) => {
    const { server, transport } = await setup(t, (stream) => stream.close(NGHTTP2_REFUSED_STREAM));
    const short = { role: 'kv', deadlineMs: 40 } as const;
    assert.equal((await failure(transport.call(PING, EMPTY, short))).wasSent, false);
    const before = pings(server);
    assert.ok(before < 5, `${before} placements`);
    const giveUp = new AbortController();
    const call = failure(transport.call(PING, EMPTY, { ...KV, signal: giveUp.signal }));
    giveUp.abort();
    await call;
    assert.ok(pings(server) <= before + 1);
  });

  test('GOAWAY: what is open finishes, what is new goes elsewhere', async (t) => {
    const { server, ping } = await setup(t, (stream, headers) => {
      if (server.sessions.length === 1) stream.session?.goaway(0);
      setTimeout(() => void answer(EMPTY)(stream, headers), 50);
    });
    const first = ping();
    while (server.sessions.length === 0 || server.requests.length === 0) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    await first;
    await ping();
    assert.equal(server.sessions.length, 2);
  });

  test('a call ends at its deadline and leaves the connection to the others', async (t) => {
    let isFirst = true;
    const { server, transport, ping } = await setup(t, (stream, headers) => {
      if (!isFirst) return answer(EMPTY)(stream, headers);
      isFirst = false;
    });
    const late = await failure(transport.call(PING, EMPTY, { role: 'kv', deadlineMs: 30 }));
    assert.deepEqual([late.status, late.wasSent], [GrpcStatus.DEADLINE_EXCEEDED, true]);
    await ping();
    assert.equal(server.sessions.length, 1);
  });

  test('a call that is given up is CANCELLED', async (t) => {
    const { transport } = await setup(t, () => {});
    const giveUp = new AbortController();
    const call = transport.call(PING, EMPTY, { ...KV, signal: giveUp.signal });
    setTimeout(() => giveUp.abort(), 20);
    assert.equal((await failure(call)).status, GrpcStatus.CANCELLED);
  });

  test('close ends what is open, and what comes later was not sent', async (t) => {
    const { server, transport, ping } = await setup(t, () => {});
    const open = failure(ping());
    while (server.requests.length === 0) await new Promise((resolve) => setImmediate(resolve));
    await transport.close();
    assert.equal((await open).wasSent, true);
    assert.equal((await failure(ping())).wasSent, false);
    await transport.close();
  });

  test('an open transport without a connection keeps the process alive, until it is closed', (t) => {
    const timers = (): number =>
      process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;
    const before = timers();
    const transport = transportTo(t, [parseEndpoint('127.0.0.1:1', false)]);
    assert.equal(timers(), before + 1);
    void transport.close();
    assert.equal(timers(), before);
  });
});

describe('etcd transport: answers that are none', () => {
  test('10 MiB are an answer, more than 16 MiB an error that says what to do', async (t) => {
    const big = await setup(t, answer(messageOf(10 * 1_024 * 1_024)));
    assert.equal((await big.ping()).length > 10 * 1_024 * 1_024, true);
    const prefix = Buffer.alloc(5);
    prefix.writeUInt32BE(MESSAGE_BYTES_MAX + 1, 1);
    const bigger = await setup(t, answer(prefix));
    const { status, message } = await failure(bigger.ping());
    assert.equal(status, GrpcStatus.RESOURCE_EXHAUSTED);
    assert.match(message, /limit of 16777216; read in smaller pages/);
  });

  const broken: readonly (readonly [what: string, handler: Handler])[] = [
    ['a compressed message', answer(Buffer.from([1, 0, 0, 0, 0]))],
    ['a message that is cut', answer(Buffer.from([0, 0, 0, 0, 9, 1]))],
    ['a prefix that is cut', answer(Buffer.from([0, 0]))],
    ['no message', answer(new Uint8Array(0))],
    ['two messages', answer(Buffer.alloc(10))],
    ['no status', (stream) => stream.respond({ ':status': 200 }, { endStream: true })],
    ['a status that is none', answer(EMPTY, Number.NaN)],
    ['a page of a proxy', (stream) => stream.respond({ ':status': 502 }, { endStream: true })],
    ['a reset', (stream) => stream.close(2)],
    [
      'an end without trailers',
      (stream) => {
        stream.respond({ ':status': 200 });
        stream.end(EMPTY);
      },
    ],
  ];
  for (const [what, handler] of broken) {
    test(`${what} is a failure of this side, and the connection lives on`, async (t) => {
      const { server, ping, transport } = await setup(t, handler);
      const { isFromServer, wasSent } = await failure(ping());
      assert.deepEqual([isFromServer, wasSent], [false, true]);
      await transport.call('/test/Other', EMPTY, KV);
      assert.equal(server.sessions.length, 1);
    });
  }

  test('messages are found whatever the chunks, and hostile bytes are a FramingError', () => {
    const bodies = fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 8 });
    fc.assert(
      fc.property(bodies, fc.array(fc.nat({ max: 20 })), (sent, cuts) => {
        const all = Buffer.concat(
          sent.flatMap((body) => {
            const prefix = Buffer.alloc(5);
            prefix.writeUInt32BE(body.length, 1);
            return [prefix, body];
          }),
        );
        const got: number[][] = [];
        const splitter = new MessageSplitter((body) => got.push([...body]));
        let at = 0;
        for (const cut of [...cuts, all.length]) {
          splitter.push(all.subarray(at, at + cut));
          at = Math.min(all.length, at + cut);
        }
        assert.deepEqual(
          got,
          sent.map((body) => [...body]),
        );
        assert.equal(splitter.isInside, false);
      }),
    );
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 200 }), (bytes) => {
        try {
          new MessageSplitter(() => {}).push(Buffer.from(bytes));
        } catch (error) {
          assert.ok(error instanceof FramingError, String(error));
        }
      }),
    );
  });
});

describe('etcd transport: streams', () => {
  test('carry messages both ways, with require-leader, in order', async (t) => {
    let metadata: unknown;
    const { transport } = await setup(t, (stream, headers) => {
      metadata = headers.hasleader;
      stream.respond({ ':status': 200 });
      stream.on('data', (chunk: Buffer) => stream.write(chunk));
    });
    const got: number[] = [];
    await new Promise<void>((resolve) => {
      const stream = transport.open(PING, {
        role: 'watch',
        onMessage: (body) => {
          got.push(body.length);
          if (got.length === 3) stream.close();
        },
        onEnd: (ended) => {
          assert.equal(ended, undefined);
          resolve();
        },
      });
      for (const size of [1, 200, 3]) stream.send(messageOf(size));
    });
    assert.deepEqual(got, [3, 203, 5]);
    assert.equal(metadata, 'true');
  });

  test('end with the status of the server, once, and nothing comes after', async (t) => {
    const { transport } = await setup(t, refuse(14, 'etcdserver: no leader'));
    const ended = await new Promise<CallFailure | undefined>((resolve) => {
      transport.open(PING, { role: 'lease', onMessage: () => assert.fail(), onEnd: resolve });
    });
    assert.equal(ended?.status, GrpcStatus.UNAVAILABLE);
    assert.equal(ended?.isFromServer, true);
  });

  test('end when they are closed before there was a connection', async (t) => {
    const transport = transportTo(t, [parseEndpoint('127.0.0.1:1', false)]);
    await new Promise<void>((resolve) => {
      const stream = transport.open(PING, {
        role: 'watch',
        onMessage: () => assert.fail(),
        onEnd: () => resolve(),
      });
      stream.close();
      stream.close();
    });
  });
});

describe('etcd transport: members', () => {
  test('a member that refuses is passed over', async (t) => {
    const gone = await fakeServer(t);
    gone.stop();
    const good = await fakeServer(t);
    await transportTo(t, [gone.endpoint, good.endpoint]).call(PING, EMPTY, KV);
    assert.equal(good.requests.length > 0, true);
  });

  test('a member that takes connections and says nothing is left after a second', async (t) => {
    const silent = createServer(() => {});
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    t.after(() => silent.close());
    const address = silent.address() as AddressInfo;
    const good = await fakeServer(t);
    const beganAt = performance.now();
    const hole = parseEndpoint(`127.0.0.1:${address.port}`, false);
    await transportTo(t, [hole, good.endpoint]).call(PING, EMPTY, KV);
    assert.ok(performance.now() - beganAt < 2_000);
  });

  const NO_LEADER = refuse(14, 'etcdserver: no leader');

  test('a member that knows no leader is left, and what it refused goes to another', async (t) => {
    const cutOff = await fakeServer(t, { [PING]: NO_LEADER });
    const good = await fakeServer(t);
    const transport = transportTo(t, [cutOff.endpoint, good.endpoint]);
    await transport.call(PING, EMPTY, KV);
    await transport.call(PING, EMPTY, KV);
    assert.deepEqual([pings(cutOff), pings(good)], [1, 2]);
  });

  test('what waits at a member that knows no leader is cut: its outcome is unknown', async (t) => {
    let isFirst = true;
    const cutOff = await fakeServer(t, {
      [PING]: (stream, headers) => {
        // A request that came before the leader was lost; it is kept for seconds.
        if (isFirst) isFirst = false;
        else void NO_LEADER(stream, headers);
      },
    });
    const good = await fakeServer(t);
    const transport = transportTo(t, [cutOff.endpoint, good.endpoint]);
    const waiting = failure(transport.call(PING, EMPTY, KV));
    await transport.call(PING, EMPTY, KV);
    const { status, wasSent, isFromServer } = await waiting;
    assert.deepEqual([status, wasSent, isFromServer], [GrpcStatus.UNAVAILABLE, true, false]);
  });

  test('while all members elect a leader a call waits, and is told at its deadline', async (t) => {
    let isElecting = true;
    const server = await fakeServer(t, {
      [PING]: (stream, headers) => (isElecting ? NO_LEADER : answer(EMPTY))(stream, headers),
    });
    const transport = transportTo(t, [server.endpoint]);
    const told = await failure(transport.call(PING, EMPTY, { role: 'kv', deadlineMs: 300 }));
    assert.equal(told.message, 'etcdserver: no leader');
    assert.equal(isNotApplied(told), true);
    const waiting = transport.call(PING, EMPTY, KV);
    isElecting = false;
    await waiting;
  });

  test('a member that falls silent under a call is pinged and left within 2 s', async (t) => {
    const clock = new VirtualClock();
    const server = await fakeServer(t, { [PING]: () => {} });
    const good = await fakeServer(t);
    // Between the two a hole opens: what goes in is taken, and nothing comes out.
    const ends: Socket[] = [];
    const hole = createServer((near) => {
      const far = connect(server.endpoint.port, '127.0.0.1');
      ends.push(near, far);
      near.pipe(far).pipe(near);
    });
    await new Promise<void>((resolve) => hole.listen(0, '127.0.0.1', resolve));
    t.after(() => {
      hole.close();
      for (const end of ends) end.destroy();
    });
    const near = parseEndpoint(`127.0.0.1:${(hole.address() as AddressInfo).port}`, false);
    const transport = transportTo(t, [near, good.endpoint], { clock });
    await transport.call('/test/Other', EMPTY, KV);
    const call = failure(transport.call(PING, EMPTY, { ...KV, deadlineMs: 60_000 }));
    while (!server.requests.includes(PING)) await new Promise((resolve) => setImmediate(resolve));
    for (const end of ends) end.unpipe();
    for (let step = 0; step < 5; step++) await clock.advance(500);
    const { status, wasSent, message } = await call;
    assert.deepEqual([status, wasSent], [GrpcStatus.UNAVAILABLE, true]);
    assert.match(message, /no answer to a ping for 1000 ms/);
    await transport.call(PING, EMPTY, KV);
    assert.ok(good.requests.includes(PING));
  });

  test('a call waits for a member that comes back within its deadline', async (t) => {
    const server = await fakeServer(t);
    const { port } = server.endpoint;
    server.stop();
    const transport = transportTo(t, [server.endpoint]);
    const call = transport.call(PING, EMPTY, KV);
    const again = (await import('node:http2')).createServer();
    again.on('stream', (stream, headers) => void answer(EMPTY)(stream, headers));
    t.after(() => again.close());
    setTimeout(() => again.listen(port, '127.0.0.1'), 150);
    await call;
    await transport.close();
  });

  test('without any member a call says so at its deadline, and was not sent', async (t) => {
    const transport = transportTo(t, [parseEndpoint('127.0.0.1:1', false)]);
    const { status, wasSent, message } = await failure(
      transport.call(PING, EMPTY, { role: 'kv', deadlineMs: 200 }),
    );
    assert.deepEqual([status, wasSent], [GrpcStatus.UNAVAILABLE, false]);
    assert.match(message, /no connection after 200 ms \(127\.0\.0\.1:1: .*ECONNREFUSED/);
  });

  test('members that all refuse are not waited for, a silent one and an absent one are', async (t) => {
    const gone = await Promise.all([fakeServer(t), fakeServer(t)]);
    for (const server of gone) server.stop();
    const endpoints = gone.map(({ endpoint }) => endpoint);
    const { wasSent, message } = await failure(transportTo(t, endpoints).reach(60_000, 50));
    assert.equal(wasSent, false);
    for (const { authority } of endpoints) assert.ok(message.includes(authority), message);

    const silent = createServer(() => {});
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    t.after(() => silent.close());
    const { port } = silent.address() as AddressInfo;
    const mixed = transportTo(t, [parseEndpoint(`127.0.0.1:${port}`, false), ...endpoints]);
    const beganAt = performance.now();
    assert.match((await failure(mixed.reach(300, 50))).message, /none has answered yet/);
    assert.ok(performance.now() - beganAt >= 299);
  });
});

describe('etcd transport: deadlines', () => {
  /** Runs what the sockets have to say, without time passing. */
  async function until(isSo: () => boolean): Promise<void> {
    for (let turn = 0; turn < 10_000 && !isSo(); turn++) {
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  test('count the time that connecting takes', async (t) => {
    const clock = new VirtualClock();
    const server = await fakeServer(t, { [PING]: () => {} });
    const held: Socket[] = [];
    const gate = createServer((near) => held.push(near));
    await new Promise<void>((resolve) => gate.listen(0, '127.0.0.1', resolve));
    t.after(() => {
      gate.close();
      for (const end of held) end.destroy();
    });
    const { port } = gate.address() as AddressInfo;
    const transport = transportTo(t, [parseEndpoint(`127.0.0.1:${port}`, false)], { clock });
    const ended: CallFailure[] = [];
    transport.call(PING, EMPTY, { ...KV, deadlineMs: 800 }).catch((reason) => ended.push(reason));
    await until(() => held.length > 0);
    await clock.advance(600);
    const [near] = held;
    const far = connect(server.endpoint.port, '127.0.0.1');
    held.push(far);
    near?.pipe(far).pipe(near);
    await until(() => server.requests.includes(PING));
    assert.equal(ended.length, 0);
    await clock.advance(201);
    await until(() => ended.length > 0);
    assert.equal(ended[0]?.status, GrpcStatus.DEADLINE_EXCEEDED);
  });

  test('count the time that a token takes', async (t) => {
    const clock = new VirtualClock();
    let giveToken = (): void => {};
    const server = await fakeServer(t, {
      '/etcdserverpb.Auth/Authenticate': (stream, headers) => {
        giveToken = () => void answer(EMPTY)(stream, headers);
      },
      [PING]: () => {},
    });
    const auth = { user: 'u', password: 'p' };
    const transport = transportTo(t, [server.endpoint], { clock, auth });
    const ended: CallFailure[] = [];
    transport.call(PING, EMPTY, { ...KV, deadlineMs: 800 }).catch((reason) => ended.push(reason));
    await until(() => server.requests.length > 0);
    await clock.advance(600);
    giveToken();
    await until(() => server.requests.includes(PING));
    assert.equal(ended.length, 0);
    await clock.advance(201);
    await until(() => ended.length > 0);
    assert.equal(ended[0]?.status, GrpcStatus.DEADLINE_EXCEEDED);
  });
});

describe('etcd transport: users', () => {
  test('a token is fetched once for all, and anew when the server no longer knows it', async (t) => {
    let [issued, valid] = [0, 1];
    const server = await fakeServer(t, {
      '/etcdserverpb.Auth/Authenticate': (stream, headers) => {
        const writer = new Writer(32);
        writer.utf8(2, `token-${++issued}`);
        return answer(writer.finish())(stream, headers);
      },
      [PING]: (stream, headers) => {
        const isKnown = headers.token === `token-${valid}`;
        return (isKnown ? answer(EMPTY) : refuse(16, 'etcdserver: invalid auth token'))(
          stream,
          headers,
        );
      },
    });
    const auth = { user: 'u', password: 'p' };
    const transport = transportTo(t, [server.endpoint], { auth });
    await Promise.all([1, 2, 3].map(() => transport.call(PING, EMPTY, KV)));
    assert.equal(issued, 1);
    valid = 2;
    await transport.call(PING, EMPTY, KV);
    assert.equal(issued, 2);
    // A token that is refused although it is new is refused for good.
    valid = 9;
    assert.equal((await failure(transport.call(PING, EMPTY, KV))).status, 16);
    assert.equal(issued, 3);
  });
});
