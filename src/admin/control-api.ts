/**
 * The JSON API of `Control`: `POST /v1/<call>` with an object, answered by `{ result }` or `{ error }`.
 *
 *   list      { status?, task?, tenant?, queue?, limit?, after? }   a page of tasks
 *   inspect   { id }                                                one task
 *   explain   { id }                                                why it is not running
 *   cancel    { id, reason? }                                       cancelled | signalled | ended
 *   redrive   { ids }                                               redriven | open | ended | gone, for each
 *   overview  { }                                                   nodes and counts
 *
 * `GET /v1` tells the version of this API. Within a version calls and fields are added, never changed; a client asks for the
 * highest version that it knows. Every request is checked here, before it reaches anything.
 */
import { toWire, type WireError } from '../core/error-wire.js';
import { isMillraceError, MillraceError } from '../core/errors.js';
import { isQueueName, requireTaskId } from '../core/ids.js';
import { invalidOption, knownOptions, oneOf, shortText, wholeNumber } from '../core/options.js';
import { STATUSES } from '../core/states.js';
import type { AdminResponse, Route } from './admin-server.js';
import { type Control, type ListRequest, REDRIVE_IDS_MAX } from './control.js';

export const API_VERSION = 1;
const REQUEST_BYTES_MAX = 65_536;
const REASON_CHARS_MAX = 1_000;
const NAME_CHARS_MAX = 200;
const LIMIT_MAX = 1_000;
const LIMIT_DEFAULT = 50;

export type CallName = 'list' | 'inspect' | 'explain' | 'cancel' | 'redrive' | 'overview';

type Given = { readonly [name: string]: unknown };

/** Every call: what it takes, checked, and what it does. */
const CALLS: Readonly<Record<CallName, (control: Control, given: Given) => Promise<unknown>>> = {
  list: (control, given) => control.list(listRequest(given)),
  inspect: (control, given) => control.inspect(idOf(given)),
  explain: (control, given) => control.explain(idOf(given)),
  cancel: (control, given) => {
    const { id, reason } = knownOptions(given, '', { id: true, reason: true });
    requireTaskId(id);
    return control.cancel(id as string, reason === undefined ? undefined : reasonOf(reason));
  },
  redrive: (control, given) => {
    const { ids } = knownOptions(given, '', { ids: true });
    return control.redrive(idsOf(ids));
  },
  overview: (control, given) => {
    knownOptions(given, '', {});
    return control.overview();
  },
};

/** @throws ERR_MILLRACE_INVALID_OPTION for a filter or page that is none */
export function listRequest(given: Given): ListRequest {
  const { status, task, tenant, queue, limit, after } = knownOptions(given, '', {
    status: true,
    task: true,
    tenant: true,
    queue: true,
    limit: true,
    after: true,
  });
  if (queue !== undefined && !isQueueName(queue)) {
    throw invalidOption('queue', queue, 'the name of a queue');
  }
  return {
    ...(status !== undefined && { status: oneOf(status, 'status', STATUSES) }),
    ...(task !== undefined && { task: shortText(task, 'task', NAME_CHARS_MAX) }),
    ...(tenant !== undefined && { tenant: shortText(tenant, 'tenant', NAME_CHARS_MAX) }),
    ...(queue !== undefined && { queue }),
    limit: wholeNumber(limit ?? LIMIT_DEFAULT, 'limit', 1, LIMIT_MAX),
    ...(after !== undefined && { after: cursorOf(after) }),
  };
}

/** The routes of all calls. */
export function controlRoutes(control: Control, version: string): Route[] {
  const about = { api: API_VERSION, version, pid: process.pid };
  return [
    {
      method: 'GET',
      path: `/v${API_VERSION}`,
      access: 'everybody',
      handle: () => json(200, about),
    },
    ...Object.entries(CALLS).map(
      ([name, call]): Route => ({
        method: 'POST',
        path: `/v${API_VERSION}/${name}`,
        access: 'everybody',
        bodyBytesMax: REQUEST_BYTES_MAX,
        handle: async ({ body }) => {
          try {
            return json(200, { result: await call(control, parse(body)) });
          } catch (error) {
            return json(statusOf(error), { error: shownError(error) });
          }
        },
      }),
    ),
  ];
}

function parse(body: Buffer): Given {
  let given: unknown;
  try {
    given = body.length === 0 ? {} : JSON.parse(body.toString('utf8'));
  } catch (cause) {
    throw new MillraceError('ERR_MILLRACE_INVALID_OPTION', 'the request is not JSON', { cause });
  }
  if (typeof given === 'object' && given !== null && !Array.isArray(given)) return given as Given;
  throw new MillraceError('ERR_MILLRACE_INVALID_OPTION', 'the request is not a JSON object');
}

function json(status: number, body: unknown): AdminResponse {
  return { status, type: 'application/json', body: `${JSON.stringify(body)}\n` };
}

function statusOf(error: unknown): number {
  if (!isMillraceError(error)) return 500;
  if (error.code === 'ERR_MILLRACE_TASK_GONE') return 404;
  return error.kind === 'usage' ? 400 : 503;
}

/** Where in this process it was thrown is nobody else's business. */
function shownError(error: unknown): WireError {
  const bare = ({ stack: _, cause, ...shown }: WireError): WireError => ({
    ...shown,
    ...(cause !== undefined && { cause: bare(cause) }),
  });
  return bare(toWire(error));
}

function idOf(given: Given): string {
  const { id } = knownOptions(given, '', { id: true });
  requireTaskId(id);
  return id as string;
}

function idsOf(ids: unknown): readonly string[] {
  if (!Array.isArray(ids) || ids.length === 0 || ids.length > REDRIVE_IDS_MAX) {
    throw invalidOption('ids', ids, `a list of 1 to ${REDRIVE_IDS_MAX} ids`);
  }
  for (const id of ids) requireTaskId(id);
  return ids as string[];
}

function reasonOf(reason: unknown): string {
  if (typeof reason === 'string' && reason.length <= REASON_CHARS_MAX) return reason;
  throw invalidOption('reason', reason, `text of at most ${REASON_CHARS_MAX} characters`);
}

function cursorOf(after: unknown): string {
  if (typeof after === 'string') return after;
  throw invalidOption('after', after, 'the `next` of the page before');
}
