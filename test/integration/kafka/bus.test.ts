/**
 * The Kafka adapter under the contract of buses: against the protocol-level fake of test/support/kafka.ts, and against a
 * real broker when `KAFKA_BROKERS` names one (`KAFKA_BROKERS=localhost:9092 node scripts/test.mjs kafka`).
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { seededRandom } from '../../../src/core/random.js';
import { createMetadata, kafkaBus } from '../../../src/create-metadata.js';
import { memoryStore } from '../../../src/store/index.js';
import { Metadata } from '../../../src/tenancy/metadata.js';
import { systemClock } from '../../../src/timing/system-clock.js';
import { type FakeBroker, startFakeBroker } from '../../support/kafka.js';
import { soon, until } from '../../support/limit.js';
import { type BusUnderTest, busContract } from '../../tenancy/bus-contract.js';

const clock = systemClock;
let topics = 0;

function overKafka(brokers: readonly string[]): BusUnderTest {
  const factory = memoryStore();
  const topic = `millrace-test-${process.pid}-${++topics}`;
  return {
    async join(t) {
      const store = await factory.open({ clock });
      const random = seededRandom(topics * 100 + process.hrtime()[1]);
      // Longer than any case: what is heard is heard over Kafka.
      const bus = await kafkaBus({ brokers, topic, recheck: '10m' }).open({ clock, random });
      const metadata = new Metadata({ clock, random, store, bus, cacheBytes: 1024 ** 2 });
      t.after(() => metadata.stop().then(() => store.close()));
      await soon('kafka', metadata.start());
      return metadata;
    },
  };
}

describe('kafka', () => {
  let broker: FakeBroker;
  before(async () => {
    broker = await startFakeBroker();
  });
  after(() => broker.close());

  busContract('kafka, faked', async () => overKafka([broker.address]));

  test('a message that is not ours is told, and the next one is heard', async (t) => {
    const bus = overKafka([broker.address]);
    const a = await bus.join(t);
    const b = await bus.join(t);
    const { Kafka, logLevel } = (await import('kafkajs')).default;
    const client = new Kafka({ brokers: [broker.address], logLevel: logLevel.NOTHING });
    const producer = client.producer();
    await producer.connect();
    const topic = `millrace-test-${process.pid}-${topics}`;
    await producer.send({ topic, messages: [{ key: 'acme', value: 'hello' }, { value: null }] });
    await producer.disconnect();
    const told: unknown[] = [];
    b.watch('acme', 'x', '1', (entry) => told.push(entry?.value));
    await until('the first', () => told.length === 1);
    await a.put('acme', 'x', '1', 1);
    await until('the second', () => told.at(-1) === 1);
  });

  test('brokers that do not answer are an error of createMetadata, not a silence', async () => {
    const bus = kafkaBus({ brokers: ['127.0.0.1:1'] });
    await assert.rejects(soon('it gives up', createMetadata(memoryStore(), { bus }), 60_000), {
      code: 'ERR_MILLRACE_STORE_UNAVAILABLE',
      message: /^kafka: /,
    });
  });
});

const { KAFKA_BROKERS } = process.env;
if (KAFKA_BROKERS !== undefined) {
  busContract('kafka', async () => overKafka(KAFKA_BROKERS.split(',')));
}
