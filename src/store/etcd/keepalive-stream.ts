/**
 * Renewals of any number of leases over one stream.
 *
 *   renew(a) renew(b) renew(a) -> | a b a ... |  one stream  | a b a ... | -> answers, in the order of the questions
 *
 * The server reads, renews and answers one after another, so the oldest question without an answer belongs to the next
 * answer; an answer for another lease means that this is not the protocol we know, and ends the stream.
 *
 * A stream is opened when somebody renews and there is none; when it ends, everybody who waits is told, and the next
 * renewal opens another. Silence ends it too: after `patienceMs` with an unanswered question. A call on the same
 * connection then makes the connection find out whether its member is still there, which an idle stream would do only
 * after ten seconds.
 *
 * Cost: one small message each way; no timer per renewal.
 */
import type { Clock, WakeUp } from '../../core/clock.js';
import { MillraceError } from '../../core/errors.js';
import { Fifo } from '../../core/fifo.js';
import type { Lease, LeaseId } from '../../core/store.js';
import { errorOf } from './failures.js';
import {
  decodeLease,
  encodeLeaseId,
  KEEP_ALIVE_METHOD,
  TIME_TO_LIVE_METHOD,
} from './lease-codec.js';
import { CallFailure, type DuplexStream, GrpcStatus, type Transport } from './transport.js';

const PATIENCE_MS = 3_000;

interface Question {
  readonly leaseId: LeaseId;
  readonly askedAtMs: number;
  readonly resolve: (lease: Lease) => void;
  readonly reject: (error: MillraceError) => void;
}

interface Open {
  readonly stream: DuplexStream;
  readonly questions: Fifo<Question>;
}

export class KeepAliveStream {
  readonly #transport: Transport;
  readonly #clock: Clock;
  readonly #patienceMs: number;
  #open: Open | undefined;
  #patience: WakeUp | undefined;
  #closed: MillraceError | undefined;

  /** @param patienceMs - how long an answer may take before the stream is given up. @defaultValue 3 s */
  constructor(transport: Transport, clock: Clock, patienceMs: number = PATIENCE_MS) {
    this.#transport = transport;
    this.#clock = clock;
    this.#patienceMs = patienceMs;
  }

  /**
   * @throws ERR_MILLRACE_LEASE_LOST when the lease has ended
   * @throws ERR_MILLRACE_STORE_UNAVAILABLE when there is no answer; it may have been renewed
   */
  renew(leaseId: LeaseId): Promise<Lease> {
    if (this.#closed) return Promise.reject(this.#closed);
    this.#open ??= this.#start();
    const { stream, questions } = this.#open;
    stream.send(encodeLeaseId(leaseId));
    return new Promise((resolve, reject) => {
      questions.push({ leaseId, askedAtMs: this.#clock.monoMs(), resolve, reject });
      if (this.#patience === undefined) this.#wait(this.#patienceMs);
    });
  }

  /** Ends the stream; who waits, and who comes, gets the error. */
  close(error: MillraceError): void {
    this.#closed ??= error;
    if (this.#open) this.#end(this.#open, error);
  }

  #start(): Open {
    const questions = new Fifo<Question>();
    const stream = this.#transport.open(KEEP_ALIVE_METHOD, {
      role: 'lease',
      onMessage: (body) => this.#onAnswer(open, body),
      onEnd: (failure) => this.#end(open, errorOf(failure ?? ended(), 'lease keep-alive')),
    });
    const open = { stream, questions };
    return open;
  }

  #onAnswer(open: Open, body: Uint8Array): void {
    if (this.#open !== open) return;
    let answer: Lease;
    try {
      answer = decodeLease(body);
    } catch (cause) {
      return this.#end(open, broken('an answer does not decode', cause));
    }
    const question = open.questions.shift();
    if (question?.leaseId !== answer.leaseId) {
      if (question) question.reject(broken('its answer got lost'));
      return this.#end(open, broken(`lease ${answer.leaseId} was answered out of turn`));
    }
    if (answer.ttlMs > 0) question.resolve(answer);
    else question.reject(hasEnded(answer.leaseId));
  }

  /** Looks whether the oldest question has waited too long, as long as there are any. */
  #wait(delayMs: number): void {
    this.#patience = this.#clock.wakeIn(delayMs, () => {
      this.#patience = undefined;
      const open = this.#open;
      const oldest = open?.questions.peek();
      if (!open || !oldest) return;
      const leftMs = oldest.askedAtMs + this.#patienceMs - this.#clock.monoMs();
      if (leftMs > 0) return this.#wait(leftMs);
      this.#probe(oldest.leaseId);
      const failure = new CallFailure(
        GrpcStatus.DEADLINE_EXCEEDED,
        `no answer within ${this.#patienceMs} ms`,
        { wasSent: true },
      );
      this.#end(open, errorOf(failure, 'lease keep-alive'));
    });
  }

  /** Its answer does not matter: a connection that owes one is pinged soon, and left when it is dead. */
  #probe(leaseId: LeaseId): void {
    this.#transport
      .call(TIME_TO_LIVE_METHOD, encodeLeaseId(leaseId), {
        role: 'lease',
        deadlineMs: this.#patienceMs,
      })
      .catch(() => {});
  }

  #end(open: Open, error: MillraceError): void {
    if (this.#open !== open) return;
    this.#open = undefined;
    this.#patience?.cancel();
    this.#patience = undefined;
    open.stream.close();
    for (const { reject } of open.questions.takeAll()) reject(error);
  }
}

function hasEnded(leaseId: LeaseId): MillraceError {
  return new MillraceError(
    'ERR_MILLRACE_LEASE_LOST',
    `lease ${leaseId} has ended, or was never granted; grant a new one`,
    { details: { leaseId } },
  );
}

function ended(): CallFailure {
  return new CallFailure(GrpcStatus.UNAVAILABLE, 'the server has ended the stream', {
    wasSent: true,
  });
}

function broken(what: string, cause?: unknown): MillraceError {
  return errorOf(
    new CallFailure(GrpcStatus.INTERNAL, what, { wasSent: true, cause }),
    'lease keep-alive',
  );
}
