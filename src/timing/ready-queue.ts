/**
 * ReadyQueue: which of many waiting things goes next, as numbers in and numbers out, off the JavaScript heap.
 *
 * Strict by priority, with ageing against starvation; within a priority fair between tenants by their weights; within
 * a tenant first come, first served. How that is done is told in native/ready_queue.h. Pushes are buffered in memory
 * that both sides share and taken over 1024 at a time, so that a push makes no call into C++.
 */
import { isUint32Array } from 'node:util/types';
import { MillraceError } from '../core/errors.js';
import { invalidOption, wholeNumber } from '../core/options.js';
import { type NativeReadyQueue, nativeReady } from './native-tasks.js';

export interface ReadyQueueOptions {
  /**
   * What has waited so much longer per level of priority between them overtakes what has a higher priority.
   * 0: never. Shorter: less starvation, less strictness.
   *
   * @defaultValue 0
   */
  readonly ageingMs?: number;
  /** Shares of tenants among others of one priority; 1 for those not named. */
  readonly weights?: Readonly<Record<string, number>>;
}

export interface PushOptions {
  /** Higher goes first; a whole number from -32768 to 32767. @defaultValue 0 */
  readonly priority?: number;
  /** Whose it is. @defaultValue '' */
  readonly tenant?: string;
  /**
   * When it became ready, by any clock that does not run backwards, in ms; for ageing.
   *
   * @defaultValue the latest time that was given
   */
  readonly atMs?: number;
}

const COMMANDS_MAX = 1024;
const COMMAND_BYTES = 24;
const PRIORITY_MIN = -32_768;
const PRIORITY_MAX = 32_767;
/** Names of tenants are looked through for those that have gone when there are so many, and then twice as many. */
const TENANTS_BEFORE_PRUNING = 1024;

/**
 * A queue of tokens. Every method but `close` throws ERR_MILLRACE_CLOSED after `close`.
 * Thread: the one that made it. Cost of push and take: O(log tenants).
 */
export class ReadyQueue {
  readonly #times: Float64Array;
  readonly #words: Uint32Array;
  readonly #tenants = new Map<string, number>();
  readonly #weighted = new Set<string>();
  #freeTenants: number[] = [];
  #tenantLimit = 0;
  #pruneAt = TENANTS_BEFORE_PRUNING;
  #commands = 0;
  #size = 0;
  #nowMs = 0;
  #queue: NativeReadyQueue | undefined;

  /** @throws ERR_MILLRACE_INVALID_OPTION */
  constructor(options: ReadyQueueOptions = {}) {
    const { ageingMs = 0, weights = {} } = options;
    if (typeof ageingMs !== 'number' || !(ageingMs >= 0 && ageingMs <= Number.MAX_SAFE_INTEGER)) {
      throw invalidOption('ageingMs', ageingMs, 'milliseconds from 0 to 2^53 - 1');
    }
    const commands = new ArrayBuffer(COMMANDS_MAX * COMMAND_BYTES);
    this.#times = new Float64Array(commands);
    this.#words = new Uint32Array(commands);
    this.#queue = nativeReady.create(commands, ageingMs);
    for (const [tenant, weight] of Object.entries(weights)) this.setWeight(tenant, weight);
  }

  /** Tokens that wait. */
  get size(): number {
    this.#open();
    return this.#size;
  }

