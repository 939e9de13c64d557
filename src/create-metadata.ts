/**
 * millrace/metadata: tenant metadata and configuration over any store, without the task engine.
 */
import { getRandomValues } from 'node:crypto';
import { readFile, rename, writeFile } from 'node:fs/promises';
import { publish } from './core/channels.js';
import { isMillraceError, MillraceError } from './core/errors.js';
import { knownOptions } from './core/options.js';
import { seededRandom } from './core/random.js';
import type { Store } from './core/store.js';
import type { StoreFactory } from './store/factory.js';
import type { BusFactory } from './tenancy/bus.js';
import { Config } from './tenancy/config.js';
import { Metadata, type MetadataApi, type MetadataParts } from './tenancy/metadata.js';
import { type OwnCacheOptions, ownCache } from './tenancy/options.js';
import { WatchBus } from './tenancy/watch-bus.js';
import { systemClock } from './timing/system-clock.js';

export type { BusFactory, SyncEvent } from './tenancy/bus.js';
export type { CacheCursor, Found } from './tenancy/cache-cursor.js';
export type { Config, ConfigKey, ConfigOptions } from './tenancy/config.js';
export { type KafkaBusOptions, kafkaBus } from './tenancy/kafka/kafka-bus.js';
export type { EntryName } from './tenancy/keys.js';
export type {
  Consistency,
  DeleteOptions,
  GetOptions,
  ListOptions,
  ListPosition,
  MetadataApi,
  MetadataChange,
  MetadataEntry,
  MetadataPage,
  MetadataStats,
  PutOptions,
} from './tenancy/metadata.js';
export type { CacheOptions, OwnCacheOptions } from './tenancy/options.js';

export interface MetadataOptions {
  readonly cache?: OwnCacheOptions;
  /** How processes learn of one another's writes. @defaultValue the store's watch */
  readonly bus?: BusFactory;
}

export interface MetadataHandle extends MetadataApi, AsyncDisposable {
  /** Typed configuration, for everybody or for one tenant. */
  readonly config: Config;
  /** Ends watches, and closes the store. Idempotent. */
  close(): Promise<void>;
}

/**
 * Opens the store, and follows what others write to it.
 *
 * @param store - what `etcdStore()`, `fileStore()` or `memoryStore()` returned
 * @throws ERR_MILLRACE_INVALID_OPTION
 * @throws ERR_MILLRACE_STORE_UNAVAILABLE, _LOCKED, _NOT_WRITABLE, _FORMAT, _CORRUPT when the store cannot be used
 */
export async function createMetadata(
  store: StoreFactory,
  options: MetadataOptions = {},
): Promise<MetadataHandle> {
  const { cache, bus } = knownOptions<MetadataOptions>(options, '', { cache: true, bus: true });
  const { bytes, snapshot } = ownCache(cache);
  const random = seededRandom(getRandomValues(new Uint32Array(4)));
  const clock = systemClock;
  const opened = await store.open({ clock });
  try {
    const parts = {
      clock,
      random,
      store: opened,
      bus: bus
        ? await bus.open({ clock, random: random.fork('bus') })
        : new WatchBus(clock, random.fork('bus'), opened),
      cacheBytes: bytes,
    };
    const metadata = new OwnedMetadata(parts, snapshot);
    await metadata.warmUp();
    await metadata.start();
    return metadata;
  } catch (error) {
    await opened.close();
    throw error;
  }
}

/** Metadata with a store of its own, and what it knew the last time. */
class OwnedMetadata extends Metadata implements MetadataHandle {
  readonly config: Config = new Config(this);
  readonly #store: Store;
  readonly #file: string | undefined;
  #closed: Promise<void> | undefined;

  constructor(parts: MetadataParts, file: string | undefined) {
    super(parts);
    this.#store = parts.store;
    this.#file = file;
  }

  /** A snapshot that is not there, or cannot be read, costs reads and nothing else. */
  async warmUp(): Promise<void> {
    if (this.#file === undefined) return;
    const snapshot = await readFile(this.#file).catch(() => undefined);
    if (snapshot === undefined) return;
    try {
      this.restore(snapshot);
    } catch (error) {
      if (!isMillraceError(error)) throw error;
      const key = this.#file;
      publish('millrace:store:corrupt', () => ({ key, cause: error }));
    }
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    try {
      await this.stop();
      await this.#save();
    } finally {
      await this.#store.close();
    }
  }

  /** @throws ERR_MILLRACE_STORE_NOT_WRITABLE */
  async #save(): Promise<void> {
    if (this.#file === undefined) return;
    const fresh = `${this.#file}.new`;
    try {
      // Whole or not at all.
      await writeFile(fresh, this.snapshot());
      await rename(fresh, this.#file);
    } catch (cause) {
      throw new MillraceError(
        'ERR_MILLRACE_STORE_NOT_WRITABLE',
        `the snapshot ${this.#file} cannot be written: ${(cause as Error).message}; everything else is closed`,
        { details: { file: this.#file }, cause },
      );
    }
  }
}
