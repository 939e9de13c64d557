import assert from 'node:assert/strict';
import { test } from 'node:test';
import { keepFollowing } from '../../src/core/keep-following.js';
import { seededRandom } from '../../src/core/random.js';
import { prefixRange } from '../../src/core/store.js';
import { simStore } from '../../src/testing/sim-store.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';
import { apply, put } from '../conformance/store/harness.js';

async function setup() {
  const clock = new VirtualClock();
  const description = simStore({ clock });
  const store = await description.open({ clock });
  const stopping = new AbortController();
  const ports = { clock, random: seededRandom(1), store };
  const following = keepFollowing(ports, prefixRange('k/'), { signal: stopping.signal });
  const next = async (): Promise<string> => {
    const { done, value } = await following.next();
    if (done) return 'over';
    const keys = value.events.map((event) => (event.type === 'put' ? event.entry.key : 'gone'));
    return [value.kind, ...keys].join(' ');
  };
  return { clock, description, store, stopping, next };
}

test('an outage is waited for, and then the range is told from the beginning', async () => {
  const { clock, description, store, next } = await setup();
  await apply(store, put('k/a'));
  description.setFaults({ readFailed: 1 });
  const told = next();
  await clock.advance(3_000);
  description.setFaults();
  await clock.advance(1_000);
  assert.equal(await told, 'list k/a');
});

test('it ends quietly with its signal, also during an outage', async () => {
  const { clock, description, stopping, next } = await setup();
  description.setFaults({ readFailed: 1 });
  const told = next();
  await clock.advance(100);
  stopping.abort();
  assert.equal(await told, 'over');
});

test('a store that is closed ends it with its error', async () => {
  const { store, next } = await setup();
  await store.close();
  await assert.rejects(next(), { code: 'ERR_MILLRACE_CLOSED' });
});
