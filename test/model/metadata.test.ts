/**
 * Several nodes read and write a few entries while answers get lost, late writes arrive, watches are cut, history is
 * compacted and messages come twice, late, in another order or never. Whatever happens:
 *
 *   - a node never reads an older revision of an entry after a newer one
 *   - a read at least at revision r sees everything that was written up to r
 *   - a linearizable read sees everything that was acknowledged before it was asked for
 *   - a write told as done is in the history once, one that was refused is not in it
 *   - a read sees what some write put, at the revision of that write
 *   - when all is healed, every cache says what the store has, and nobody hangs
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isMillraceError, type MillraceError } from '../../src/core/errors.js';
import { seededRandom } from '../../src/core/random.js';
import type { Revision } from '../../src/core/store.js';
import type { Bus } from '../../src/tenancy/bus.js';
import { entryKey, isEntryKey } from '../../src/tenancy/keys.js';
import { type Consistency, Metadata } from '../../src/tenancy/metadata.js';
import { WatchBus } from '../../src/tenancy/watch-bus.js';
import { simStore, VirtualClock } from '../../src/testing/index.js';
import type { StoreFaults } from '../../src/testing/store-faults.js';
import { MessageHub } from '../tenancy/message-bus.js';

const NODES = 3;
const TENANTS = ['acme', 'globex'];
const IDS = ['1', '2', '3'];
const RECHECK_MS = 5_000;
const EXPECTED = ['ERR_MILLRACE_STORE_UNAVAILABLE', 'ERR_MILLRACE_STORE_FULL'];

const FAULTS: StoreFaults = {
  requestLost: 0.05,
  answerLost: 0.08,
  late: 0.05,
  refused: 0.05,
  full: 0.02,
  hang: 0.02,
  readFailed: 0.05,
  watchCut: 0.1,
  latency: { minMs: 0, maxMs: 20 },
};

type Step =
  | { readonly do: 'put' | 'delete' | 'create'; readonly at: number; readonly of: string[] }
  | { readonly do: 'read'; readonly at: number; readonly of: string[]; readonly how: How }
  | { readonly do: 'evict'; readonly at: number; readonly of: string[] }
  | { readonly do: 'compact' }
  | { readonly do: 'wait'; readonly ms: number };
type How = 'any' | 'atLeast' | 'linearizable';

const at = fc.nat({ max: NODES - 1 });
const of = fc
  .tuple(fc.constantFrom(...TENANTS), fc.constantFrom(...IDS))
  .map((names) => [...names]);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constantFrom('put' as const, 'put' as const, 'delete' as const, 'create' as const),
      at,
      of,
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('read' as const),
      at,
      of,
      how: fc.constantFrom<How>('any', 'any', 'atLeast', 'linearizable'),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('evict' as const), at, of }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('compact' as const) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('wait' as const),
      ms: fc.constantFrom(0, 1, 10, 30, 300, 4_000),
    }),
  },
);

/** What the store has gone through: of each entry, its states by revision. */
class History {
  readonly #states = new Map<string, { revision: number; value: string | undefined }[]>();
  readonly written = new Map<string, number>();

  add(key: string, revision: number, value: string | undefined): void {
    const states = this.#states.get(key) ?? [];
    this.#states.set(key, [...states, { revision, value }]);
    if (value !== undefined) {
      assert.equal(this.written.get(value), undefined, `${value} was written twice`);
      this.written.set(value, revision);
    }
  }

