/**
 * The sync bus over Kafka: a message for each write, keyed by its tenant.
 *
 *   writer -- idempotent producer --> topic, partition of the tenant --> a consumer group for each process
 *
 * A message is a JSON list of events, one for each entry the write changed: `{ tenant_id, key, old_rev, new_rev }`, with
 * the key and revisions of the store. It carries no values: who has the entry cached reads it again.
 *
 * Every process has to hear everything, so each has a group of its own, with a name that nobody else has; what was
 * published before it came is of no interest. From joining to the first fetch nothing is heard, as after each time the
 * group had to be joined again: then everything that is cached is re-checked against the store. That, the chain of each
 * tenant's writes, and a re-check every `recheck` make up for what Kafka loses and for writers that died between the
 * write and its message.
 *
 * kafkajs is an optional peer dependency, loaded when the bus is opened. 2.2.4 is its last version and runs on every
 * Node from 20 on.
 */
import { publish } from '../../core/channels.js';
import { type Duration, durationMs } from '../../core/durations.js';
import { isMillraceError, MillraceError } from '../../core/errors.js';
import { newIncarnation } from '../../core/ids.js';
import { invalidOption, knownOptions } from '../../core/options.js';
import type { Bus, BusFactory, BusListener, News } from '../bus.js';
import { decodeNews, encodeNews } from './messages.js';

export interface KafkaBusOptions {
  /** `'host:9092'`; those of the cluster are learnt from any that answers. */
  readonly brokers: string | readonly string[];
  /** One for each store and namespace: revisions of two stores have nothing to do with each other. @defaultValue 'millrace-metadata' */
  readonly topic?: string;
  /** As kafkajs takes them: `true`, or options of TLS. @defaultValue false */
  readonly ssl?: unknown;
  /** As kafkajs takes it: `{ mechanism: 'plain', username, password }` and so on. @defaultValue none */
  readonly sasl?: unknown;
  /** How often everything cached is compared with the store. A lost message is made good by then. @defaultValue '30s' */
  readonly recheck?: Duration;
}

/** Enough between two heartbeats; an empty topic is asked so often. */
const FETCH_WAIT_MS = 250;
const RECHECK_MS = 30_000;
const RECHECK_MS_MIN = 100;
const TOPIC_FORM = /^[A-Za-z0-9._-]{1,249}$/;

const KNOWN: Readonly<Record<keyof KafkaBusOptions, true>> = {
  brokers: true,
  topic: true,
  ssl: true,
  sasl: true,
  recheck: true,
};

/**
 * Describes a bus over Kafka, for `createMetadata(store, { bus })`. Needs `kafkajs` beside millrace.
 *
 * @throws ERR_MILLRACE_INVALID_OPTION, ERR_MILLRACE_INVALID_DURATION, at once for options; `createMetadata` rejects with
 *   ERR_MILLRACE_INVALID_OPTION when kafkajs is not installed, and ERR_MILLRACE_STORE_UNAVAILABLE when no broker answers
 */
export function kafkaBus(options: KafkaBusOptions): BusFactory {
  const given = knownOptions(options, 'kafkaBus.', KNOWN);
  const brokers = typeof given.brokers === 'string' ? [given.brokers] : given.brokers;
  if (!Array.isArray(brokers) || brokers.length === 0) {
    throw invalidOption(
      'kafkaBus.brokers',
      given.brokers,
      "at least one, such as ['localhost:9092']",
    );
  }
  const topic = given.topic ?? 'millrace-metadata';
  if (typeof topic !== 'string' || !TOPIC_FORM.test(topic)) {
    throw invalidOption('kafkaBus.topic', topic, 'letters, digits, dots, dashes and underscores');
  }
  const recheckMs = durationMs(given.recheck ?? RECHECK_MS, 'kafkaBus.recheck');
  if (recheckMs < RECHECK_MS_MIN) {
    throw invalidOption('kafkaBus.recheck', given.recheck, `at least ${RECHECK_MS_MIN}ms`);
  }
  return {
    kind: 'kafka',
    async open({ random }) {
      const { Kafka, logLevel } = await loadKafkajs();
      const client = new Kafka({
        clientId: 'millrace',
        brokers: [...brokers] as string[],
        logLevel: logLevel.NOTHING,
        ...(given.ssl !== undefined && { ssl: given.ssl as boolean }),
        ...(given.sasl !== undefined && { sasl: given.sasl as never }),
      });
      const groupId = `millrace-${newIncarnation(() => random.u32())}`;
      return new KafkaBus(client, { topic, groupId, recheckMs });
    },
  };
}

