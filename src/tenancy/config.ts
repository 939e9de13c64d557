/**
 * Dynamic configuration: typed values that change while everything runs, for everybody or for one tenant.
 *
 *   ns::config:{name}            everybody's value         tenant's, else everybody's, else the key's default
 *   ns:{tenant}:config:{name}    a tenant's own
 *
 * A value is checked before it is written, and again by everybody who reads it: another version of the program may have
 * written it, or a hand. What does not satisfy the schema is told (`millrace:config:invalid`) and not used: the last good
 * value stays, and without one the next in line.
 *
 * Values that were asked for are followed from then on. Of those that nobody watches the 10 000 asked for last are kept, so
 * that a service may ask for each of very many tenants; the others are read again, and have forgotten their last good value.
 *
 *   store:  1 ----- "x" (invalid) ----- 3 -----
 *   get():  1 ------- 1 --------------- 3 -----
 */
import type { StandardSchemaV1 } from '@standard-schema/spec';
import { publish } from '../core/channels.js';
import { MillraceError } from '../core/errors.js';
import { invalidOption, knownOptions } from '../core/options.js';
import type { Key, Revision } from '../core/store.js';
import type { Reading } from './cache-keeper.js';
import { checkTenant, EVERYBODY, entryKey } from './keys.js';
import type { Metadata } from './metadata.js';
import { decodeValue, encodeValue } from './values.js';

const TYPE = 'config';
/** Values that nobody watches. */
const IDLE_MAX = 10_000;

/** Names a value, and says what it may be. */
export interface ConfigKey<Value> {
  readonly name: string;
  /** Any Standard Schema (zod, valibot, arktype ...). @defaultValue everything is valid */
  readonly schema?: StandardSchemaV1<unknown, Value>;
  /** While nothing valid is stored. @defaultValue undefined */
  readonly default?: Value;
}

export interface ConfigOptions {
  /** Whose value; a tenant without one has everybody's. @defaultValue everybody's */
  readonly tenant?: string;
}

const KEY_OPTIONS: Readonly<Record<keyof ConfigKey<unknown>, true>> = {
  name: true,
  schema: true,
  default: true,
};

export class Config {
  readonly #metadata: Metadata;
  /** The longest not asked for first. */
  readonly #values = new Map<Key, FollowedValue>();
  readonly #idleMax: number;
  readonly #specs = new Map<string, ConfigKey<unknown>>();

  /** @param idleMax - how many values are kept that nobody watches */
  constructor(metadata: Metadata, idleMax: number = IDLE_MAX) {
    this.#metadata = metadata;
    this.#idleMax = idleMax;
  }

  /**
   * Says what a name's values may be, for whoever uses the name alone. A key that is used as an object says it by itself.
   *
   * @returns the key
   * @throws ERR_MILLRACE_INVALID_OPTION; a name has one definition
   */
  define<Value>(key: ConfigKey<Value>): ConfigKey<Value> {
    knownOptions<ConfigKey<Value>>(key, 'config key: ', KEY_OPTIONS);
    const { name, schema } = key;
    entryKey(EVERYBODY, TYPE, name);
    if (schema !== undefined && typeof schema?.['~standard']?.validate !== 'function') {
      throw invalidOption(
        `config '${name}': schema`,
        schema,
        'a Standard Schema (zod, valibot ...)',
      );
    }
    const known = this.#specs.get(name);
    if (known !== undefined && (known.schema !== schema || known.default !== key.default)) {
      throw invalidOption('config key', name, 'one definition for a name; export it and import it');
    }
    if (known === undefined) this.#specs.set(name, key as ConfigKey<unknown>);
    return key;
  }

  /**
   * The value that applies. After the first call for a name it comes out of memory, and the store's changes come in by
   * themselves.
   *
   * @param key - a key, or the name of one that has been defined; an undefined name has no schema and no default
   * @throws ERR_MILLRACE_STORE_UNAVAILABLE when it has never been read, and the store does not answer
   * @throws ERR_MILLRACE_INVALID_OPTION, ERR_MILLRACE_CLOSED
   */
  async get<Value = unknown>(
    key: ConfigKey<Value> | string,
    options: ConfigOptions = {},
  ): Promise<Value | undefined> {
    const { spec, tenant } = this.#arguments(key, options);
    const levels = this.#levels(spec, tenant);
    await Promise.all(levels.map((level) => level.ready()));
    return applying(levels, spec) as Value | undefined;
  }

