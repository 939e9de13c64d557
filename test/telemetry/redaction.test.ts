import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { REDACTED, Redaction, withoutCredentials } from '../../src/telemetry/redaction.js';

const redaction = new Redaction(['iban']);
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(redaction.of(value)));

test('values of secret fields are replaced at any depth, however their names are spelt', () => {
  assert.deepEqual(
    plain({
      user: 'ann',
      Password: 'a',
      headers: [{ Authorization: 'Bearer b', 'set-cookie': ['c'] }],
      deep: { api_key: { id: 1 }, IBAN: 'DE00' },
    }),
    {
      user: 'ann',
      Password: REDACTED,
      headers: [{ Authorization: REDACTED, 'set-cookie': REDACTED }],
      deep: { api_key: REDACTED, IBAN: REDACTED },
    },
  );
});

test('what is handed in stays as it was', () => {
  const fields = { token: 't', list: [{ secret: 's' }] };
  redaction.of(fields);
  assert.deepEqual(fields, { token: 't', list: [{ secret: 's' }] });
});

test('user and password of a URL are replaced wherever text is', () => {
  assert.equal(
    withoutCredentials('connect postgres://ann:s3cret@db:5432/x and https://host/a:b@c failed'),
    `connect postgres://${REDACTED}@db:5432/x and https://host/a:b@c failed`,
  );
  assert.deepEqual(plain({ at: ['amqp://u:p@h'] }), { at: [`amqp://${REDACTED}@h`] });
});

test('a field called __proto__ is a field', () => {
  const copy = redaction.of(JSON.parse('{"__proto__": {"polluted": 1}}')) as object;
  assert.deepEqual(Object.keys(copy), ['__proto__']);
  assert.equal(({} as { polluted?: number }).polluted, undefined);
});

test('no JSON value makes it throw or leak', () => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.jsonValue(), (value, other) => {
      const text = JSON.stringify(redaction.of({ value, nested: { password: [other, 'canary'] } }));
      assert.ok(!text.includes('canary'));
    }),
  );
});

test('long hostile text is searched in linear time', () => {
  const startedAt = performance.now();
  for (const part of ['a://', 'a://x:', 'a://:@', '://', 'aaaa:']) {
    withoutCredentials(part.repeat(20_000));
  }
  assert.ok(performance.now() - startedAt < 1_000);
});
