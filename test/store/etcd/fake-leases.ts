/** A model of etcd's Lease service behind the Transport port, on a virtual clock, with faults. */
import type { Clock } from '../../../src/core/clock.js';
import type { LeaseId } from '../../../src/core/store.js';
import { GRANT_METHOD, REVOKE_METHOD } from '../../../src/store/etcd/lease-codec.js';
import { type Message, PREFIX_BYTES, Reader, Writer } from '../../../src/store/etcd/protobuf.js';
import {
  CallFailure,
  type DuplexStream,
  GrpcStatus,
  type StreamOptions,
  type Transport,
} from '../../../src/store/etcd/transport.js';

/** The shortest ttl etcd grants with its default election timeout. */
const TTL_SECONDS_MIN = 2;

export class FakeLeases implements Transport {
  /** Until when each lease lives. */
  readonly deadlines = new Map<string, number>();
  readonly ttls = new Map<string, number>();
  readonly calls: string[] = [];
  readonly streams: { readonly options: StreamOptions; isEnded: boolean }[] = [];
  /** Renewals that have reached the server. */
  renewals = 0;
  /** The next so many calls are applied, and their answers lost. */
  answersLost = 0;
  /** Nothing arrives, nothing comes back; streams stay open. */
  isBlackHole = false;
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  isAlive(leaseId: string): boolean {
    return (this.deadlines.get(leaseId) ?? 0) > this.#clock.monoMs();
  }

  async call(method: string, request: Message): Promise<Uint8Array> {
    const { leaseId, ttl } = decode(request);
    this.calls.push(`${method.split('/')[2]} ${leaseId}`);
    if (this.isBlackHole) {
      throw new CallFailure(GrpcStatus.DEADLINE_EXCEEDED, 'silence', { wasSent: true });
    }
    const answer = this.#apply(method, leaseId, ttl);
    if (this.answersLost > 0) {
      this.answersLost--;
      throw new CallFailure(GrpcStatus.UNAVAILABLE, 'cut', { wasSent: true });
    }
    return answer;
  }

  open(_method: string, options: StreamOptions): DuplexStream {
    const stream = { options, isEnded: false };
    this.streams.push(stream);
    return {
      send: (message) => {
        if (stream.isEnded || this.isBlackHole) return;
        const { leaseId } = decode(message);
        this.renewals++;
        const ttl = this.isAlive(leaseId) ? (this.ttls.get(leaseId) ?? 0) : 0;
        if (ttl > 0) this.deadlines.set(leaseId, this.#clock.monoMs() + ttl * 1_000);
        queueMicrotask(() => {
          if (!stream.isEnded) options.onMessage(encode(leaseId, ttl));
        });
      },
      close: () => this.#end(stream, undefined),
    };
  }

  cut(): void {
    const failure = new CallFailure(GrpcStatus.UNAVAILABLE, 'cut', { wasSent: true });
    for (const stream of this.streams) this.#end(stream, failure);
  }

  async close(): Promise<void> {
    for (const stream of this.streams) this.#end(stream, undefined);
  }

  #end(stream: (typeof this.streams)[number], failure: CallFailure | undefined): void {
    if (stream.isEnded) return;
    stream.isEnded = true;
    stream.options.onEnd(failure);
  }

  #apply(method: string, leaseId: string, ttl: number): Uint8Array {
    if (method === GRANT_METHOD) {
      if (this.deadlines.has(leaseId)) {
        throw refusal(GrpcStatus.FAILED_PRECONDITION, 'etcdserver: lease already exists');
      }
      const granted = Math.max(TTL_SECONDS_MIN, ttl);
      this.ttls.set(leaseId, granted);
      this.deadlines.set(leaseId, this.#clock.monoMs() + granted * 1_000);
      return encode(leaseId, granted);
    }
    if (method === REVOKE_METHOD && !this.deadlines.delete(leaseId)) {
      throw refusal(GrpcStatus.NOT_FOUND, 'etcdserver: requested lease not found');
    }
    return encode(leaseId, 0);
  }
}

function refusal(status: number, message: string): CallFailure {
  return new CallFailure(status, message, { wasSent: true, isFromServer: true });
}

/** Grants have the ttl first and the id second; everything else has the id first. */
function decode(message: Message): { leaseId: LeaseId; ttl: number } {
  const reader = new Reader(message.subarray(PREFIX_BYTES));
  let [leaseId, ttl] = ['0' as LeaseId, 0];
  for (let tag = reader.tag(reader.length); tag !== 0; tag = reader.tag(reader.length)) {
    if (tag === 0x08) {
      const first = reader.leaseId() ?? leaseId;
      ttl = Number.parseInt(first, 16);
      leaseId = first;
    } else leaseId = reader.leaseId() ?? leaseId;
  }
  return { leaseId, ttl };
}

export function encode(leaseId: LeaseId | string, ttl: number): Uint8Array {
  const writer = new Writer();
  writer.uint(3, ttl);
  writer.leaseId(2, leaseId as LeaseId);
  return writer.finish().subarray(PREFIX_BYTES);
}
