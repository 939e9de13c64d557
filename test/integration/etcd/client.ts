/** The parts of the etcd store that watches and leases are made of, wired to a real server. */
import type { TestContext } from 'node:test';
import { MillraceError } from '../../../src/core/errors.js';
import { seededRandom } from '../../../src/core/random.js';
import type {
  KeyRange,
  Operation,
  Revision,
  WatchBatch,
  WatchOptions,
} from '../../../src/core/store.js';
import { parseEndpoint } from '../../../src/store/etcd/endpoint.js';
import { Http2Transport } from '../../../src/store/etcd/http2-transport.js';
import { KeyValue } from '../../../src/store/etcd/key-value.js';
import { Leases } from '../../../src/store/etcd/leases.js';
import type { AuthOptions } from '../../../src/store/etcd/tokens.js';
import { WatchMultiplexer } from '../../../src/store/etcd/watch-multiplexer.js';
import { systemClock } from '../../../src/timing/system-clock.js';

let namespaces = 0;

export interface ClientOptions {
  readonly auth?: AuthOptions;
  readonly prefix?: string;
  readonly bufferBytesMax?: number;
  readonly canAskProgress?: boolean;
}

/** A client with a namespace of its own. */
export function client(t: TestContext, endpoint: string, options: ClientOptions = {}) {
  const transport = new Http2Transport({
    clock: systemClock,
    endpoints: [parseEndpoint(endpoint, false)],
    tls: undefined,
    auth: options.auth,
    followMembers: false,
    sharesConnections: true,
  });
  const facts = { revision: 0 as Revision, isFull: false };
  const prefix = options.prefix ?? `/t${process.pid}-${namespaces++}/`;
  const random = seededRandom(namespaces);
  const multiplexer = new WatchMultiplexer(transport, systemClock, random, {
    newestRevision: () => facts.revision,
    onRevision: (revision) => {
      if (revision > facts.revision) facts.revision = revision;
    },
    canAskProgress: () => options.canAskProgress ?? false,
    ...(options.bufferBytesMax !== undefined && { bufferBytesMax: options.bufferBytesMax }),
  });
  const leases = new Leases(transport, systemClock, random, 5_000);
  t.after(async () => {
    const over = new MillraceError('ERR_MILLRACE_CLOSED', 'over');
    multiplexer.close(over);
    leases.close(over);
    await transport.close();
  });
  return {
    prefix,
    multiplexer,
    leases,
    kv: new KeyValue(transport, systemClock, prefix, facts),
    watch: (range: KeyRange, watchOptions?: WatchOptions): AsyncIterator<WatchBatch> =>
      multiplexer.watch(range, prefix, watchOptions)[Symbol.asyncIterator](),
  };
}

export type Client = ReturnType<typeof client>;

export const ALL: KeyRange = { from: '', to: '\x7f' };

export function put(key: string, value: string | Uint8Array = '', leaseId?: string): Operation {
  const bytes = typeof value === 'string' ? Buffer.from(value) : value;
  const lease = leaseId === undefined ? {} : { leaseId: leaseId as never };
  return { type: 'put', key, value: bytes, ...lease };
}

/** @returns the revision */
export async function write(client: Client, ...success: Operation[]): Promise<Revision> {
  const outcome = await client.kv.txn({ compares: [], success });
  if (outcome.kind !== 'done') throw new Error(`not written: ${outcome.kind}`);
  return outcome.revision;
}

/** Puts `count` keys, one revision each, a hundred in flight. @returns the first revision */
export async function writeMany(client: Client, count: number): Promise<Revision> {
  const first = await write(client, put('k/0'));
  for (let index = 1; index < count; index += 100) {
    const until = Math.min(count, index + 100);
    await Promise.all(
      Array.from({ length: until - index }, (_, offset) =>
        write(client, put(`k/${index + offset}`)),
      ),
    );
  }
  return first;
}

/** Reads batches until so many events have come. */
export async function readEvents(
  watch: AsyncIterator<WatchBatch>,
  count: number,
): Promise<WatchBatch[]> {
  const batches: WatchBatch[] = [];
  for (let events = 0; events < count; ) {
    const { done, value } = await watch.next();
    if (done) throw new Error(`the watch ended after ${events} events`);
    batches.push(value);
    events += (value as WatchBatch).events.length;
  }
  return batches;
}