  /**
   * Tells the value that applies, and every other one that comes to apply, until the returned function is called. This is
   * how a knob follows its configuration.
   *
   * @throws ERR_MILLRACE_INVALID_OPTION, ERR_MILLRACE_CLOSED
   */
  watch<Value = unknown>(
    key: ConfigKey<Value> | string,
    listener: (value: Value | undefined) => void,
    options: ConfigOptions = {},
  ): () => void {
    if (typeof listener !== 'function') throw invalidOption('listener', listener, 'a function');
    const { spec, tenant } = this.#arguments(key, options);
    const levels = this.#levels(spec, tenant);
    let told: { readonly text: string } | undefined;
    const look = (): void => {
      if (levels.some((level) => !level.isKnown)) return;
      const value = applying(levels, spec);
      const text = JSON.stringify(value) ?? '';
      if (told?.text === text) return;
      told = { text };
      listener(value as Value | undefined);
    };
    const stops = levels.map((level) => level.onChange(look));
    return this.#metadata.ownWatcher(`config ${spec.name}`, () => {
      for (const stop of stops) stop();
    });
  }

  /**
   * Writes a value: every node has it within milliseconds.
   *
   * @returns the revision of the write
   * @throws ERR_MILLRACE_INVALID_INPUT when it does not satisfy the key's schema; nothing was written
   * @throws what `metadata.put` throws
   */
  async set<Value>(
    key: ConfigKey<Value> | string,
    value: Value,
    options: ConfigOptions = {},
  ): Promise<Revision> {
    const { spec, tenant } = this.#arguments(key, options);
    const checked = await validated(spec, value);
    if ('cause' in checked) throw checked.cause;
    return this.#put(spec, tenant, encodeValue(value, `config '${spec.name}'`));
  }

  /** Removes a value: a tenant has everybody's again, everybody the default. @throws what `metadata.delete` throws */
  async unset<Value>(
    key: ConfigKey<Value> | string,
    options: ConfigOptions = {},
  ): Promise<Revision> {
    const { spec, tenant } = this.#arguments(key, options);
    return this.#put(spec, tenant, undefined);
  }

  #put(spec: ConfigKey<unknown>, tenant: string, value: Uint8Array | undefined): Promise<Revision> {
    const key = entryKey(tenant, TYPE, spec.name);
    return this.#metadata.writeKeys(tenant, [{ key, value, ifRevision: undefined }]);
  }

  #arguments<Value>(
    key: ConfigKey<Value> | string,
    options: ConfigOptions,
  ): { readonly spec: ConfigKey<unknown>; readonly tenant: string } {
    const { tenant } = knownOptions(options, '', { tenant: true });
    if (typeof key === 'object' && key !== null) this.define(key);
    const name = typeof key === 'object' && key !== null ? key.name : key;
    entryKey(EVERYBODY, TYPE, name);
    return {
      spec: this.#specs.get(name) ?? { name },
      tenant: tenant === undefined ? EVERYBODY : checkTenant(tenant),
    };
  }

  /** The values that may apply, the first first. */
  #levels(spec: ConfigKey<unknown>, tenant: string): readonly FollowedValue[] {
    const tenants = tenant === EVERYBODY ? [EVERYBODY] : [tenant, EVERYBODY];
    const levels = tenants.map((owner) => {
      const key = entryKey(owner, TYPE, spec.name);
      const value =
        this.#values.get(key) ??
        new FollowedValue(this.#metadata, { spec, tenant: owner || undefined, key });
      // Asked for last.
      this.#values.delete(key);
      this.#values.set(key, value);
      return value;
    });
    if (this.#values.size > this.#idleMax) this.#forgetIdle(levels);
    return levels;
  }

  /** Lets one value go for each that has come. Watched ones are passed over, so the bound holds for the others. */
  #forgetIdle(inUse: readonly FollowedValue[]): void {
    let looks = 4;
    for (const [key, value] of this.#values) {
      if (this.#values.size <= this.#idleMax || looks-- === 0) return;
      this.#values.delete(key);
      if (value.isWatched || inUse.includes(value)) this.#values.set(key, value);
      else value.stop();
    }
  }
}

