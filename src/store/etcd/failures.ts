/**
 * What a failed call means: whether it may have been applied, and which error of millrace says so.
 *
 *   not applied   the request never left, or the server refused it before it did anything ("no leader" is of these)
 *   unknown       cut, deadline, "request timed out", "leader changed": it may have been applied, and may still be
 *
 * etcd packs different facts into one gRPC code (OUT_OF_RANGE is "compacted" and "future revision",
 * RESOURCE_EXHAUSTED "no space" and "too many requests"), so some are told apart by their text, as etcd's own
 * client does (api/v3rpc/rpctypes/error.go).
 *
 * The server goes on with a request for up to 7 s (5 s and two elections), so a deadline that ends earlier says
 * nothing about what happens next.
 */
import { type ErrorCode, MillraceError } from '../../core/errors.js';
import { DialError } from './dial.js';
import { isLeaderless } from './grpc-status.js';
import { type CallFailure, GrpcStatus } from './transport.js';

/** How long to leave an overloaded server alone. */
const OVERLOAD_RETRY_MS = 500;
const FULL_RETRY_MS = 5_000;

/** Statuses that a server gives before it does anything. */
const REFUSALS: ReadonlySet<number> = new Set([
  GrpcStatus.INVALID_ARGUMENT,
  GrpcStatus.NOT_FOUND,
  GrpcStatus.PERMISSION_DENIED,
  GrpcStatus.RESOURCE_EXHAUSTED,
  GrpcStatus.FAILED_PRECONDITION,
  GrpcStatus.OUT_OF_RANGE,
  GrpcStatus.UNIMPLEMENTED,
  GrpcStatus.UNAUTHENTICATED,
]);

/** Whether the request certainly was not, and will not be, applied. */
export function isNotApplied(failure: CallFailure): boolean {
  if (!failure.wasSent || isLeaderless(failure)) return true;
  return failure.isFromServer && REFUSALS.has(failure.status);
}

/** Whether a read that failed so may succeed when it is simply made again. */
export function isWorthRepeating(failure: CallFailure): boolean {
  if (isNoSpace(failure)) return false;
  if (isOverload(failure)) return true;
  if (!failure.isFromServer) {
    return failure.status === GrpcStatus.UNAVAILABLE || failure.status === GrpcStatus.INTERNAL;
  }
  return failure.status === GrpcStatus.UNAVAILABLE || failure.status === GrpcStatus.CANCELLED;
}

export function isNoSpace(failure: CallFailure): boolean {
  return failure.isFromServer && failure.message.includes('database space exceeded');
}

/** The server is behind with applying and takes nothing new. */
export function isOverload(failure: CallFailure): boolean {
  return failure.isFromServer && failure.message.includes('too many requests');
}

/** The token is unknown (expired, or the server restarted) or older than the last change of users and roles. */
export function isStaleToken(failure: CallFailure): boolean {
  if (!failure.isFromServer) return false;
  return (
    failure.status === GrpcStatus.UNAUTHENTICATED ||
    failure.message.includes('revision of auth store is old')
  );
}

/**
 * The error of millrace for a failed call.
 *
 * @param action - what was tried, for people: `'txn'`, `'watch'`
 */
export function errorOf(failure: CallFailure, action: string): MillraceError {
  const { code, message, details } = describe(failure);
  return new MillraceError(code, `etcd ${action}: ${message}`, {
    details: { status: failure.status, wasSent: failure.wasSent, ...reasonOf(failure), ...details },
    cause: failure,
  });
}

/** What is wrong with a certificate, when that is what it failed of: `expired`, `wrong-name`, `unknown-ca`... */
function reasonOf({ cause }: CallFailure): { readonly reason?: string } {
  return cause instanceof DialError && cause.reason !== undefined ? { reason: cause.reason } : {};
}

interface Description {
  readonly code: ErrorCode;
  readonly message: string;
  readonly details?: Readonly<Record<string, unknown>>;
}

function describe(failure: CallFailure): Description {
  const { message } = failure;
  if (!failure.isFromServer) return unavailable(message);
  if (isNoSpace(failure)) {
    return {
      code: 'ERR_MILLRACE_STORE_FULL',
      message:
        'the database has reached its quota; compact, defragment each member, then disarm the alarm, or raise --quota-backend-bytes',
      details: { retryAfterMs: FULL_RETRY_MS },
    };
  }
  if (isOverload(failure)) {
    return {
      code: 'ERR_MILLRACE_STORE_FULL',
      message: `the server is overloaded ("${message}"); try again after ${OVERLOAD_RETRY_MS} ms`,
      details: { retryAfterMs: OVERLOAD_RETRY_MS, isOverload: true },
    };
  }
  if (message.includes('has been compacted')) {
    return {
      code: 'ERR_MILLRACE_COMPACTED',
      message: 'the revision asked for is no longer kept; list again',
    };
  }
  if (message.includes('requested lease not found')) {
    return { code: 'ERR_MILLRACE_LEASE_LOST', message: 'the lease has ended' };
  }
  if (failure.status === GrpcStatus.PERMISSION_DENIED) {
    return unavailable(`the user may not do this ("${message}"); grant its role the namespace`);
  }
  if (failure.status === GrpcStatus.UNAUTHENTICATED || message.includes('authentication failed')) {
    return unavailable(`the server does not know the user ("${message}"); check auth or tls.cert`);
  }
  if (message.includes('user name is empty')) {
    return unavailable(`the server wants a user ("${message}"); give auth or a client certificate`);
  }
  if (message.includes('future revision')) {
    return {
      code: 'ERR_MILLRACE_INVALID_OPTION',
      message: 'the revision asked for has not been reached',
    };
  }
  if (failure.status === GrpcStatus.INVALID_ARGUMENT) {
    return { code: 'ERR_MILLRACE_INVALID_OPTION', message };
  }
  return unavailable(message);
}

function unavailable(message: string): Description {
  return { code: 'ERR_MILLRACE_STORE_UNAVAILABLE', message };
}
