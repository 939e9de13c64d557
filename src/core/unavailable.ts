/**
 * Which failures say that somebody else does not answer, rather than that the task is wrong: those a pause may help.
 */

const CAUSES_MAX = 4;
const STATUS: ReadonlySet<unknown> = new Set([429, 502, 503, 504]);
/** Of Node's sockets and resolver, of undici, of etcd and gRPC clients, and our own. */
const CODES: ReadonlySet<unknown> = new Set([
  'ERR_MILLRACE_TASK_TIMEOUT',
  'ERR_MILLRACE_STORE_UNAVAILABLE',
  'ECONNREFUSED',
  'ECONNRESET',
  'ECONNABORTED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EPIPE',
  'ETIMEDOUT',
  'ESOCKETTIMEDOUT',
  'UND_ERR_CONNECT_TIMEOUT',
  'UND_ERR_HEADERS_TIMEOUT',
  'UND_ERR_BODY_TIMEOUT',
  'UND_ERR_SOCKET',
  'UNAVAILABLE',
  'DEADLINE_EXCEEDED',
]);
const NAMES: ReadonlySet<unknown> = new Set(['TimeoutError']);

/** Whether an error, or what caused it, is a timeout, a broken connection or an HTTP status of the 503 class. */
export function isUnavailable(error: unknown): boolean {
  let one = error as
    | { code?: unknown; name?: unknown; status?: unknown; cause?: unknown }
    | undefined;
  for (let depth = 0; depth <= CAUSES_MAX; depth++) {
    if (typeof one !== 'object' || one === null) return false;
    if (CODES.has(one.code) || NAMES.has(one.name) || STATUS.has(one.status)) return true;
    one = one.cause as typeof one;
  }
  return false;
}
