/**
 * Leases of one client: granted, renewed and revoked so that a lost answer does no harm.
 *
 * - grant: the id is chosen here, 63 random bits, so the same grant can be sent again. "It exists already" then means
 *   that an earlier try was applied, and a renewal tells the ttl. A grant that nobody hears of ends by itself, without keys.
 * - renew: over the one stream of `keepalive-stream.ts`; renewing twice does no harm.
 * - revoke: sent again until there is an answer; a lease that is gone is what was wanted.
 */
import type { Clock } from '../../core/clock.js';
import type { MillraceError } from '../../core/errors.js';
import type { Random } from '../../core/random.js';
import type { Lease, LeaseId } from '../../core/store.js';
import { errorOf } from './failures.js';
import { KeepAliveStream } from './keepalive-stream.js';
import {
  decodeLease,
  encodeGrant,
  encodeLeaseId,
  GRANT_METHOD,
  REVOKE_METHOD,
  ttlSecondsOf,
} from './lease-codec.js';
import { callRepeating } from './repeat.js';
import { CallFailure, GrpcStatus, type Transport } from './transport.js';

export class Leases {
  readonly #transport: Transport;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #deadlineMs: number;
  readonly #stream: KeepAliveStream;

  /** @param deadlineMs - for a grant or a revocation, with all its tries */
  constructor(transport: Transport, clock: Clock, random: Random, deadlineMs: number) {
    this.#transport = transport;
    this.#clock = clock;
    this.#random = random;
    this.#deadlineMs = deadlineMs;
    this.#stream = new KeepAliveStream(transport, clock);
  }

  /** As `Store.grantLease`. @throws ERR_MILLRACE_STORE_UNAVAILABLE when there is no answer */
  async grant(ttlMs: number): Promise<Lease> {
    const ttlSeconds = ttlSecondsOf(ttlMs);
    const leaseId = this.#newId();
    try {
      return decodeLease(await this.#call(GRANT_METHOD, encodeGrant(leaseId, ttlSeconds)));
    } catch (thrown) {
      if (thrown instanceof CallFailure && thrown.message.includes('lease already exists')) {
        return this.renew(leaseId);
      }
      throw failed(thrown, 'grant');
    }
  }

  renew(leaseId: LeaseId): Promise<Lease> {
    return this.#stream.renew(leaseId);
  }

  async revoke(leaseId: LeaseId): Promise<void> {
    try {
      await this.#call(REVOKE_METHOD, encodeLeaseId(leaseId));
    } catch (thrown) {
      if (thrown instanceof CallFailure && thrown.status === GrpcStatus.NOT_FOUND) return;
      throw failed(thrown, 'revoke');
    }
  }

  close(error: MillraceError): void {
    this.#stream.close(error);
  }

  #call(method: string, request: Parameters<Transport['call']>[1]): Promise<Uint8Array> {
    const deadlineMs = this.#deadlineMs;
    return callRepeating(this.#transport, this.#clock, method, request, {
      role: 'lease',
      deadlineMs,
    });
  }

  /** 63 bits, as etcd's own: its ids are positive. */
  #newId(): LeaseId {
    const high = (this.#random.u32() >>> 1).toString(16);
    const low = this.#random.u32().toString(16).padStart(8, '0');
    const id = (high + low).replace(/^0+/, '');
    return (id === '' ? '1' : id) as LeaseId;
  }
}

function failed(thrown: unknown, action: string): unknown {
  return thrown instanceof CallFailure ? errorOf(thrown, `lease ${action}`) : thrown;
}