  /** The revision of the last change up to `revision`. */
  changedUpTo(key: string, revision: number): number {
    return (
      (this.#states.get(key) ?? []).findLast((state) => state.revision <= revision)?.revision ?? 0
    );
  }

  valueAt(key: string, revision: number): string | undefined {
    return (this.#states.get(key) ?? []).find((state) => state.revision === revision)?.value;
  }

  /** The newest revision at which the entry was not there, before it was put again. */
  wasAbsentAfter(key: string, revision: number): boolean {
    const states = this.#states.get(key) ?? [];
    const last = states.findLast((state) => state.revision <= revision);
    if (last === undefined || last.value === undefined) return true;
    return states.some((state) => state.revision > revision && state.value === undefined);
  }
}

interface Tally {
  reads: number;
  writes: number;
  unknown: number;
}

async function play(steps: readonly Step[], seed: number, hubbed: boolean): Promise<Tally> {
  const clock = new VirtualClock();
  const history = new History();
  const tally: Tally = { reads: 0, writes: 0, unknown: 0 };
  const sim = simStore({
    seed,
    faults: FAULTS,
    clock,
    onApplied({ txn, outcome }) {
      if (outcome.kind !== 'done') return;
      for (const operation of txn.success) {
        if (operation.type === 'put' && isEntryKey(operation.key)) {
          const value = JSON.parse(Buffer.from(operation.value).toString()) as string;
          history.add(operation.key, outcome.revision, value);
        } else if (operation.type === 'delete') {
          history.add(operation.key, outcome.revision, undefined);
        }
      }
    },
  });
  const hub = new MessageHub(clock, seededRandom(seed), {
    lost: 0.1,
    twice: 0.2,
    delayMsMax: 200,
  });
  const broken: unknown[] = [];
  const calls: Promise<void>[] = [];
  const track = (work: Promise<unknown>): void => {
    calls.push(
      work.then(
        () => {},
        (error: unknown) => {
          const isFine =
            isMillraceError(error) &&
            [...EXPECTED, 'ERR_MILLRACE_STALE_REVISION'].includes(error.code);
          if (!isFine) broken.push(error);
        },
      ),
    );
  };
  const opened = await Promise.all(
    Array.from({ length: NODES }, async (_, index) => {
      const store = await sim.open({ clock });
      const random = seededRandom(seed + index);
      const bus: Bus = hubbed
        ? hub.join(RECHECK_MS)
        : new WatchBus(clock, random.fork('bus'), store);
      const metadata = new Metadata({ clock, random, store, bus, cacheBytes: 64 * 1024 });
      return { metadata, store, seen: new Map<string, number>() };
    }),
  );
  let acknowledged = 0;
  let values = 0;
  /** Done writes: revision by value. */
  const done = new Map<string, number>();
  const refused: string[] = [];

  const write = async (node: (typeof opened)[number], each: Step): Promise<void> => {
    if (each.do !== 'put' && each.do !== 'create' && each.do !== 'delete') return;
    const [tenant, id] = each.of as [string, string];
    const value = `${each.at}-${++values}`;
    try {
      const revision =
        each.do === 'delete'
          ? await node.metadata.delete(tenant, 'x', id)
          : await node.metadata.put(
              tenant,
              'x',
              id,
              value,
              each.do === 'create' ? { ifRevision: 0 } : {},
            );
      acknowledged = Math.max(acknowledged, revision);
      tally.writes++;
      if (each.do !== 'delete') done.set(value, revision);
    } catch (error) {
      const { code, details } = error as MillraceError;
      if (details?.outcome === 'unknown') tally.unknown++;
      else if (EXPECTED.includes(code) || code === 'ERR_MILLRACE_STALE_REVISION')
        refused.push(value);
      throw error;
    }
  };

  const read = async (node: (typeof opened)[number], names: string[], how: How): Promise<void> => {
    const [tenant, id] = names as [string, string];
    const key = entryKey(tenant, 'x', id);
    const bound = acknowledged;
    const before = node.seen.get(key) ?? 0;
    const consistency: Consistency = how === 'atLeast' ? { atLeast: bound } : how;
    const found = await node.metadata.get<string>(tenant, 'x', id, { consistency });
    tally.reads++;
    const oldest = how === 'any' ? before : Math.max(before, history.changedUpTo(key, bound));
    if (found === undefined) {
      assert.ok(history.wasAbsentAfter(key, oldest), `${key}: absent, after revision ${oldest}`);
      return;
    }
    assert.ok(found.revision >= oldest, `${key}: ${how} read ${found.revision}, not ${oldest}`);
    assert.equal(found.value, history.valueAt(key, found.revision));
    node.seen.set(key, Math.max(node.seen.get(key) ?? 0, found.revision));
  };

  for (const node of opened) track(node.metadata.start());
  await clock.advance(100);
  for (const each of steps) {
    if (each.do === 'wait') await clock.advance(each.ms);
    else if (each.do === 'compact') await sim.compact();
    else {
      const node = opened[each.at]!;
      if (each.do === 'read') track(read(node, each.of, each.how));
      else if (each.do === 'evict') node.metadata.evict(each.of[0]!);
      else track(write(node, each));
    }
    await clock.settle();
  }
  sim.setFaults();
  hub.faults = {};
  await clock.advance(60_000);
  let ended = 0;
  for (const call of calls) void call.then(() => ended++);
  await clock.settle();
  assert.deepEqual(broken, []);
  assert.equal(ended, calls.length, 'a call never ended');
  for (const [value, revision] of done) {
    const at = history.written.get(value);
    assert.ok(
      at !== undefined && at <= revision,
      `${value}: done at ${revision}, applied at ${at}`,
    );
  }
  for (const value of refused) assert.equal(history.written.get(value), undefined, value);
  const server = opened[0]!.store;
  for (const { metadata } of opened) {
    for (const tenant of TENANTS) {
      for (const id of IDS) {
        const stored = await server.get(entryKey(tenant, 'x', id));
        const cached = await metadata.get(tenant, 'x', id);
        assert.equal(cached?.revision, stored?.modRevision as Revision | undefined);
      }
    }
  }
  const stopping = Promise.all(opened.map(({ metadata }) => metadata.stop()));
  await clock.advance(1_000);
  await stopping;
  await Promise.all(opened.map(({ store }) => store.close()));
  return tally;
}

for (const hubbed of [false, true]) {
  const bus = hubbed ? 'messages that get lost, doubled and reordered' : "the store's watch";
  test(`whatever goes wrong, over ${bus}, no read is too old and no write is told wrongly`, async () => {
    const total: Tally = { reads: 0, writes: 0, unknown: 0 };
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { minLength: 20, maxLength: 100, size: 'max' }),
        fc.nat(),
        async (steps, seed) => {
          const tally = await play(steps, seed, hubbed);
          total.reads += tally.reads;
          total.writes += tally.writes;
          total.unknown += tally.unknown;
        },
      ),
      { numRuns: 30, includeErrorInReport: true },
    );
    // A run without load proves nothing.
    assert.ok(total.reads > 250 && total.writes > 120, JSON.stringify(total));
  });
}
