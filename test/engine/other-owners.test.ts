import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ownerKey } from '../../src/coordination/shard-map.js';
import { ShardOwners } from '../../src/coordination/shard-owners.js';
import type { Entry, Revision, WatchEvent } from '../../src/core/store.js';
import { OtherOwners } from '../../src/engine/other-owners.js';

const REVISION = 1 as Revision;

function put(shard: number, node: string, queue = 'q'): WatchEvent {
  const entry: Entry = {
    key: ownerKey({ queue, shard }),
    value: Buffer.from(node),
    version: 1,
    createRevision: REVISION,
    modRevision: REVISION,
    leaseId: undefined,
  };
  return { type: 'put', entry };
}

function ownersOf(...events: readonly WatchEvent[]): ShardOwners {
  const owners = new ShardOwners();
  owners.hear({ kind: 'list', revision: REVISION, events });
  return owners;
}

test('others own what fits; this node is none of them, nor who owns nothing that fits', () => {
  const owners = ownersOf(put(0, 'self'), put(1, 'a'), put(2, 'b'), put(3, 'a'));
  const others = new OtherOwners(owners, 'self');
  assert.deepEqual(others.of('q', [0, 1, 3]), [{ node: 'a', shards: [1, 3] }]);
  assert.deepEqual(others.of('q', []), [
    { node: 'a', shards: [1, 3] },
    { node: 'b', shards: [2] },
  ]);
});

test('what was worked out is kept until an owner changes', () => {
  const owners = ownersOf(put(0, 'a'), put(1, 'b'));
  const others = new OtherOwners(owners, 'self');
  const fitting = [0, 1];
  const before = others.of('q', fitting);
  assert.equal(others.of('q', fitting), before);
  owners.hear({ kind: 'change', revision: REVISION, events: [put(1, 'c')] });
  assert.deepEqual(others.of('q', fitting), [
    { node: 'a', shards: [0] },
    { node: 'c', shards: [1] },
  ]);
  const gone = {
    type: 'delete',
    key: ownerKey({ queue: 'q', shard: 0 }),
    modRevision: REVISION,
  } as const;
  owners.hear({ kind: 'change', revision: REVISION, events: [gone] });
  assert.deepEqual(others.of('q', fitting), [{ node: 'c', shards: [1] }]);
});

test('one list of shards means the shards of the queue that is asked for', () => {
  const others = new OtherOwners(ownersOf(put(0, 'a'), put(0, 'b', 'mail')), 'self');
  const any: readonly number[] = [];
  assert.deepEqual(others.of('q', any), [{ node: 'a', shards: [0] }]);
  assert.deepEqual(others.of('mail', any), [{ node: 'b', shards: [0] }]);
});
