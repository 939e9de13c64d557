/**
 * All watches of one client of etcd over three streams, one for each class.
 *
 *   subscriptions            streams                    one connection for watches
 *   n/ o/ b/  ----------->  control  ----.
 *   i/ c/ r/ ...  ------->  data     -----+----------->  etcd
 *   tenant metadata  ---->  cache    ----'
 *
 * A subscription has a watch of its own on the server (350 bytes there), so every reader keeps its own pace, and a
 * reader that starts late is served from etcd's history rather than from a copy here. What a subscription needs next
 * is in `watch-subscription.ts`, how a stream survives cuts in `watch-stream.ts`.
 *
 * "From now on" begins after the newest revision this client has heard of. That may be a little before the call, and
 * never after it: what others wrote just before may be told, what anybody writes after the call is never missed.
 */
import { publish } from '../../core/channels.js';
import type { Clock } from '../../core/clock.js';
import { MillraceError } from '../../core/errors.js';
import type { Random } from '../../core/random.js';
import type { KeyRange, Revision, WatchBatch, WatchClass, WatchOptions } from '../../core/store.js';
import type { Transport } from './transport.js';
import { WatchStream } from './watch-stream.js';
import { type Deliverer, WatchSubscription } from './watch-subscription.js';

const BUFFER_BYTES_MAX = 8 * 1024 * 1024;
const PROGRESS_EVERY_MS = 10_000;

export interface WatchMultiplexerOptions {
  /** The newest revision this client has heard of, from any answer; 0 when none. */
  readonly newestRevision: () => number;
  /** Called with the revision of every answer. */
  readonly onRevision: (revision: Revision) => void;
  /** Whether the server can be asked how far a stream is: from 3.4.25 and 3.5.8 on. */
  readonly canAskProgress: () => boolean;
  /** What a slow reader may leave in memory before its watch is detached. @defaultValue 8 MiB */
  readonly bufferBytesMax?: number;
  /** How often servers that can be asked are. @defaultValue 10 s */
  readonly progressEveryMs?: number;
}

export interface WatchCounts {
  readonly watches: number;
  /** Of them, those that are detached because their readers are slow. */
  readonly lagging: number;
}

export class WatchMultiplexer {
  readonly #transport: Transport;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #options: WatchMultiplexerOptions;
  readonly #streams = new Map<WatchClass, WatchStream>();
  readonly #subscriptions = new Set<WatchSubscription>();
  #clusterId: string | undefined;
  #closed: MillraceError | undefined;

  constructor(
    transport: Transport,
    clock: Clock,
    random: Random,
    options: WatchMultiplexerOptions,
  ) {
    this.#transport = transport;
    this.#clock = clock;
    this.#random = random;
    this.#options = options;
  }

  /**
   * Watches a range of keys that all start with `prefix`, which is taken off what is told. Arguments have been
   * checked. The watch begins with its iteration; "from now on" is decided here.
   */
  watch(range: KeyRange, prefix: string, options: WatchOptions = {}): AsyncIterable<WatchBatch> {
    const newest = this.#options.newestRevision();
    const startRevision = options.startRevision ?? (newest === 0 ? 0 : newest + 1);
    const parts = {
      range: { from: prefix + range.from, to: prefix + range.to },
      prefixLength: prefix.length,
      startRevision,
      isStartOpen: options.startRevision === undefined,
      bufferBytesMax: this.#options.bufferBytesMax ?? BUFFER_BYTES_MAX,
    };
    return {
      [Symbol.asyncIterator]: () => this.#subscribe(parts, options.class ?? 'data', options.signal),
    };
  }

  /** See `Store.neededRevision`. What is buffered here is not needed from the server any more. */
  neededRevision(): Revision | undefined {
    let lowest: number | undefined;
    for (const { nextRevision } of this.#subscriptions) {
      if (nextRevision > 0 && (lowest === undefined || nextRevision < lowest))
        lowest = nextRevision;
    }
    return lowest as Revision | undefined;
  }

  counts(): WatchCounts {
    let lagging = 0;
    for (const { isLagging } of this.#subscriptions) if (isLagging) lagging++;
    return { watches: this.#subscriptions.size, lagging };
  }

  /** Ends every watch with the error, and the streams. */
  close(error: MillraceError): void {
    if (this.#closed) return;
    this.#closed = error;
    for (const subscription of [...this.#subscriptions]) subscription.end(error);
    for (const stream of this.#streams.values()) stream.close();
  }

  #subscribe(
    parts: ConstructorParameters<typeof WatchSubscription>[1],
    watchClass: WatchClass,
    signal: AbortSignal | undefined,
  ): WatchSubscription {
    if (this.#closed) throw this.#closed;
    const stream = this.#streamOf(watchClass);
    const onAbort = (): void => subscription.end();
    const deliverer: Deliverer = {
      attach: () => stream.attach(subscription),
      detach: () => {
        stream.detach(subscription);
        publish('millrace:watch:lagging', () => ({
          class: watchClass,
          neededRevision: subscription.nextRevision as Revision,
        }));
      },
      onEnd: () => {
        this.#subscriptions.delete(subscription);
        stream.detach(subscription);
        signal?.removeEventListener('abort', onAbort);
      },
    };
    const subscription = new WatchSubscription(deliverer, parts);
    if (signal?.aborted) {
      subscription.end();
      return subscription;
    }
    signal?.addEventListener('abort', onAbort, { once: true });
    this.#subscriptions.add(subscription);
    stream.attach(subscription);
    return subscription;
  }

  #streamOf(watchClass: WatchClass): WatchStream {
    let stream = this.#streams.get(watchClass);
    if (stream === undefined) {
      const { canAskProgress, progressEveryMs = PROGRESS_EVERY_MS, onRevision } = this.#options;
      stream = new WatchStream(this.#transport, this.#clock, this.#random, {
        class: watchClass,
        progressEveryMs: () => (canAskProgress() ? progressEveryMs : undefined),
        onHeader: (clusterId, revision) => {
          const stranger = this.#checkCluster(clusterId);
          if (!stranger) onRevision(revision);
          return stranger;
        },
      });
      this.#streams.set(watchClass, stream);
    }
    return stream;
  }

  /** Revisions of two clusters have nothing to do with each other: nothing that was watched can go on. */
  #checkCluster(clusterId: string | undefined): boolean {
    if (clusterId === undefined || clusterId === this.#clusterId) return false;
    if (this.#clusterId === undefined) {
      this.#clusterId = clusterId;
      return false;
    }
    const before = this.#clusterId;
    this.#clusterId = clusterId;
    const failure = new MillraceError(
      'ERR_MILLRACE_STORE_UNAVAILABLE',
      `the endpoints lead to cluster ${clusterId}, the watch began on cluster ${before}; read everything again`,
      { details: { clusterId, before } },
    );
    for (const subscription of [...this.#subscriptions]) subscription.fail(failure);
    return true;
  }
}
