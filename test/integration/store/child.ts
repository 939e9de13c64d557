/**
 * A process that uses a store directory and says what it sees: `node child.js <role> <directory>`.
 */
import { readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { createInterface } from 'node:readline';
import type { Operation, Store } from '../../../src/core/store.js';
import { fileStore } from '../../../src/store/index.js';
import { VirtualClock } from '../../../src/testing/virtual-clock.js';

const [role, directory] = process.argv.slice(2) as [string, string];

/** Synchronous, so that what has been said has been said before a signal comes. */
function say(message: Readonly<Record<string, unknown>>): void {
  writeSync(1, `${JSON.stringify(message)}\n`);
}

function open(): Promise<Store> {
  return fileStore(directory).open({ clock: new VirtualClock() });
}

function put(key: string, value: string): Operation {
  return { type: 'put', key, value: Buffer.from(value) };
}

async function attempt(store: Store, ...success: Operation[]): Promise<void> {
  const startMs = performance.now();
  try {
    const outcome = await store.txn({ compares: [], success });
    const tookMs = performance.now() - startMs;
    const code = outcome.kind === 'unknown' ? outcome.cause.code : undefined;
    say({ type: outcome.kind, tookMs, code });
  } catch (error) {
    say({ type: 'thrown', code: (error as { code?: unknown }).code });
  }
}

const roles: Record<string, () => Promise<void>> = {
  /** Says whether it got the directory, and keeps it. */
  async hold() {
    try {
      const store = await open();
      say({ type: 'owner', pid: process.pid });
      process.stdin.resume();
      process.stdin.once('close', () => void store.close().then(() => process.exit(0)));
    } catch (error) {
      const { code, details } = error as { code: unknown; details: unknown };
      say({ type: 'refused', code, details });
    }
  },

  /** Waits for a line, then does as `hold`. */
  async race() {
    say({ type: 'ready' });
    for await (const _ of createInterface({ input: process.stdin })) break;
    await roles.hold!();
  },

  /** Says when LMDB's binary is there. */
  async loaded() {
    const isLoaded = (): boolean => readFileSync('/proc/self/maps', 'utf8').includes('lmdb');
    const factory = fileStore(`${directory}/store`);
    const described = isLoaded();
    const store = await factory.open({ clock: new VirtualClock() });
    say({ type: 'loaded', described, opened: isLoaded() });
    await store.close();
  },

  /** Writes as fast as it can, 16 at a time, and says what was acknowledged. */
  async write() {
    const store = await open();
    const { leaseId } = await store.grantLease(60_000);
    await store.txn({
      compares: [],
      success: [{ type: 'put', key: 'session', value: new Uint8Array(1), leaseId }],
    });
    let count = 0;
    const writer = async (): Promise<void> => {
      for (;;) {
        const number = count++;
        const key = `k/${number % 500}`;
        const outcome = await store.txn({
          compares: [],
          success: [
            put(key, `${number}`),
            put(`twin/${key}`, `${number}`),
            put('last', `${number}`),
          ],
        });
        if (outcome.kind !== 'done') throw new Error(outcome.kind);
        say({ type: 'done', key, number, revision: outcome.revision });
      }
    };
    await Promise.all(Array.from({ length: 16 }, writer));
  },

  /** Writes once on a slow disk and says how long it took, and what a reader saw meanwhile. */
  async slow() {
    const store = await open();
    say({ type: 'open' });
    const watcher = store.watch({ from: '', to: '\x7f' })[Symbol.asyncIterator]();
    let isTold = false;
    let isRead = false;
    void watcher.next().then(() => {
      isTold = true;
    });
    let isAnswered = false;
    const answered = attempt(store, put('a', 'new')).then(() => {
      isAnswered = true;
    });
    while (!isAnswered) {
      if (isTold) say({ type: 'told too early' });
      if ((await store.get('a')) !== undefined && !isRead && !isAnswered) {
        isRead = true;
        say({ type: 'read too early' });
      }
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await answered;
    await store.close();
    say({ type: 'closed' });
  },

  /** Writes, lets the disk fail, and says what becomes of the next writes. */
  async fail() {
    const store = await open();
    await attempt(store, put('a', 'before'));
    writeFileSync(process.env.FAULTY_DISK_FAIL!, '');
    await attempt(store, put('a', 'after'), put('b', 'after'));
    await attempt(store, put('c', 'later'));
    const entry = await store.get('a');
    say({ type: 'read', value: entry && Buffer.from(entry.value).toString() });
    await store.close();
    say({ type: 'closed' });
  },

  /** Writes, lets LMDB's meta page fail, and says what becomes of the next writes. */
  async panic() {
    const store = await open();
    await attempt(store, put('a', 'before'));
    writeFileSync(process.env.FAULTY_DISK_META!, '');
    await attempt(store, put('a', 'after'), put('b', 'after'));
    await attempt(store, put('c', 'later'));
    await store.close();
    say({ type: 'closed' });
  },

  /** Writes, lets the disk be full, makes room, and says what became of each write. */
  async full() {
    const store = await open();
    await attempt(store, put('a', 'before'));
    const file = process.env.FAULTY_DISK_FULL!;
    writeFileSync(file, '');
    await Promise.all([
      attempt(store, put('a', 'x'.repeat(100_000))),
      attempt(store, put('b', 'during')),
    ]);
    rmSync(file);
    await attempt(store, put('c', 'after'));
    const { entries, revision } = await store.range({ from: '', to: '\x7f' });
    say({ type: 'read', keys: entries.map(({ key }) => key), revision });
    await store.close();
    say({ type: 'closed' });
  },
};

await roles[role]!();
