import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type KafkaBusOptions, kafkaBus } from '../../src/tenancy/kafka/kafka-bus.js';

test('options that cannot be meant are refused at once', () => {
  const bad = (options: unknown): void => {
    assert.throws(() => kafkaBus(options as KafkaBusOptions), /ERR_MILLRACE_INVALID|give|option/);
  };
  bad({});
  bad({ brokers: [] });
  bad({ brokers: 'a:1', topic: 'with space' });
  bad({ brokers: 'a:1', recheck: '10ms' });
  bad({ brokers: 'a:1', recheck: 'soon' });
  bad({ brokers: 'a:1', topics: 'x' });
  assert.equal(kafkaBus({ brokers: 'a:1' }).kind, 'kafka');
});
