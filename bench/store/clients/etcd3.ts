/**
 * npm's etcd3 as its README shows it, with its defaults. Where it has no method (many compares of versions), its own
 * generated client underneath.
 *
 * Its lock is a try-lock without a queue: a contender tries again after a few milliseconds, at random.
 */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Peer } from '../../lib/bench.js';
import { importPeer } from '../../lib/peers.js';
import type { ClientOptions, StoreClient } from '../client.js';

export const ETCD3: Peer = { name: 'etcd3', version: '1.1.2' };

const RETRY_MS_MAX = 10;
const LOCK_TTL_SECONDS = 10;

interface KeyValue {
  readonly version: string;
}

/** The part of the package that is used here. */
interface Client {
  readonly kv: {
    txn(request: unknown): Promise<{ succeeded: boolean; header: { revision: string } }>;
    range(request: unknown): Promise<{ kvs: readonly KeyValue[] }>;
  };
  put(key: string): { value(value: Buffer): PromiseLike<unknown> };
  lock(name: string): {
    ttl(seconds: number): { do(work: () => Promise<void>): Promise<void> };
  };
  watch(): {
    prefix(prefix: string): {
      startRevision(revision: string): { create(): Promise<Watcher> };
    };
  };
  lease(
    seconds: number,
    options: unknown,
  ): {
    grant(): Promise<string>;
    keepaliveOnce(): Promise<unknown>;
  };
  close(): void;
}

interface Watcher {
  on(event: 'data', listener: (response: { events: readonly unknown[] }) => void): void;
  on(event: 'error', listener: (error: Error) => void): void;
  cancel(): Promise<void>;
}

interface Package {
  readonly Etcd3: new (options: unknown) => Client;
  readonly EtcdLockFailedError: new () => Error;
}

export async function openEtcd3({ endpoint, tls }: ClientOptions): Promise<StoreClient> {
  const { Etcd3, EtcdLockFailedError } = await importPeer<Package>(ETCD3);
  const client = new Etcd3({
    hosts: endpoint,
    ...(tls && {
      credentials: {
        rootCertificate: readFileSync(tls.ca),
        certChain: readFileSync(tls.cert),
        privateKey: readFileSync(tls.key),
      },
    }),
  });
  const putsOf = (keys: readonly string[], value: Uint8Array) =>
    keys.map((key) => ({ request_put: { key: Buffer.from(key), value: buffer(value) } }));
  return {
    async put(key, value) {
      await client.put(key).value(buffer(value));
    },
    async version(key) {
      const { kvs } = await client.kv.range({ key: Buffer.from(key) });
      return Number(kvs[0]?.version ?? 0);
    },
    async swap(keys, version, value) {
      const { succeeded } = await client.kv.txn({
        compare: keys.map((key) => ({
          key: Buffer.from(key),
          target: 'Version',
          result: 'Equal',
          version,
        })),
        success: putsOf(keys, value),
        failure: [],
      });
      return succeeded;
    },
    async putAll(keys, value) {
      const { header } = await client.kv.txn({
        compare: [],
        success: putsOf(keys, value),
        failure: [],
      });
      return Number(header.revision);
    },
    async withLock(name, work) {
      for (;;) {
        try {
          return await client.lock(name).ttl(LOCK_TTL_SECONDS).do(work);
        } catch (error) {
          if (!(error instanceof EtcdLockFailedError)) throw error;
          await sleep(Math.random() * RETRY_MS_MAX);
        }
      }
    },
    async replay(prefix, fromRevision, count) {
      const watcher = await client.watch().prefix(prefix).startRevision(`${fromRevision}`).create();
      let seen = 0;
      await new Promise<void>((resolve, reject) => {
        watcher.on('error', reject);
        watcher.on('data', ({ events }) => {
          seen += events.length;
          if (seen >= count) resolve();
        });
      });
      await watcher.cancel();
      return seen;
    },
    async grantLease(ttlMs) {
      const lease = client.lease(ttlMs / 1000, { autoKeepAlive: false });
      await lease.grant();
      return async () => {
        await lease.keepaliveOnce();
      };
    },
    async close() {
      client.close();
    },
  };
}

/** Not a copy: protobuf.js takes Buffers only. */
function buffer(value: Uint8Array): Buffer {
  return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
}
