/**
 * Shard keepers against what they promise: processes join, leave and hang while answers get lost, late transactions
 * arrive, links are cut, leases are revoked and owner keys deleted.
 *
 *   - an epoch of a shard is had by one process, once (`Belief` checks at every acquisition)
 *   - of those whose session is live, only one believes to own a shard under the epoch that the store shows
 *   - within a lease's time of everything being healed, every shard is owned, and its owner knows
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Coordination } from '../../src/coordination/coordination.js';
import { ShardKeeper } from '../../src/coordination/shard-keeper.js';
import { shardRecord } from '../../src/coordination/shard-map.js';
import { seededRandom } from '../../src/core/random.js';
import { memoryStore } from '../../src/store/index.js';
import { VirtualClock } from '../../src/testing/index.js';
import { Belief } from '../coordination/keepers.js';
import { gate } from '../coordination/world.js';
import { type Fate, FaultyStore } from '../support/faulty-store.js';

const TTL_MS = 3_000;
const LATE_MS_MAX = 7_000;
const SHARDS = 8;
const QUEUES = [{ queue: 'q', shardCount: SHARDS }];
const PROCESSES = 3;

type Step =
  | { readonly do: 'join' | 'leave' | 'cut' | 'heal' | 'late' | 'revoke'; readonly at: number }
  | { readonly do: 'stubborn' | 'let go' | 'deaf' | 'hear'; readonly at: number }
  | { readonly do: 'fate'; readonly at: number; readonly fate: Fate }
  | { readonly do: 'delete'; readonly shard: number }
  | { readonly do: 'jump'; readonly byMs: number }
  | { readonly do: 'wait'; readonly ms: number };

const at = fc.nat({ max: PROCESSES - 1 });
const simple = (...kinds: ('join' | 'leave' | 'cut' | 'heal' | 'late' | 'revoke')[]) =>
  fc.record({ do: fc.constantFrom(...kinds), at });
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: simple('join') },
  { weight: 4, arbitrary: simple('leave', 'cut', 'heal', 'late', 'revoke') },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constantFrom('stubborn', 'let go', 'deaf', 'hear') as fc.Arbitrary<
        'stubborn' | 'let go' | 'deaf' | 'hear'
      >,
      at,
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('fate' as const),
      at,
      fate: fc.constantFrom<Fate>('answer lost', 'request lost', 'late', 'full', 'ok'),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('delete' as const), shard: fc.nat(SHARDS - 1) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('jump' as const),
      byMs: fc.constantFrom(-60_000, -600, 600, 2_000),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('wait' as const),
      ms: fc.constantFrom(0, 1, 40, 300, 2_500, 7_000),
    }),
  },
);

interface Process {
  readonly c: Coordination;
  readonly keeper: ShardKeeper;
  readonly belief: Belief;
  readonly faults: FaultyStore;
}

const ears = new WeakMap<Process, () => void>();

/** Its watches tell nothing until it hears again. */
function makeDeaf(process: Process): void {
  if (process.faults.watchGate !== undefined) return;
  const { opened, open } = gate();
  process.faults.watchGate = opened;
  ears.set(process, open);
}

function makeHear(process: Process): void {
  process.faults.watchGate = undefined;
  ears.get(process)?.();
}

