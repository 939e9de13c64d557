/**
 * One stream to etcd that carries any number of watches, and comes back after every cut.
 *
 *            attach                      created            cut, or the server's end
 *   (none) ---------> creating (asked) ---------> running ----------------------------> waiting
 *                        ^                                                                 |
 *                        '------------ the next stream asks for all of them at once -------'
 *
 * Ids of watches are chosen here, so creates need not wait for one another: a stream that comes back asks for all its
 * watches in one flight, each from its own next revision. Answers to creates come in the order of the requests, and
 * that is how a refusal is told apart: it carries the id -1 and belongs to the oldest create without an answer. A
 * refused watch fails alone.
 *
 * What belongs to one stream (ids, half-received answers, who has been asked for) lives in a `Connection` and dies
 * with it: nothing that a dead stream still delivers can reach a watch that has been asked for anew.
 *
 * Progress: a watch whose range is quiet must still move on, or it holds back compaction. etcd says how far each watch
 * is every ten minutes by itself. Servers from 3.4.25 and 3.5.8 on can also be asked; the answer, if there is one,
 * speaks for all watches the stream had at that moment. It is believed for a watch when its revision is above the one
 * in the answer to the watch's create: a stream's requests are handled one after another, so the watch was there.
 * Older servers answer ahead of events that they have not sent (etcd#15220), so they are not asked.
 *
 * Fragments are asked for only after an answer was too large for a message (16 MiB), on the connection that follows.
 * They are dear: for each event that it adds to a fragment the server measures the whole fragment anew (sendFragments
 * in v3rpc/watch.go), which takes it seconds for tens of thousands of small events.
 *
 * Cost: per message a lookup by id. Source: etcd's client/v3/watch.go, and the list of what goes wrong without it in
 * docs/internals/etcd-watches.md.
 */
import { publish } from '../../core/channels.js';
import type { Clock, WakeUp } from '../../core/clock.js';
import { MillraceError } from '../../core/errors.js';
import { Fifo } from '../../core/fifo.js';
import type { Random } from '../../core/random.js';
import type { Revision, WatchClass } from '../../core/store.js';
import { errorOf } from './failures.js';
import { RevisionJoiner } from './revision-joiner.js';
import { CallFailure, type DuplexStream, GrpcStatus, type Transport } from './transport.js';
import {
  decodeWatchResponse,
  encodeProgressRequest,
  encodeWatchCancel,
  encodeWatchCreate,
  NO_WATCH,
  WATCH_METHOD,
  type WatchResponse,
} from './watch-codec.js';
import type { WatchSubscription } from './watch-subscription.js';

const REOPEN_MIN_MS = 50;
const REOPEN_MAX_MS = 2_000;

export interface WatchStreamOptions {
  readonly class: WatchClass;
  /** How often to ask how far the stream is; undefined for servers that cannot be asked. */
  readonly progressEveryMs: () => number | undefined;
  /** Called with what every answer says about the cluster. @returns whether it is not the one it was */
  readonly onHeader: (clusterId: string | undefined, revision: Revision) => boolean;
}

/** One watch on one connection. */
interface Attachment {
  readonly watchId: number;
  /** Undefined once nobody wants it any more. */
  subscription: WatchSubscription | undefined;
  readonly joiner: RevisionJoiner;
  /** The member's revision when it answered the create; no progress of the stream concerns the watch before that. */
  createdAt: number;
}

export class WatchStream {
  readonly #transport: Transport;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #options: WatchStreamOptions;
  readonly #subscriptions = new Set<WatchSubscription>();
  #connection: Connection | undefined;
  #reopening: WakeUp | undefined;
  #failedOpens = 0;
  /** Whether the next connection asks for fragments. */
  #isFragmented = false;
  #isClosed = false;

  constructor(transport: Transport, clock: Clock, random: Random, options: WatchStreamOptions) {
    this.#transport = transport;
    this.#clock = clock;
    this.#random = random;
    this.#options = options;
  }

  /** How many watches it carries, or will when it is back. */
  get size(): number {
    return this.#subscriptions.size;
  }

