/**
 * ControlClient: a runtime in another process, asked over its socket. Errors arrive as what they were there.
 */
import { request } from 'node:http';
import { fromWire } from '../core/error-wire.js';
import { MillraceError } from '../core/errors.js';
import type { Explanation } from '../engine/explanation.js';
import type { TaskInspection } from '../engine/inspection.js';
import type { TaskPage } from '../engine/task-list.js';
import type { Control, ListRequest, Overview } from './control.js';
import { API_VERSION, type CallName } from './control-api.js';

/** A page of a thousand tasks is far below that. */
const ANSWER_BYTES_MAX = 64 * 1_048_576;
const ANSWER_TIMEOUT_MS = 30_000;

export class ControlClient implements Control {
  readonly #socketPath: string;

  constructor(socketPath: string) {
    this.#socketPath = socketPath;
  }

  /**
   * Whether somebody answers there, in a version of this API that this client speaks.
   *
   * @throws ERR_MILLRACE_STORE_FORMAT when it does not speak it
   */
  async isThere(): Promise<boolean> {
    let answer: Answer;
    try {
      answer = await this.#send('GET', `/v${API_VERSION}`, '');
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      // Nobody listens, or has ever listened there.
      if (code === 'ENOENT' || code === 'ECONNREFUSED' || code === 'ENOTDIR') return false;
      throw error;
    }
    if (answer.status === 200) return true;
    throw new MillraceError(
      'ERR_MILLRACE_STORE_FORMAT',
      `the process that has the store does not speak version ${API_VERSION} of the control API; use the command of its version`,
      { details: { status: answer.status, apiVersion: API_VERSION } },
    );
  }

  list(page: ListRequest): Promise<TaskPage> {
    return this.#call('list', page);
  }

  inspect(id: string): Promise<TaskInspection> {
    return this.#call('inspect', { id });
  }

  explain(id: string): Promise<Explanation> {
    return this.#call('explain', { id });
  }

  cancel(id: string, reason: string | undefined): ReturnType<Control['cancel']> {
    return this.#call('cancel', { id, ...(reason !== undefined && { reason }) });
  }

  redrive(ids: readonly string[]): ReturnType<Control['redrive']> {
    return this.#call('redrive', { ids });
  }

  overview(): Promise<Overview> {
    return this.#call('overview', {});
  }

  async #call<Result>(name: CallName, given: object): Promise<Result> {
    const { status, text } = await this.#send(
      'POST',
      `/v${API_VERSION}/${name}`,
      JSON.stringify(given),
    );
    let answer: { readonly result?: unknown; readonly error?: unknown };
    try {
      answer = JSON.parse(text) as typeof answer;
    } catch (cause) {
      throw unavailable(`it answered ${status} with what is no JSON`, cause);
    }
    if (answer.error !== undefined) throw fromWire(answer.error);
    return answer.result as Result;
  }

  #send(method: string, path: string, body: string): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const asked = request(
        {
          socketPath: this.#socketPath,
          method,
          path,
          headers: { host: 'localhost', 'content-length': Buffer.byteLength(body) },
          timeout: ANSWER_TIMEOUT_MS,
        },
        (answer) => {
          const parts: Buffer[] = [];
          let bytes = 0;
          answer.on('data', (part: Buffer) => {
            bytes += part.length;
            if (bytes > ANSWER_BYTES_MAX) asked.destroy(unavailable('its answer is too long'));
            else parts.push(part);
          });
          answer.on('error', reject);
          answer.on('end', () =>
            resolve({ status: answer.statusCode ?? 0, text: Buffer.concat(parts).toString() }),
          );
        },
      );
      asked.on('timeout', () =>
        asked.destroy(unavailable(`it did not answer within ${ANSWER_TIMEOUT_MS} ms`)),
      );
      asked.on('error', reject);
      asked.end(body);
    });
  }
}

interface Answer {
  readonly status: number;
  readonly text: string;
}

function unavailable(what: string, cause?: unknown): MillraceError {
  return new MillraceError(
    'ERR_MILLRACE_STORE_UNAVAILABLE',
    `the process that has the store was asked over its socket: ${what}`,
    { cause },
  );
}