async function play(steps: readonly Step[]): Promise<number> {
  const clock = new VirtualClock();
  const factory = memoryStore();
  const store = await factory.open({ clock });
  const places: (Process | undefined)[] = Array.from({ length: PROCESSES });
  const beliefs: Belief[] = [];
  const epochs = new Map<string, string>();
  const leaving: Promise<void>[] = [];
  let lives = 0;

  const join = async (place: number): Promise<void> => {
    const faults = new FaultyStore(await factory.open({ clock }), clock);
    const random = seededRandom(++lives);
    const node = `n${lives}`;
    const c = new Coordination(
      { clock, random, store: faults },
      {
        ttlMs: TTL_MS,
        label: node,
        node,
        record: shardRecord(QUEUES),
        isMember: true,
        locking: 'queueing',
      },
    );
    await c.start();
    const belief = new Belief(node, c.session, beliefs, epochs);
    beliefs.push(belief);
    const keeper = new ShardKeeper(
      { clock, random, store: faults, session: c.session, members: c.members },
      { queues: QUEUES, owner: belief },
    );
    await keeper.start();
    places[place] = { c, keeper, belief, faults };
  };
  const letGo = ({ belief }: Process): void => {
    belief.isObliging = true;
    for (const [, go] of [...belief.asked]) go();
  };
  const leave = (place: number): void => {
    const process = places[place];
    if (process === undefined) return;
    places[place] = undefined;
    makeHear(process);
    letGo(process);
    leaving.push(process.keeper.stop().then(() => process.c.stop()));
  };
  /** Who is live and believes to own what the store gives to somebody else, is wrong. */
  const check = async (): Promise<void> => {
    const { entries } = await store.range({ from: 'o/', to: 'o0' });
    for (const { key, createRevision } of entries) {
      const believing = beliefs.filter(
        ({ held, session }) => session.state === 'live' && held.get(key)?.epoch === createRevision,
      );
      assert.ok(believing.length <= 1, `${believing.length} own ${key} under ${createRevision}`);
    }
  };

  for (const step of steps) {
    if (step.do === 'wait') await clock.advance(step.ms);
    else if (step.do === 'jump') clock.jumpWall(step.byMs);
    else if (step.do === 'delete') {
      const key = `o/q/0${step.shard}`;
      await store.txn({ compares: [], success: [{ type: 'delete', key }] });
    } else if (step.do === 'join') {
      if (places[step.at] === undefined) await join(step.at);
    } else if (step.do === 'leave') leave(step.at);
    else {
      const process = places[step.at];
      if (process === undefined) continue;
      const { faults, c, belief } = process;
      if (step.do === 'fate') {
        faults.fates.push(step.fate);
        if (step.fate === 'late') clock.wakeIn(LATE_MS_MAX, () => void faults.applyLate());
      } else if (step.do === 'late') await faults.applyLate();
      else if (step.do === 'stubborn') belief.isObliging = false;
      else if (step.do === 'let go') letGo(process);
      else if (step.do === 'deaf') makeDeaf(process);
      else if (step.do === 'hear') makeHear(process);
      else if (step.do === 'revoke') {
        if (c.session.leaseId !== undefined) await store.revokeLease(c.session.leaseId);
      } else faults.isCut = step.do === 'cut';
    }
    await clock.settle();
    await check();
  }
  for (const process of places) {
    if (process === undefined) continue;
    process.faults.isCut = false;
    process.faults.fates.length = 0;
    makeHear(process);
    letGo(process);
  }
  if (places.every((process) => process === undefined)) await join(0);
  // What is under way arrives, leases of those who left while they were cut off end.
  await clock.advance(LATE_MS_MAX + 2 * TTL_MS);
  await check();
  const { entries } = await store.range({ from: 'o/', to: 'o0' });
  assert.equal(entries.length, SHARDS, 'a shard is owned by nobody');
  for (const { key, createRevision, value } of entries) {
    const owner = places.find((process) => process?.belief.name === Buffer.from(value).toString());
    assert.equal(owner?.belief.held.get(key)?.epoch, createRevision, `${key}: who owns it, knows`);
  }
  for (let i = 0; i < PROCESSES; i++) leave(i);
  await clock.advance(10_000);
  await Promise.all(leaving);
  await clock.advance(2 * TTL_MS);
  assert.equal(clock.sleeping, 0);
  return epochs.size;
}

test('whatever goes wrong, an epoch has one owner, and when all is healed every shard has one', async () => {
  let ownerships = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 50 }), async (steps) => {
      ownerships += await play(steps);
    }),
    { numRuns: 80, includeErrorInReport: true },
  );
  // A run in which nothing is owned proves nothing.
  assert.ok(ownerships > 300, `${ownerships} ownerships`);
});