  /**
   * Adds a token: a whole number below 2^32, which `take` gives back. The same one may be in the queue more than once.
   *
   * @throws ERR_MILLRACE_INVALID_OPTION
   */
  push(token: number, options: PushOptions = {}): void {
    const { priority = 0, tenant = '', atMs = this.#nowMs } = options;
    if (typeof token !== 'number' || token >>> 0 !== token) {
      throw invalidOption('token', token, 'a whole number from 0 to 2^32 - 1');
    }
    wholeNumber(priority, 'priority', PRIORITY_MIN, PRIORITY_MAX);
    if (typeof atMs !== 'number' || !(atMs >= 0 && atMs <= Number.MAX_SAFE_INTEGER)) {
      throw invalidOption('atMs', atMs, 'milliseconds from 0 to 2^53 - 1');
    }
    this.#open();
    const tenantId = this.#tenants.get(tenant) ?? this.#newTenant(tenant);
    if (atMs > this.#nowMs) this.#nowMs = atMs;
    const at = this.#commands;
    this.#times[at * 3] = atMs;
    this.#words[at * 6 + 2] = token;
    this.#words[at * 6 + 3] = tenantId;
    this.#words[at * 6 + 4] = priority;
    this.#commands = at + 1;
    this.#size++;
    if (this.#commands === COMMANDS_MAX) this.#flush();
  }

  /**
   * Takes tokens in the order in which they shall go.
   *
   * @param out - takes them, from the start
   * @returns how many were written; fewer than fit when the queue is empty
   * @throws ERR_MILLRACE_INVALID_OPTION for anything but a Uint32Array
   */
  take(out: Uint32Array): number {
    if (!isUint32Array(out)) throw invalidOption('out', out, 'a Uint32Array');
    const queue = this.#open();
    if (this.#size === 0) return 0;
    const count = nativeReady.take(queue, this.#commands, out);
    this.#commands = 0;
    this.#size -= count;
    return count;
  }

  /** The share of a tenant among others of one priority, 1 unless set; at once, for what waits already too. */
  setWeight(tenant: string, weight: number): void {
    if (typeof tenant !== 'string') throw invalidOption('tenant', tenant, 'a string');
    if (typeof weight !== 'number' || !(weight >= 1e-6 && weight <= 1e6)) {
      throw invalidOption('weight', weight, 'a number from 0.000001 to 1000000');
    }
    const queue = this.#open();
    const tenantId = this.#tenants.get(tenant) ?? this.#newTenant(tenant);
    this.#weighted.add(tenant);
    nativeReady.setWeight(queue, tenantId, weight);
  }

  /** Sizes. `tenants` counts those that wait or did so lately, and those with a weight. */
  stats(): { readonly size: number; readonly tenants: number; readonly bytes: number } {
    const queue = this.#open();
    this.#flush();
    const bytes = nativeReady.bytes(queue) + COMMANDS_MAX * COMMAND_BYTES;
    return { size: this.#size, tenants: this.#tenants.size, bytes };
  }

  /** Drops everything and frees the memory. More than once is fine. */
  close(): void {
    if (this.#queue === undefined) return;
    nativeReady.close(this.#queue);
    this.#queue = undefined;
    this.#tenants.clear();
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return Promise.resolve();
  }

  #flush(): void {
    if (this.#commands === 0) return;
    nativeReady.flush(this.#open(), this.#commands);
    this.#commands = 0;
  }

  #newTenant(tenant: string): number {
    if (typeof tenant !== 'string') throw invalidOption('tenant', tenant, 'a string');
    if (this.#tenants.size >= this.#pruneAt) this.#prune();
    const tenantId = this.#freeTenants.pop() ?? this.#tenantLimit++;
    this.#tenants.set(tenant, tenantId);
    return tenantId;
  }

  /** Forgets tenants that the core has forgotten. */
  #prune(): void {
    this.#flush();
    const used = new Uint32Array(this.#tenantLimit);
    nativeReady.tenants(this.#open(), used);
    for (const [tenant, tenantId] of this.#tenants) {
      if (used[tenantId] !== 0 || this.#weighted.has(tenant)) continue;
      this.#tenants.delete(tenant);
      this.#freeTenants.push(tenantId);
    }
    this.#pruneAt = Math.max(TENANTS_BEFORE_PRUNING, this.#tenants.size * 2);
  }

  #open(): NativeReadyQueue {
    if (this.#queue !== undefined) return this.#queue;
    throw new MillraceError('ERR_MILLRACE_CLOSED', 'the ready queue is closed; make another');
  }
}