  /** Delivers to the subscription from its next revision on, until it is detached. */
  attach(subscription: WatchSubscription): void {
    if (this.#isClosed) return;
    this.#subscriptions.add(subscription);
    if (this.#connection) this.#connection.create(subscription);
    else if (!this.#reopening) this.#open();
  }

  detach(subscription: WatchSubscription): void {
    if (this.#subscriptions.delete(subscription)) this.#connection?.cancel(subscription);
  }

  close(): void {
    this.#isClosed = true;
    this.#subscriptions.clear();
    this.#reopening?.cancel();
    this.#connection?.close();
    this.#connection = undefined;
  }

  #open(): void {
    this.#reopening = undefined;
    if (this.#subscriptions.size === 0) return;
    const setup = { ...this.#options, isFragmented: this.#isFragmented };
    const connection = new Connection(this.#transport, this.#clock, setup, {
      onAnswer: () => {
        this.#failedOpens = 0;
      },
      onAgain: (subscription) => this.#attachLater(subscription),
      onEnd: (failure) => {
        if (this.#connection === connection) this.#onCut(failure);
      },
    });
    this.#connection = connection;
    for (const subscription of this.#subscriptions) connection.create(subscription);
  }

  #onCut(failure: CallFailure): void {
    this.#connection = undefined;
    if (this.#isClosed) return;
    const isTooLarge = isAnswerTooLarge(failure) && !this.#isFragmented;
    this.#isFragmented = isTooLarge;
    for (const subscription of this.#subscriptions) subscription.cut();
    publish('millrace:watch:cut', () => ({
      class: this.#options.class,
      watches: this.#subscriptions.size,
      cause: errorOf(failure, 'watch'),
    }));
    const delayMs = isTooLarge ? 0 : this.#pauseMs(this.#failedOpens++);
    this.#reopening = this.#clock.wakeIn(delayMs, () => this.#open());
  }

  /** For a watch that the server has ended for no reason that would come back: asks for it again, in a while. */
  #attachLater(subscription: WatchSubscription): void {
    this.#subscriptions.delete(subscription);
    this.#clock.wakeIn(this.#pauseMs(2), () => {
      if (!subscription.isEnded && !subscription.isLagging) this.attach(subscription);
    });
  }

  /** Growing, half of it random: clients that were cut off together do not come back together. */
  #pauseMs(failures: number): number {
    const ceilingMs = Math.min(REOPEN_MAX_MS, REOPEN_MIN_MS * 2 ** failures);
    return ceilingMs * (0.5 + this.#random.float() / 2);
  }
}

interface ConnectionEvents {
  /** The server has answered a create. */
  onAnswer(): void;
  /** The server ended a watch that should go on. */
  onAgain(subscription: WatchSubscription): void;
  onEnd(failure: CallFailure): void;
}

interface ConnectionSetup extends WatchStreamOptions {
  readonly isFragmented: boolean;
}

/** One stream from its opening to its end, with everything that dies with it. */
class Connection {
  readonly #options: ConnectionSetup;
  readonly #events: ConnectionEvents;
  readonly #clock: Clock;
  readonly #stream: DuplexStream;
  readonly #byId = new Map<number, Attachment>();
  readonly #bySubscription = new Map<WatchSubscription, Attachment>();
  /** Creates without an answer, oldest first. */
  readonly #asked = new Fifo<Attachment>();
  #nextId = 1;
  #progressTimer: WakeUp | undefined;
  #isEnded = false;

  constructor(
    transport: Transport,
    clock: Clock,
    options: ConnectionSetup,
    events: ConnectionEvents,
  ) {
    this.#options = options;
    this.#events = events;
    this.#clock = clock;
    this.#stream = transport.open(WATCH_METHOD, {
      role: 'watch',
      onMessage: (body) => this.#onMessage(body),
      onEnd: (failure) => this.#end(failure ?? ended()),
    });
    this.#armProgress();
  }

  create(subscription: WatchSubscription): void {
    const attachment: Attachment = {
      watchId: this.#nextId++,
      subscription,
      joiner: new RevisionJoiner(),
      createdAt: Number.POSITIVE_INFINITY,
    };
    this.#byId.set(attachment.watchId, attachment);
    this.#bySubscription.set(subscription, attachment);
    this.#asked.push(attachment);
    this.#stream.send(
      encodeWatchCreate({
        watchId: attachment.watchId,
        range: subscription.range,
        startRevision: subscription.nextRevision,
        isFragmented: this.#options.isFragmented,
      }),
    );
  }

  cancel(subscription: WatchSubscription): void {
    const attachment = this.#bySubscription.get(subscription);
    if (!attachment) return;
    this.#forget(attachment);
    this.#stream.send(encodeWatchCancel(attachment.watchId));
  }

  close(): void {
    this.#isEnded = true;
    this.#progressTimer?.cancel();
    this.#stream.close();
  }

  /** Nobody is told anything through it any more. A create that is on its way still keeps its place in the queue. */
  #forget(attachment: Attachment): void {
    if (attachment.subscription) this.#bySubscription.delete(attachment.subscription);
    attachment.subscription = undefined;
    this.#byId.delete(attachment.watchId);
  }

