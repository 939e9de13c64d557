/**
 * What the etcd store needs from the network: calls with one answer, and streams both ways. The store, the watch
 * multiplexer and the lease keeper are written against this port; `http2-transport.ts` fills it.
 *
 * Calls that were sent are never repeated in here. Whether a failed one may be sent again is for the caller to say, who
 * knows whether it changes anything; `wasSent` and the status tell what is known about it. One that certainly was not
 * sent (its connection left first) is placed on the next connection while its deadline lasts.
 */
import type { Message } from './protobuf.js';

/** Each role has a connection of its own, so that a flood of events delays no transaction and no renewal. */
export type Role = 'kv' | 'watch' | 'lease';

/** gRPC's status codes, those that have a meaning here. */
export const GrpcStatus = {
  CANCELLED: 1,
  UNKNOWN: 2,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
  UNAUTHENTICATED: 16,
} as const;

/** Why a call or a stream failed. Internal to the etcd store: `failures.ts` turns it into a MillraceError. */
export class CallFailure extends Error {
  override readonly name = 'CallFailure';
  /** gRPC's status code. What the server did not say (a cut, a deadline) has the code gRPC gives it. */
  readonly status: number;
  /** False: no byte of the request left this process, so it certainly was not applied. */
  readonly wasSent: boolean;
  /** Whether the server said so, in the trailers of its answer, or this side found out by itself. */
  readonly isFromServer: boolean;

  constructor(
    status: number,
    message: string,
    options: {
      readonly wasSent: boolean;
      readonly isFromServer?: boolean;
      readonly cause?: unknown;
    },
  ) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined);
    this.status = status;
    this.wasSent = options.wasSent;
    this.isFromServer = options.isFromServer ?? false;
  }
}

export interface CallOptions {
  readonly role: Role;
  /** From now, and it includes connecting. At the end the call rejects with DEADLINE_EXCEEDED. */
  readonly deadlineMs: number;
  /** Gives the call up: it rejects with CANCELLED. What was sent may still be applied. */
  readonly signal?: AbortSignal;
}

export interface StreamOptions {
  readonly role: Role;
  /** Called in the order of arrival. The bytes are a view that nobody writes to any more. */
  onMessage(body: Uint8Array): void;
  /**
   * Called once, when the stream is over; nothing comes after it. `undefined` for an end in order: ours by
   * `close()`, or the server's with status OK.
   */
  onEnd(failure: CallFailure | undefined): void;
}

export interface DuplexStream {
  /** Takes the message; before the connection stands it waits. After the end it is dropped. */
  send(message: Message): void;
  /** Ends the stream at once, both ways. Idempotent; `onEnd(undefined)` follows. */
  close(): void;
}

export interface Transport {
  /**
   * Sends one request and waits for its one answer.
   *
   * @param method - the full path: `/etcdserverpb.KV/Txn`
   * @returns the body of the answer, without gRPC's prefix
   * @throws CallFailure and nothing else
   */
  call(method: string, request: Message, options: CallOptions): Promise<Uint8Array>;

  /** Opens a stream; the server ends it when its member has lost the leader (`hasleader`). */
  open(method: string, options: StreamOptions): DuplexStream;

  /** Ends every stream and call (CANCELLED) and the connections. Idempotent. */
  close(): Promise<void>;
}
