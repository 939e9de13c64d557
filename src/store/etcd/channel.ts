/**
 * One connection at a time to whichever member answers, for one role.
 *
 * Whoever needs a connection while there is none waits, within its own deadline: nothing has been sent yet, so waiting
 * is always safe. One search goes on meanwhile, for all that wait: the members in order of preference, the next one
 * a second after the last or as soon as that has failed; the first that answers wins. A search ends without a winner
 * only when every member showed a certificate that will not do, since then waiting does not help, or when nobody
 * waits any more. Whoever opens a store waits less for members that refuse than for members that are silent.
 *
 * `renew()` replaces the connection without a gap: the new one stands before the old one stops taking calls.
 */
import type { Clock, WakeUp } from '../../core/clock.js';
import type { Connection } from './connection.js';
import { DialError, type Dialled, dial } from './dial.js';
import type { Endpoint } from './endpoint.js';
import type { Endpoints } from './endpoints.js';
import type { TlsIdentity } from './tls-identity.js';
import { CallFailure, GrpcStatus } from './transport.js';

/** How long a member may take before the next one is tried beside it. */
const HEAD_START_MS = 1_000;
const RENEW_AGAIN_MS = 5_000;

export interface ChannelOptions {
  readonly clock: Clock;
  readonly endpoints: Endpoints;
  readonly tls: TlsIdentity | undefined;
  /** Called for every connection that takes calls from now on. */
  readonly onConnected?: (endpoint: Endpoint, isResumed: boolean) => void;
}

interface Waiter {
  readonly resolve: (connection: Connection) => void;
  readonly reject: (failure: CallFailure) => void;
  readonly patience: WakeUp;
}

export class Channel {
  readonly #options: ChannelOptions;
  readonly #closing = new AbortController();
  readonly #waiters = new Set<Waiter>();
  #current: Connection | undefined;
  #isSearching = false;
  #lastFailure: DialError | undefined;
  #retryRenewal: WakeUp | undefined;

  constructor(options: ChannelOptions) {
    this.#options = options;
  }

  /** The connection, when it stands. */
  get current(): Connection | undefined {
    return this.#current;
  }

