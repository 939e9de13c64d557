import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Writer } from '../../../src/store/etcd/protobuf.js';
import {
  bugsOfVersion,
  canAskProgress,
  decodeMemberUrls,
  decodeStatus,
} from '../../../src/store/etcd/server-facts.js';

test('each version has the bugs that were fixed after it, and none that came later', () => {
  const stalls = (version: string) =>
    bugsOfVersion(version).some((bug) => bug.includes('stall for seconds'));
  assert.deepEqual(['3.5.15', '3.5.16', '3.5.18', '3.5.19'].map(stalls), [
    false,
    true,
    true,
    false,
  ]);
  const drops = (version: string) =>
    bugsOfVersion(version).some((bug) => bug.includes('drop events'));
  assert.deepEqual(['3.4.30', '3.4.31', '3.5.12', '3.5.13', '3.6.0'].map(drops), [
    true,
    false,
    true,
    false,
    false,
  ]);
  assert.deepEqual(bugsOfVersion('3.7.1'), []);
  assert.deepEqual(bugsOfVersion('4.0.0'), []);
  assert.deepEqual(bugsOfVersion('not a version'), []);
  assert.match(bugsOfVersion('3.3.27')[0]!, /older than 3\.4/);
});

test('only servers that tell the truth are asked for progress', () => {
  assert.deepEqual(
    ['3.4.24', '3.4.25', '3.5.7', '3.5.8', '3.6.0', '4.0.0', ''].map(canAskProgress),
    [false, true, false, true, true, true, false],
  );
});

test('a status tells version, size and quota; the member list leaves learners out', () => {
  const writer = new Writer();
  writer.uint(12, 8_000);
  writer.uint(9, 3_000);
  writer.uint(3, 4_000);
  writer.utf8(2, '3.6.4');
  assert.deepEqual(decodeStatus(writer.finish().subarray(5)), {
    version: '3.6.4',
    databaseBytes: 4_000,
    databaseBytesInUse: 3_000,
    quotaBytes: 8_000,
  });
  for (const [url, isLearner] of [
    ['https://b:2379', true],
    ['https://a:2379', false],
  ] as const) {
    const mark = writer.open();
    writer.bool(5, isLearner);
    writer.utf8(4, url);
    writer.uint(1, 77);
    writer.close(2, mark);
  }
  assert.deepEqual(decodeMemberUrls(writer.finish().subarray(5)), ['https://a:2379']);
});
