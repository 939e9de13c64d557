import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ownerKey } from '../../src/coordination/shard-map.js';
import { ownerOfEntry, ShardOwners } from '../../src/coordination/shard-owners.js';
import type { Entry, Revision, WatchEvent } from '../../src/core/store.js';

const at = (revision: number): Revision => revision as Revision;

function put(queue: string, shard: number, node: string, revision = 1): WatchEvent {
  const entry: Entry = {
    key: ownerKey({ queue, shard }),
    value: Buffer.from(node),
    version: 1,
    createRevision: at(revision),
    modRevision: at(revision),
    leaseId: undefined,
  };
  return { type: 'put', entry };
}

function gone(queue: string, shard: number): WatchEvent {
  return { type: 'delete', key: ownerKey({ queue, shard }), modRevision: at(9) };
}

test('an owner key tells queue, shard, node and epoch', () => {
  const event = put('mail', 37, 'a', 5);
  assert.ok(event.type === 'put');
  assert.equal(event.entry.key, 'o/mail/11');
  assert.deepEqual(ownerOfEntry(event.entry), { queue: 'mail', shard: 37, node: 'a', epoch: 5 });
});

test('a node owns shards from their keys to their end, and is no owner without any', () => {
  const owners = new ShardOwners();
  const events = [put('q', 0, 'a'), put('q', 1, 'b'), put('q', 2, 'a'), put('other', 0, 'c')];
  owners.hear({ kind: 'list', revision: at(1), events });
  assert.deepEqual(owners.nodesOf('q'), ['a', 'b']);
  assert.deepEqual(owners.shardsOf('q', 'a'), [0, 2]);
  owners.hear({ kind: 'change', revision: at(2), events: [gone('q', 1)] });
  assert.deepEqual(owners.nodesOf('q'), ['a']);
  // From one owner to the next in what was told as one change.
  owners.hear({ kind: 'relist', revision: at(3), events: [put('q', 0, 'b', 3)] });
  assert.deepEqual(owners.shardsOf('q', 'a'), [2]);
  assert.deepEqual(owners.shardsOf('q', 'b'), [0]);
  assert.deepEqual(owners.nodesOf('unknown'), []);
  assert.deepEqual(owners.shardsOf('unknown', 'a'), []);
});

test('a first list says by silence what is gone', () => {
  const owners = new ShardOwners();
  owners.hear({ kind: 'list', revision: at(1), events: [put('q', 0, 'a'), put('q', 1, 'b')] });
  owners.hear({ kind: 'list', revision: at(2), events: [put('q', 1, 'b')] });
  assert.deepEqual(owners.nodesOf('q'), ['b']);
});
