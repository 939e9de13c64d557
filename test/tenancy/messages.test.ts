import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Revision } from '../../src/core/store.js';
import { decodeNews, encodeNews } from '../../src/tenancy/kafka/messages.js';
import { counterKey, entryKey } from '../../src/tenancy/keys.js';

const news = {
  counter: counterKey('a:b'),
  oldRevision: 4 as Revision,
  newRevision: 9 as Revision,
  changes: ['1', '2'].map((id) => ({ key: entryKey('a:b', 'x', id), entry: undefined })),
};

test('a write travels as one message of events, keyed by its tenant', () => {
  const { key, value } = encodeNews(news);
  assert.equal(key, 'a:b');
  assert.deepEqual(JSON.parse(value)[0], {
    tenant_id: 'a:b',
    key: 'ns:a%3Ab:x:1',
    old_rev: 4,
    new_rev: 9,
  });
  assert.deepEqual(decodeNews(Buffer.from(value)), news);
});

test('what is no list of events of one write is refused', () => {
  const event = JSON.parse(encodeNews(news).value)[0] as object;
  const refused = (value: unknown): void => {
    const bytes = Buffer.from(typeof value === 'string' ? value : JSON.stringify(value));
    assert.throws(() => decodeNews(bytes), { code: 'ERR_MILLRACE_STORE_CORRUPT' });
  };
  refused('{');
  refused({});
  refused([null]);
  refused([{ ...event, tenant_id: 'other' }]);
  refused([{ ...event, key: 'ns:a%3Ab:revision' }]);
  refused([{ ...event, new_rev: 4 }]);
  refused([{ ...event, old_rev: '4' }]);
  refused([event, { ...event, new_rev: 10 }]);
  refused(Array.from({ length: 129 }, () => event));
  assert.equal(decodeNews(Buffer.from('[]')), undefined);
});
