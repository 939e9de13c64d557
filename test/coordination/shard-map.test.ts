import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Member } from '../../src/coordination/members.js';
import {
  encodeWaiting,
  ShardMap,
  shardRecord,
  waitingKey,
} from '../../src/coordination/shard-map.js';
import type { Revision } from '../../src/core/store.js';

const QUEUE = { queue: 'default', shardCount: 64 };

function member(node: string, tasks: readonly string[], queue = QUEUE): Member {
  return {
    node,
    record: shardRecord([queue], 1, tasks),
    joinedAt: 1 as Revision,
    leaseId: undefined,
  };
}

function mapOf(...members: readonly Member[]): ShardMap {
  const map = new ShardMap();
  map.setMembers(members);
  return map;
}

describe('ShardMap', () => {
  test('members of a queue share its shards, those of another get none', () => {
    const other = { queue: 'other', shardCount: 64 };
    const map = mapOf(member('a', ['x']), member('b', ['x']), member('c', ['x'], other));
    const owners = map.ownersOf(QUEUE);
    assert.deepEqual([...new Set(owners)].sort(), ['a', 'b']);
    assert.deepEqual(new Set(map.ownersOf(other)), new Set(['c']));
  });

  test('tasks of a type are put to shards of those that run it', () => {
    const map = mapOf(member('a', ['x']), member('b', ['x', 'y']));
    const owners = map.ownersOf(QUEUE);
    assert.equal(map.shardsFor('x', QUEUE).length, 64);
    const forY = map.shardsFor('y', QUEUE);
    assert.ok(forY.length > 0 && forY.every((shard) => owners[shard] === 'b'));
    assert.deepEqual(map.shardsFor('z', QUEUE), []);
    assert.equal(map.isRun('default', 'y'), true);
    assert.equal(map.isRun('default', 'z'), false);
  });

  test('what fits a type is one list, until members or what waits change', () => {
    const map = mapOf(member('a', ['x']), member('b', ['x', 'y']));
    const first = map.shardsFor('y', QUEUE);
    assert.equal(map.shardsFor('y', QUEUE), first);
    const shard = map.ownersOf(QUEUE).indexOf('a');
    map.setWaiting(waitingKey({ queue: 'default', shard }), encodeWaiting('y'));
    assert.deepEqual(
      map.shardsFor('y', QUEUE),
      [...first, shard].sort((a, b) => a - b),
    );
    map.forgetWaiting();
    assert.deepEqual(map.shardsFor('y', QUEUE), first);
    map.setMembers([member('a', ['y'])]);
    assert.equal(map.shardsFor('y', QUEUE).length, 64);
  });

  test('who runs nothing is not counted among those that run tasks', () => {
    const producer = { ...member('c', []), record: shardRecord([]) };
    const stranger = { ...member('d', []), record: { queues: 'default' } };
    const other = member('b', ['x'], { queue: 'other', shardCount: 1 });
    assert.equal(mapOf(member('a', ['x']), other, producer, stranger).runnerCount, 2);
    assert.equal(new ShardMap().runnerCount, 0);
  });

  test('a shard where a type waits goes to a member that runs it, and no other shard moves', () => {
    const map = mapOf(member('a', ['x']), member('b', ['x', 'y']));
    const before = [...map.ownersOf(QUEUE)];
    const shard = before.indexOf('a');
    const at = { queue: 'default', shard };
    map.setWaiting(waitingKey(at), encodeWaiting('y'));
    const after = map.ownersOf(QUEUE);
    assert.equal(after[shard], 'b');
    assert.deepEqual(
      after.map((owner, i) => (i === shard ? 'a' : owner)),
      before,
    );
    assert.equal(map.waitingAt(at), 'y');
    assert.equal(map.isRunByAll('default', 'y'), false);
    map.setWaiting(waitingKey(at), undefined);
    assert.deepEqual(map.ownersOf(QUEUE), before);
  });

  test('while nobody runs what waits, it means nothing; nor does what cannot be read', () => {
    const map = mapOf(member('a', ['x']), member('b', ['x']));
    const before = [...map.ownersOf(QUEUE)];
    for (const value of [
      encodeWaiting('y'),
      Buffer.from('{"format":9,"type":"x"}'),
      Buffer.from('{'),
    ]) {
      for (let shard = 0; shard < 64; shard++) {
        map.setWaiting(waitingKey({ queue: 'default', shard }), value);
      }
      assert.deepEqual(map.ownersOf(QUEUE), before);
    }
  });

  test('before members are known nothing is said to have nobody', () => {
    assert.equal(new ShardMap().isRun('default', 'x'), true);
    assert.deepEqual(new ShardMap().shardsFor('x', QUEUE), []);
  });
});