  /**
   * The connection, as soon as it stands.
   *
   * @throws CallFailure, with `wasSent` false, when there is none within `deadlineMs`
   */
  connected(deadlineMs: number): Promise<Connection> {
    if (this.#current !== undefined) return Promise.resolve(this.#current);
    return new Promise((resolve, reject) => {
      if (this.#closing.signal.aborted) return reject(closedFailure());
      const patience = this.#options.clock.wakeIn(deadlineMs, () => {
        this.#waiters.delete(waiter);
        const why = this.#lastFailure?.message ?? 'none has answered yet';
        reject(unconnected(`no connection after ${Math.ceil(deadlineMs)} ms (${why})`));
      });
      const waiter: Waiter = { resolve, reject, patience };
      this.#waiters.add(waiter);
      if (!this.#isSearching) void this.#search();
    });
  }

  /**
   * As `connected`, but does not wait for what is not there: gives up after `refusedMs` when every member has refused
   * by then, each time it was tried last.
   *
   * @throws CallFailure, with `wasSent` false
   */
  async reached(deadlineMs: number, refusedMs: number): Promise<Connection> {
    const { clock } = this.#options;
    const endsAtMs = clock.monoMs() + deadlineMs;
    for (;;) {
      const leftMs = endsAtMs - clock.monoMs();
      try {
        return await this.connected(Math.max(1, Math.min(refusedMs, leftMs)));
      } catch (thrown) {
        const mayCome =
          (thrown as CallFailure).status === GrpcStatus.UNAVAILABLE &&
          this.#lastFailure?.isRefusal !== true;
        if (!mayCome || clock.monoMs() >= endsAtMs) throw thrown;
      }
    }
  }

  /** A connection of the caller's own, which it destroys. @throws CallFailure */
  async extra(): Promise<Connection> {
    try {
      const { connection } = await this.#dialAny(() => {});
      return connection;
    } catch (thrown) {
      throw unconnected((thrown as DialError).message);
    }
  }

  /** Moves to a new connection, made with the certificates as they are now. */
  async renew(): Promise<void> {
    this.#retryRenewal?.cancel();
    const old = this.#current;
    if (old === undefined || this.#closing.signal.aborted) return;
    try {
      await this.#connect();
      old.drain('moved to a connection with the new certificates');
    } catch {
      // The old connection stays good; the new certificates may reach the servers a little later.
      const { clock } = this.#options;
      this.#retryRenewal = clock.wakeIn(RENEW_AGAIN_MS, () => void this.renew());
    }
  }

  close(): void {
    this.#closing.abort();
    this.#retryRenewal?.cancel();
    this.#failWaiters(closedFailure());
    this.#current?.destroy(new Error('the store was closed'));
    this.#current = undefined;
  }

  async #search(): Promise<void> {
    const { clock, endpoints } = this.#options;
    this.#isSearching = true;
    this.#lastFailure = undefined;
    while (this.#waiters.size > 0) {
      const restMs = endpoints.restMs();
      if (restMs > 0) await new Promise<void>((resolve) => clock.wakeIn(restMs, resolve));
      if (this.#closing.signal.aborted || this.#waiters.size === 0) break;
      try {
        await this.#connect();
        break;
      } catch (thrown) {
        this.#lastFailure = thrown as DialError;
        if (this.#lastFailure.reason !== undefined) this.#failWaiters(untrusted(this.#lastFailure));
      }
    }
    this.#isSearching = false;
  }

  /** @throws DialError */
  async #connect(): Promise<void> {
    let made: Connection | undefined;
    const { connection, endpoint, isResumed } = await this.#dialAny((left) => {
      if (made === undefined || made !== this.#current) return;
      this.#current = undefined;
      if (this.#closing.signal.aborted) return;
      // Whatever made it stop, another member is the better choice for a moment.
      if (made.hasAnswered) this.#options.endpoints.left(left);
      else this.#options.endpoints.failed(left);
    });
    made = connection;
    if (this.#closing.signal.aborted || !connection.isUsable) {
      connection.destroy(new Error('the store was closed'));
      throw DialError.of(endpoint, new Error('the connection closed at once'));
    }
    this.#current = connection;
    this.#lastFailure = undefined;
    this.#options.endpoints.worked(endpoint);
    this.#options.onConnected?.(endpoint, isResumed);
    for (const waiter of this.#waiters) {
      waiter.patience.cancel();
      waiter.resolve(connection);
    }
    this.#waiters.clear();
  }

  /** @throws DialError */
  #dialAny(onLeaving: (endpoint: Endpoint) => void): Promise<Dialled & { endpoint: Endpoint }> {
    const { clock, endpoints, tls } = this.#options;
    const list = endpoints.inOrder();
    const losers = new AbortController();
    const signal = AbortSignal.any([losers.signal, this.#closing.signal]);
    return new Promise((resolve, reject) => {
      const failures: DialError[] = [];
      let started = 0;
      let headStart: WakeUp | undefined;
      let winner: Endpoint | undefined;
      const startNext = (): void => {
        headStart?.cancel();
        const endpoint = list[started];
        if (endpoint === undefined || winner !== undefined) return;
        started++;
        headStart = clock.wakeIn(HEAD_START_MS, startNext);
        const onLeft = (): void => {
          if (winner === endpoint) onLeaving(endpoint);
        };
        dial(endpoint, { clock, tls, signal, onLeaving: onLeft }).then(
          (dialled) => {
            if (winner !== undefined) {
              return dialled.connection.destroy(new Error('another member was faster'));
            }
            winner = endpoint;
            headStart?.cancel();
            losers.abort();
            resolve({ ...dialled, endpoint });
          },
          (failure: DialError) => {
            failures.push(failure);
            if (winner !== undefined) return;
            endpoints.failed(endpoint);
            startNext();
            if (failures.length === list.length) {
              headStart?.cancel();
              reject(DialError.ofAll(failures));
            }
          },
        );
      };
      startNext();
    });
  }

  #failWaiters(failure: CallFailure): void {
    for (const waiter of this.#waiters) {
      waiter.patience.cancel();
      waiter.reject(failure);
    }
    this.#waiters.clear();
  }
}

/** What a call gets that comes after the end, or is waiting at it. */
export function closedFailure(): CallFailure {
  return new CallFailure(GrpcStatus.CANCELLED, 'the store is closed', { wasSent: false });
}

function unconnected(message: string): CallFailure {
  return new CallFailure(GrpcStatus.UNAVAILABLE, message, { wasSent: false });
}

function untrusted(cause: DialError): CallFailure {
  // Not UNAVAILABLE: making the call again does not help until somebody has changed a certificate.
  return new CallFailure(GrpcStatus.FAILED_PRECONDITION, cause.message, { wasSent: false, cause });
}
