/**
 * Locks against the one thing they promise: several processes lock the same few names while answers get lost, late
 * transactions arrive, links are cut, leases are revoked and clocks jump. A resource watches them.
 *
 *   - by token: what is granted later has a higher token, for each name, over all processes
 *   - by belief: of those whose signal has not been aborted, at most one is inside (leases that an operator revokes are
 *     left out: their process cannot know before its next renewal)
 *   - nothing stays: when all is healed and everybody has left, the line is empty
 *   - nobody hangs: every call ends
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Coordination } from '../../src/coordination/coordination.js';
import type { Lock } from '../../src/coordination/locks.js';
import { isMillraceError } from '../../src/core/errors.js';
import { seededRandom } from '../../src/core/random.js';
import { memoryStore } from '../../src/store/index.js';
import { VirtualClock } from '../../src/testing/index.js';
import { type Fate, FaultyStore } from '../support/faulty-store.js';

const TTL_MS = 3_000;
/** How long a request may be under way: etcd gives it up after 7 s. */
const LATE_MS_MAX = 7_000;
const PROCESSES = 3;
const NAMES = ['x', 'y'];
/** What a callback may end with besides its value. */
const EXPECTED = ['ERR_MILLRACE_LOCK_TIMEOUT', 'ERR_MILLRACE_LEASE_LOST', 'ERR_MILLRACE_CLOSED'];

type Step =
  | { readonly do: 'lock'; readonly at: number; readonly name: string; readonly holdMs: number }
  | { readonly do: 'try'; readonly at: number; readonly name: string }
  | { readonly do: 'fate'; readonly at: number; readonly fate: Fate }
  | { readonly do: 'cut' | 'heal' | 'late' | 'revoke'; readonly at: number }
  | { readonly do: 'jump'; readonly byMs: number }
  | { readonly do: 'wait'; readonly ms: number };

const at = fc.nat({ max: PROCESSES - 1 });
const name = fc.constantFrom(...NAMES);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('lock' as const),
      at,
      name,
      holdMs: fc.constantFrom(0, 1, 50, 500, 4_000),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('try' as const), at, name }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('fate' as const),
      at,
      fate: fc.constantFrom<Fate>('answer lost', 'request lost', 'late', 'ok'),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constantFrom('cut' as const, 'heal' as const, 'late' as const, 'revoke' as const),
      at,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('jump' as const),
      byMs: fc.constantFrom(-60_000, -600, 600, 2_000, 60_000),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('wait' as const),
      ms: fc.constantFrom(0, 1, 40, 300, 2_500, 7_000),
    }),
  },
);

/** Sees who enters and leaves. */
class Resource {
  readonly #highest = new Map<string, bigint>();
  readonly #inside = new Map<string, Set<Lock>>();
  /** Leases that somebody ended behind the back of their process; it cannot know before its next renewal. */
  readonly revoked = new Set<string>();
  entries = 0;

  enter(name: string, lock: Lock): void {
    this.entries++;
    const highest = this.#highest.get(name) ?? 0n;
    assert.ok(lock.token > highest, `token ${lock.token} of '${name}' came after ${highest}`);
    this.#highest.set(name, lock.token);
    const inside = this.#inside.get(name) ?? new Set();
    this.#inside.set(name, inside);
    inside.add(lock);
    const believing = [...inside].filter(
      ({ signal, compare }) => !signal.aborted && !this.revoked.has(compare.key.slice(-16)),
    );
    assert.ok(believing.length <= 1, `${believing.length} believe to hold '${name}'`);
  }

  leave(name: string, lock: Lock): void {
    this.#inside.get(name)?.delete(lock);
  }
}

async function play(steps: readonly Step[]): Promise<number> {
  const clock = new VirtualClock();
  const factory = memoryStore();
  const store = await factory.open({ clock });
  const resource = new Resource();
  const calls: Promise<void>[] = [];
  const broken: unknown[] = [];
  const processes = await Promise.all(
    Array.from({ length: PROCESSES }, async (_, i) => {
      const faults = new FaultyStore(await factory.open({ clock }), clock);
      const c = new Coordination(
        { clock, random: seededRandom(i + 1), store: faults },
        {
          ttlMs: TTL_MS,
          label: `p${i}`,
          node: `p${i}`,
          record: {},
          isMember: false,
          locking: 'queueing',
        },
      );
      await c.start();
      return { c, faults };
    }),
  );
  const use = async (name: string, lock: Lock, holdMs: number): Promise<void> => {
    resource.enter(name, lock);
    if (holdMs > 0) await new Promise<void>((resolve) => clock.wakeIn(holdMs, resolve));
    resource.leave(name, lock);
  };
  const call = (work: Promise<unknown>): void => {
    calls.push(
      work.then(
        () => {},
        (error: unknown) => {
          if (!isMillraceError(error) || !EXPECTED.includes(error.code)) broken.push(error);
        },
      ),
    );
  };
  const tryOnce = async (c: Coordination, name: string): Promise<void> => {
    const lock = await c.locks.tryLock(name);
    if (lock === undefined) return;
    await use(name, lock, 20);
    await lock.release();
  };
  for (const step of steps) {
    if (step.do === 'wait') await clock.advance(step.ms);
    else if (step.do === 'jump') clock.jumpWall(step.byMs);
    else {
      const { c, faults } = processes[step.at]!;
      if (step.do === 'lock') {
        const { name, holdMs } = step;
        call(c.locks.withLock(name, {}, (lock) => use(name, lock, holdMs)));
      } else if (step.do === 'try') call(tryOnce(c, step.name));
      else if (step.do === 'fate') {
        faults.fates.push(step.fate);
        // What is under way arrives some time, or never.
        if (step.fate === 'late') clock.wakeIn(LATE_MS_MAX, () => void faults.applyLate());
      } else if (step.do === 'late') await faults.applyLate();
      else if (step.do === 'revoke') {
        const { leaseId } = c.session;
        if (leaseId === undefined) continue;
        resource.revoked.add(leaseId);
        await store.revokeLease(leaseId);
      } else faults.isCut = step.do === 'cut';
    }
    await clock.settle();
  }
  for (const { faults } of processes) {
    faults.isCut = false;
    faults.fates.length = 0;
  }
  // Everybody has left after the holds and time limits; late keys are swept one lease later.
  await clock.advance(30_000);
  let ended = 0;
  for (const promise of calls) void promise.then(() => ended++);
  await clock.settle();
  assert.deepEqual(broken, []);
  assert.equal(ended, calls.length, 'a call never ended');
  const { entries } = await store.range({ from: 'l/', to: 'l0' });
  assert.deepEqual(
    entries.map(({ key }) => key),
    [],
  );
  await Promise.all(processes.map(({ c }) => c.stop()));
  // The store's own watch over leases.
  await clock.advance(2 * TTL_MS);
  assert.equal(clock.sleeping, 0);
  return resource.entries;
}

test('whatever goes wrong, tokens rise, one believes to hold, and nothing stays', async () => {
  let entries = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 60 }), async (steps) => {
      entries += await play(steps);
    }),
    { numRuns: 60, includeErrorInReport: true },
  );
  // A run without load proves nothing.
  assert.ok(entries > 100, `${entries} entries`);
});
