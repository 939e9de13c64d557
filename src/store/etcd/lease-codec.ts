/**
 * The messages of etcd's Lease service, and the one place where seconds become milliseconds.
 *
 *   LeaseGrantRequest      1 TTL  2 ID          LeaseGrantResponse      1 header  2 ID  3 TTL  4 error
 *   LeaseRevokeRequest     1 ID
 *   LeaseKeepAliveRequest  1 ID                 LeaseKeepAliveResponse  1 header  2 ID  3 TTL (0: it has ended)
 *   LeaseTimeToLiveRequest 1 ID
 */
import { MillraceError } from '../../core/errors.js';
import type { Lease, LeaseId } from '../../core/store.js';
import { type Message, Reader, Writer } from './protobuf.js';

export const GRANT_METHOD = '/etcdserverpb.Lease/LeaseGrant';
export const REVOKE_METHOD = '/etcdserverpb.Lease/LeaseRevoke';
export const KEEP_ALIVE_METHOD = '/etcdserverpb.Lease/LeaseKeepAlive';
export const TIME_TO_LIVE_METHOD = '/etcdserverpb.Lease/LeaseTimeToLive';

/** etcd's bound, 9 000 000 000 seconds. */
const TTL_MS_MAX = 9e12;

const writer = new Writer(64);

/**
 * Whole seconds that are no less than the span.
 *
 * @throws ERR_MILLRACE_INVALID_OPTION for what is no positive span
 */
export function ttlSecondsOf(ttlMs: number): number {
  if (ttlMs > 0 && ttlMs <= TTL_MS_MAX) return Math.ceil(ttlMs / 1_000);
  throw new MillraceError(
    'ERR_MILLRACE_INVALID_OPTION',
    `lease ttl is ${String(ttlMs)} ms; give more than 0 and at most ${TTL_MS_MAX} ms`,
    { details: { ttlMs, ttlMsMax: TTL_MS_MAX } },
  );
}

export function encodeGrant(leaseId: LeaseId, ttlSeconds: number): Message {
  writer.leaseId(2, leaseId);
  writer.uint(1, ttlSeconds);
  return writer.finish();
}

/** The request of all that name a lease and nothing else: keep-alive, revoke, time to live. */
export function encodeLeaseId(leaseId: LeaseId): Message {
  writer.leaseId(1, leaseId);
  return writer.finish();
}

/** The answer to a grant or a keep-alive; a ttl of 0 says that the lease has ended. */
export function decodeLease(body: Uint8Array): Lease {
  const reader = new Reader(body);
  const end = reader.length;
  let leaseId = '0' as LeaseId;
  let ttlSeconds = 0;
  for (let tag = reader.tag(end); tag !== 0; tag = reader.tag(end)) {
    if (tag === 0x10) leaseId = reader.leaseId() ?? leaseId;
    else if (tag === 0x18) ttlSeconds = reader.int();
    else reader.skip(tag);
  }
  return { leaseId, ttlMs: Math.max(0, ttlSeconds) * 1_000 };
}
