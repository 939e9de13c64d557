import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seededRandom } from '../../src/core/random.js';
import { Ulids } from '../../src/tenancy/ulid.js';
import { VirtualClock } from '../../src/testing/index.js';

test('ids rise, also within a millisecond and while the clock runs back', async () => {
  const clock = new VirtualClock();
  const ulids = new Ulids(clock, seededRandom(1));
  const ids: string[] = [];
  for (let i = 0; i < 300; i++) {
    ids.push(ulids.next());
    if (i % 100 === 50) await clock.advance(1);
    if (i === 200) clock.jumpWall(-5_000);
  }
  assert.deepEqual([...ids].sort(), ids);
  assert.equal(new Set(ids).size, ids.length);
});

test('an id begins with its time, as the ULID specification has it', () => {
  const clock = new VirtualClock(1_469_918_176_385);
  const id = new Ulids(clock, seededRandom(1)).next();
  assert.match(id, /^01ARYZ6S41[0-9A-HJKMNP-TV-Z]{16}$/);
});
