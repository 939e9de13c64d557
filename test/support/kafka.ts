/**
 * A broker that speaks Kafka's protocol, for tests: the mock cluster of librdkafka, started inside kcat.
 *
 * It is a fake on the level of the protocol: one broker, topics that come into being when they are asked for, everything
 * in memory, no authentication, no compaction and no replication; it answers idempotent producers without checking their
 * sequence. What depends on those runs against a real broker, when `KAFKA_BROKERS` names one.
 *
 * kcat comes from PATH or out of Debian's packages. Its mock cluster lives as long as its producer, which waits for input.
 *
 *   client ---- proxy ---- mock cluster
 *
 * librdkafka 2.0's mock says in its metadata that the controller is broker 0, and has a broker 1 only; a client that looks
 * for the controller, as kafkajs does for idempotent producers, finds none. So a proxy stands in front and mends what
 * metadata say: the controller, and the port, which has to be the proxy's own. Everything else passes as it is.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { killAtEnd } from './guardian.js';
import { findKcat } from './kcat.js';

export interface FakeBroker {
  /** `host:port`. */
  readonly address: string;
  /** As a broker that dies: connections break, and what it had is gone. */
  close(): Promise<void>;
}

/** Starts a broker on a free port. @throws NotToBeHad */
export async function startFakeBroker(): Promise<FakeBroker> {
  const { program, libraries } = await findKcat();
  const args = ['-P', '-t', 'unused', '-b', 'replaced', '-X', 'test.mock.num.brokers=1'];
  const child = spawn(program, [...args, '-d', 'mock'], {
    stdio: ['pipe', 'ignore', 'pipe'],
    env: { ...process.env, ...(libraries && { LD_LIBRARY_PATH: libraries }) },
  });
  const callOff = child.pid === undefined ? undefined : killAtEnd(child.pid);
  const exited = once(child, 'exit');
  const address = await addressOf(child);
  const proxy = createServer((client) =>
    relay(client, address, (proxy.address() as AddressInfo).port),
  );
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  return {
    address: `127.0.0.1:${(proxy.address() as AddressInfo).port}`,
    async close() {
      proxy.close();
      child.kill('SIGKILL');
      await exited;
      callOff?.();
    },
  };
}

function addressOf(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let log = '';
    child.once('error', reject);
    child.once('exit', () => reject(new Error(`kcat ended: ${log.slice(-500)}`)));
    child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      // It goes on talking; only the beginning is of interest.
      if (log.length < 10_000) log += text;
      const found = /bootstrap\.servers=(\S+)/.exec(log);
      if (found !== null) resolve(found[1] as string);
    });
  });
}

/** Of the protocol's requests. */
const METADATA = 3;
const BROKER = 1;

/** Passes everything on in both directions, and mends the metadata. */
function relay(client: Socket, address: string, port: number): void {
  const [host = '', brokerPort] = address.split(':');
  const broker = connect(Number(brokerPort), host);
  /** Versions of the metadata requests that are under way, by correlation id. */
  const asked = new Map<number, number>();
  const requests = new Messages((message) => {
    if (message.readInt16BE(4) === METADATA) {
      asked.set(message.readInt32BE(8), message.readInt16BE(6));
    }
    broker.write(message);
  });
  const responses = new Messages((message) => {
    const version = asked.get(message.readInt32BE(4));
    if (version !== undefined) {
      asked.delete(message.readInt32BE(4));
      mend(message, version, port);
    }
    client.write(message);
  });
  client.on('data', (bytes) => requests.add(bytes));
  broker.on('data', (bytes) => responses.add(bytes));
  for (const [one, other] of [
    [client, broker],
    [broker, client],
  ] as const) {
    one.on('error', () => other.destroy());
    one.on('close', () => other.destroy());
  }
}

/** Cuts a stream into the protocol's messages, each with its length in front. */
class Messages {
  readonly #onMessage: (message: Buffer) => void;
  #rest: Buffer = Buffer.alloc(0);

  constructor(onMessage: (message: Buffer) => void) {
    this.#onMessage = onMessage;
  }

  add(bytes: Buffer): void {
    this.#rest = Buffer.concat([this.#rest, bytes]);
    while (this.#rest.length >= 4) {
      const end = 4 + this.#rest.readInt32BE(0);
      if (this.#rest.length < end) return;
      this.#onMessage(this.#rest.subarray(0, end));
      this.#rest = this.#rest.subarray(end);
    }
  }
}

/**
 * Response, from version 1 on: u32 length, i32 correlation, (3: i32 throttle), i32 brokers, of each: i32 id, string host,
 * i32 port, string rack; (2: string cluster,) i32 controller, topics.
 */
function mend(message: Buffer, version: number, port: number): void {
  let at = version >= 3 ? 12 : 8;
  const skipString = (): void => {
    at += 2 + Math.max(0, message.readInt16BE(at));
  };
  const brokers = message.readInt32BE(at);
  at += 4;
  for (let i = 0; i < brokers; i++) {
    at += 4;
    skipString();
    message.writeInt32BE(port, at);
    at += 4;
    if (version >= 1) skipString();
  }
  if (version >= 2) skipString();
  if (version >= 1) message.writeInt32BE(BROKER, at);
}