/** One stored value, as far as it is valid. */
class FollowedValue {
  readonly #spec: ConfigKey<unknown>;
  readonly #tenant: string | undefined;
  readonly #key: Key;
  readonly #metadata: Metadata;
  readonly #listeners = new Set<() => void>();
  readonly #stop: () => void;
  /** Counts readings: of two that are checked at once, the older is dropped. */
  #readings = 0;
  #isKnown = false;
  #value: unknown;
  #hasValue = false;
  #onKnown: (() => void)[] = [];

  constructor(
    metadata: Metadata,
    of: {
      readonly spec: ConfigKey<unknown>;
      readonly tenant: string | undefined;
      readonly key: Key;
    },
  ) {
    this.#metadata = metadata;
    this.#spec = of.spec;
    this.#tenant = of.tenant;
    this.#key = of.key;
    this.#stop = metadata.watchKey(of.key, (reading) => void this.#take(reading));
  }

  get isWatched(): boolean {
    return this.#listeners.size > 0 || this.#onKnown.length > 0;
  }

  /** Follows it no longer. */
  stop(): void {
    this.#stop();
  }

  /** Whether the store has been read. */
  get isKnown(): boolean {
    return this.#isKnown;
  }

  /** Whether there is, or was, a valid value that nobody has removed. */
  get hasValue(): boolean {
    return this.#hasValue;
  }

  get value(): unknown {
    return this.#value;
  }

  /** Resolves when the store has been read. @throws ERR_MILLRACE_STORE_UNAVAILABLE */
  async ready(): Promise<void> {
    if (this.#isKnown) return;
    const known = new Promise<void>((resolve) => this.#onKnown.push(resolve));
    // Says so when the store does not answer, while the watch goes on trying.
    await Promise.race([known, this.#metadata.readKey(this.#key, 'any').then(() => known)]);
  }

  /** Calls back soon when it is known already, and after each change. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    if (this.#isKnown) queueMicrotask(() => this.#listeners.has(listener) && listener());
    return () => this.#listeners.delete(listener);
  }

  async #take({ entry }: Reading): Promise<void> {
    const reading = ++this.#readings;
    const checked = entry === undefined ? undefined : await this.#check(entry.value);
    if (reading !== this.#readings) return;
    if (checked !== undefined && 'cause' in checked) {
      const { cause } = checked;
      publish('millrace:config:invalid', () => ({
        name: this.#spec.name,
        tenant: this.#tenant,
        cause,
      }));
    } else {
      this.#value = checked?.value;
      this.#hasValue = checked !== undefined;
    }
    this.#isKnown = true;
    for (const resolve of this.#onKnown.splice(0)) resolve();
    for (const listener of [...this.#listeners]) listener();
  }

  async #check(stored: Uint8Array): Promise<Checked> {
    try {
      return await validated(this.#spec, decodeValue(stored, 0, stored.length, this.#key));
    } catch (error) {
      return { cause: error as MillraceError };
    }
  }
}

type Checked = { readonly value: unknown } | { readonly cause: MillraceError };

/** Never rejects: a schema that throws says no. */
async function validated({ name, schema }: ConfigKey<unknown>, value: unknown): Promise<Checked> {
  if (schema === undefined) return { value };
  const no = (reason: string, cause?: unknown): Checked => ({
    cause: new MillraceError(
      'ERR_MILLRACE_INVALID_INPUT',
      `the value of config '${name}' does not satisfy its schema: ${reason}`,
      { details: { name }, cause },
    ),
  });
  try {
    const result = await schema['~standard'].validate(value);
    if (result.issues === undefined) return { value: result.value };
    return no(
      result.issues
        .slice(0, 10)
        .map(({ message }) => message)
        .join('; '),
    );
  } catch (cause) {
    return no(cause instanceof Error ? cause.message : String(cause), cause);
  }
}

function applying(levels: readonly FollowedValue[], spec: ConfigKey<unknown>): unknown {
  return (levels.find(({ hasValue }) => hasValue) ?? { value: spec.default }).value;
}