  #onMessage(body: Uint8Array): void {
    if (this.#isEnded) return;
    let response: WatchResponse;
    try {
      response = decodeWatchResponse(
        body,
        (id) => this.#byId.get(id)?.subscription?.prefixLength ?? 0,
      );
    } catch (cause) {
      return this.#end(broken('an answer does not decode', cause));
    }
    if (this.#options.onHeader(response.clusterId, response.revision)) return;
    if (response.isCreated) this.#onCreated(response);
    else if (response.watchId === NO_WATCH) this.#onStreamProgress(response);
    else {
      const attachment = this.#byId.get(response.watchId);
      // What is still on its way for a watch that was let go.
      if (!attachment?.subscription) return;
      if (response.isCanceled) this.#onCanceled(attachment, response);
      else this.#onEvents(attachment, attachment.subscription, response);
    }
  }

  #onCreated(response: WatchResponse): void {
    this.#events.onAnswer();
    const attachment = this.#asked.shift();
    if (!attachment || (response.watchId > 0 && response.watchId !== attachment.watchId)) {
      return this.#end(broken(`create of watch ${response.watchId} answered out of order`));
    }
    attachment.createdAt = response.revision;
    if (response.isCanceled) this.#onCanceled(attachment, response);
    else attachment.subscription?.began(response.revision);
  }

  #onEvents(
    attachment: Attachment,
    subscription: WatchSubscription,
    response: WatchResponse,
  ): void {
    const { events, isFragment, revision } = response;
    if (events.length > 0 || isFragment || attachment.joiner.isHolding) {
      subscription.receive(attachment.joiner.add(events, isFragment));
    } else {
      subscription.progress(revision);
    }
  }

  #onStreamProgress({ revision }: WatchResponse): void {
    for (const { createdAt, joiner, subscription } of this.#byId.values()) {
      if (createdAt < revision && !joiner.isHolding) subscription?.progress(revision);
    }
  }

  #onCanceled(attachment: Attachment, response: WatchResponse): void {
    const { subscription } = attachment;
    if (!subscription) return;
    this.#forget(attachment);
    const { compactRevision, cancelReason } = response;
    if (compactRevision > 0) {
      const failure = compacted(subscription.nextRevision, compactRevision);
      if (subscription.compacted(compactRevision, failure)) this.create(subscription);
    } else if (/invalid auth token|auth store is old/.test(cancelReason)) {
      // The token belongs to the stream: a new one begins with a new token.
      this.#end(refused(GrpcStatus.UNAUTHENTICATED, cancelReason));
    } else if (cancelReason.includes('permission denied')) {
      subscription.fail(errorOf(refused(GrpcStatus.PERMISSION_DENIED, cancelReason), 'watch'));
    } else if (response.isCreated) {
      subscription.fail(errorOf(refused(GrpcStatus.UNKNOWN, cancelReason), 'watch'));
    } else {
      this.#events.onAgain(subscription);
    }
  }

  #armProgress(): void {
    const everyMs = this.#options.progressEveryMs();
    if (everyMs === undefined) return;
    this.#progressTimer = this.#clock.wakeIn(everyMs, () => {
      this.#armProgress();
      if (this.#byId.size === 0) return;
      this.#stream.send(encodeProgressRequest());
    });
  }

  #end(failure: CallFailure): void {
    if (this.#isEnded) return;
    this.close();
    this.#events.onEnd(failure);
  }
}

/** The transport has refused to take it; a server says RESOURCE_EXHAUSTED for other reasons. */
function isAnswerTooLarge({ status, isFromServer }: CallFailure): boolean {
  return status === GrpcStatus.RESOURCE_EXHAUSTED && !isFromServer;
}

function ended(): CallFailure {
  return new CallFailure(GrpcStatus.UNAVAILABLE, 'the server has ended the stream', {
    wasSent: true,
  });
}

function broken(what: string, cause?: unknown): CallFailure {
  return new CallFailure(GrpcStatus.INTERNAL, what, { wasSent: true, cause });
}

function refused(status: number, reason: string): CallFailure {
  const message = reason === '' ? 'the server refused the watch without a reason' : reason;
  return new CallFailure(status, message, { wasSent: true, isFromServer: true });
}

function compacted(revision: number, compactRevision: number): MillraceError {
  return new MillraceError(
    'ERR_MILLRACE_COMPACTED',
    `revision ${revision} is no longer kept, the oldest is ${compactRevision}; read the range again and go on from its revision`,
    { details: { revision, compactRevision } },
  );
}