type Kafkajs = typeof import('kafkajs');
type Client = import('kafkajs').Kafka;
type Consumer = import('kafkajs').Consumer;
type Producer = import('kafkajs').Producer;

async function loadKafkajs(): Promise<Kafkajs> {
  try {
    const module = (await import('kafkajs')) as Kafkajs & { readonly default?: Kafkajs };
    return module.default ?? module;
  } catch (cause) {
    throw new MillraceError(
      'ERR_MILLRACE_INVALID_OPTION',
      'kafkaBus needs kafkajs, which is not installed; run: npm install kafkajs@2',
      { cause },
    );
  }
}

class KafkaBus implements Bus {
  readonly isOrdered = false;
  readonly recheckMs: number;
  readonly #topic: string;
  readonly #consumer: Consumer;
  readonly #producer: Producer;
  #isStopped = false;
  #starting: Promise<void> | undefined;

  constructor(
    client: Client,
    settings: { readonly topic: string; readonly groupId: string; readonly recheckMs: number },
  ) {
    this.recheckMs = settings.recheckMs;
    this.#topic = settings.topic;
    this.#producer = client.producer({ idempotent: true, maxInFlightRequests: 1 });
    this.#consumer = client.consumer({
      groupId: settings.groupId,
      maxWaitTimeInMs: FETCH_WAIT_MS,
      // It goes on trying whatever the cause: without it this process would fall behind in silence.
      retry: { restartOnFailure: async () => !this.#isStopped },
    });
  }

  start(listener: BusListener): Promise<void> {
    this.#starting ??= this.#start(listener);
    return this.#starting;
  }

  async publish(news: News): Promise<void> {
    // An entry that ended with its lease is no write; nobody tells of it.
    if (this.#isStopped || news.oldRevision === undefined) return;
    const { key, value } = encodeNews(news);
    await this.#producer.send({ topic: this.#topic, messages: [{ key, value }] });
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#starting?.catch(() => {});
    await Promise.allSettled([this.#consumer.disconnect(), this.#producer.disconnect()]);
  }

  async #start(listener: BusListener): Promise<void> {
    if (this.#isStopped) return;
    try {
      await this.#producer.connect();
      await this.#consumer.connect();
      await this.#consumer.subscribe({ topic: this.#topic, fromBeginning: false });
      const isHearing = this.#followJoins(listener);
      await this.#consumer.run({
        autoCommit: false,
        eachBatch: async ({ batch: { messages, partition } }) => {
          for (const { value, offset } of messages)
            this.#hear(listener, value, `${partition}/${offset}`);
        },
      });
      await isHearing;
    } catch (cause) {
      if (isMillraceError(cause)) throw cause;
      throw new MillraceError(
        'ERR_MILLRACE_STORE_UNAVAILABLE',
        `kafka: ${cause instanceof Error ? cause.message : String(cause)}`,
        { cause },
      );
    }
    // What was written since the cache began, and before the first fetch.
    if (!this.#isStopped) await listener.recheck();
  }

  /** Re-checks each time the group has been joined again. @returns when the first fetch has come back */
  #followJoins(listener: BusListener): Promise<void> {
    const { GROUP_JOIN, FETCH } = this.#consumer.events;
    // Offsets are looked up by the first fetch after a join: from its answer on everything is heard.
    let hasJoined = false;
    let isFirst = true;
    this.#consumer.on(GROUP_JOIN, () => {
      hasJoined = true;
    });
    return new Promise((resolve) => {
      this.#consumer.on(FETCH, () => {
        if (!hasJoined) return;
        hasJoined = false;
        if (isFirst) resolve();
        else {
          // The regular one makes it good.
          listener.recheck().catch(() => {});
        }
        isFirst = false;
      });
    });
  }

  #hear(listener: BusListener, value: Uint8Array | null, place: string): void {
    try {
      const news = decodeNews(value ?? new Uint8Array(0));
      if (news !== undefined) listener.onNews(news);
    } catch (cause) {
      if (!isMillraceError(cause)) throw cause;
      publish('millrace:store:corrupt', () => ({ key: `${this.#topic}/${place}`, cause }));
    }
  }
}
