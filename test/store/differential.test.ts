/**
 * Random lives of a store, against a model that keeps every state whole, and memory against embedded.
 *
 * Keys are few, so that they meet. Transactions are sent in bursts, so that they share commits; what the stores
 * refuse as malformed is not generated. The history is short (the ring has 8 revisions) in half of the runs, so
 * that what is forgotten matters too.
 */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import type {
  Compare,
  Key,
  KeyRange,
  LeaseId,
  Operation,
  OperationResult,
  Revision,
  Store,
  Txn,
  TxnOutcome,
  WatchBatch,
} from '../../src/core/store.js';
import { fileStore, memoryStore, type StoreFactory } from '../../src/store/index.js';
import { checkTxn } from '../../src/store/machine/txn-check.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';
import { ModelStore } from './model.js';

const ALL: KeyRange = { from: '', to: '\x7f' };
const KEYS = ['a', 'b', 'b/1', 'b/2', 'c', 'cc', 'd'] as const;
const LEASE_COUNT = 3;

/** Put on the lease of this number, which is known only when the store has granted it. */
interface PutOnLease {
  readonly type: 'putOnLease';
  readonly key: Key;
  readonly lease: number;
}

type Step =
  | { readonly type: 'burst'; readonly txns: readonly Txn[] }
  | { readonly type: 'revoke'; readonly lease: number }
  | { readonly type: 'readAt'; readonly back: number; readonly range: KeyRange }
  | { readonly type: 'compact'; readonly back: number };

const key = fc.constantFrom(...KEYS);
const value = fc.uint8Array({ maxLength: 3 });
const bound = fc.constantFrom('', 'a', 'b', 'b/', 'b/2', 'c', 'd', '\x7f');
const range = fc.record({ from: bound, to: bound });
const operator = fc.constantFrom('=', '!=', '<', '>');

const compare: fc.Arbitrary<Compare> = fc.oneof(
  fc.record({
    target: fc.constantFrom('version' as const, 'create' as const, 'mod' as const),
    key,
    operator,
    operand: fc.nat(12),
  }),
  fc.record({ target: fc.constant('value' as const), key, operator, operand: value }),
);

const leaf: fc.Arbitrary<Operation | PutOnLease> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ type: fc.constant('put' as const), key, value }) },
  fc.record({
    type: fc.constant('putOnLease' as const),
    key,
    lease: fc.nat(LEASE_COUNT - 1),
  }),
  { weight: 2, arbitrary: fc.record({ type: fc.constant('delete' as const), key }) },
  fc.record({ type: fc.constant('deleteRange' as const), range }),
  fc.record({ type: fc.constant('get' as const), key }),
  fc.record({ type: fc.constant('range' as const), range, limit: fc.integer({ min: 1, max: 5 }) }),
) as fc.Arbitrary<Operation | PutOnLease>;

function txnOf(operation: fc.Arbitrary<Operation | PutOnLease>): fc.Arbitrary<Txn> {
  const list = fc.array(operation, { maxLength: 4 });
  return fc.record({
    compares: fc.array(compare, { maxLength: 2 }),
    success: list,
    failure: list,
  }) as fc.Arbitrary<Txn>;
}

const txn = txnOf(
  fc.oneof(
    { weight: 4, arbitrary: leaf },
    fc.record({ type: fc.constant('txn' as const), txn: txnOf(leaf) }),
  ) as fc.Arbitrary<Operation>,
).filter(isWellFormed);

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      type: fc.constant('burst' as const),
      txns: fc.array(txn, { minLength: 1, maxLength: 6 }),
    }),
  },
  fc.record({ type: fc.constant('revoke' as const), lease: fc.nat(LEASE_COUNT - 1) }),
  fc.record({ type: fc.constant('readAt' as const), back: fc.nat(12), range }),
  fc.record({ type: fc.constant('compact' as const), back: fc.nat(12) }),
);

const life = fc.record({
  revisionsMax: fc.constantFrom(8, 10_000),
  steps: fc.array(step, { minLength: 1, maxLength: 20 }),
});

test('the memory store does what the model does', async () => {
  await fc.assert(
    fc.asyncProperty(life, ({ revisionsMax, steps }) =>
      live(memoryStore({ history: { revisionsMax } }), steps),
    ),
    { numRuns: 400 },
  );
});

test('the embedded store does what the model does', async () => {
  await fc.assert(
    fc.asyncProperty(life, async ({ revisionsMax, steps }) => {
      const directory = await mkdtemp(path.join(tmpdir(), 'millrace-model-'));
      try {
        await live(fileStore(directory, { history: { revisionsMax } }), steps);
      } finally {
        await rm(directory, { recursive: true });
      }
    }),
    { numRuns: 60 },
  );
});

/** Leads one life with a store and the model side by side. */
async function live(factory: StoreFactory, steps: readonly Step[]): Promise<void> {
  const store = await factory.open({ clock: new VirtualClock() });
  try {
    const model = new ModelStore((await store.range(ALL)).revision);
    const begin = (model.revision + 1) as Revision;
    // Asks for the next batch at once each time, so that it never falls off the ring.
    const told = collect(store.watch(ALL, { startRevision: begin }));
    const leases: LeaseId[] = [];
    for (let count = 0; count < LEASE_COUNT; count++) {
      const { leaseId } = await store.grantLease(60_000);
      model.grant(leaseId);
      leases.push(leaseId);
    }
    let compacted = 0;
    for (const current of steps) {
      if (current.type === 'burst') {
        await burst(store, model, current.txns, leases);
      } else if (current.type === 'revoke') {
        await store.revokeLease(leases[current.lease]!);
        model.revoke(leases[current.lease]!);
      } else if (current.type === 'compact') {
        const revision = Math.max(begin - 1, model.revision - current.back) as Revision;
        await store.compact(revision);
        compacted = Math.max(compacted, revision);
      } else {
        await readAt(store, model, current, { begin, compacted });
      }
      assert.deepEqual((await store.range(ALL)).entries, model.range(ALL));
    }
    await told.upTo(model.revision);
    assert.deepEqual(told.batches, expectedBatches(model, begin));
    const { entries } = await store.range(ALL, { reverse: true });
    assert.deepEqual(entries, model.range(ALL).reverse());
  } finally {
    await store.close();
  }
}

async function burst(
  store: Store,
  model: ModelStore,
  txns: readonly Txn[],
  leases: readonly LeaseId[],
): Promise<void> {
  const own = txns.map((each) => withLeases(each, leases));
  const answers = await Promise.allSettled(own.map((each) => store.txn(each)));
  for (const [index, answer] of answers.entries()) {
    const expected = model.txn(own[index]!);
    if (expected === undefined) {
      assert.equal(answer.status, 'rejected');
      assert.equal(answer.reason.code, 'ERR_MILLRACE_LEASE_LOST');
    } else {
      assert.ok(answer.status === 'fulfilled', String((answer as { reason?: unknown }).reason));
      assert.deepEqual(short(answer.value), { ...expected, revision: model.revision });
    }
  }
}

async function readAt(
  store: Store,
  model: ModelStore,
  { back, range: asked }: Extract<Step, { type: 'readAt' }>,
  { begin, compacted }: { readonly begin: number; readonly compacted: number },
): Promise<void> {
  const revision = Math.max(begin - 1, model.revision - back) as Revision;
  try {
    const snapshot = await store.range(asked, { revision });
    assert.ok(revision >= compacted, 'a compacted revision was read');
    assert.deepEqual(snapshot.entries, model.range(asked, revision));
    assert.equal(snapshot.revision, model.revision);
  } catch (error) {
    assert.equal((error as { code?: unknown }).code, 'ERR_MILLRACE_COMPACTED', String(error));
    assert.ok(revision < compacted || model.revision - revision >= 8, 'forgotten too early');
  }
}

/** Reads a watch as fast as it tells. */
function collect(watch: AsyncIterable<WatchBatch>): {
  readonly batches: WatchBatch[];
  upTo(revision: Revision): Promise<void>;
} {
  const batches: WatchBatch[] = [];
  let failure: unknown;
  let wake = (): void => {};
  (async () => {
    for await (const batch of watch) {
      batches.push(batch);
      wake();
    }
  })().catch((error: unknown) => {
    failure = error;
    wake();
  });
  return {
    batches,
    async upTo(revision) {
      const last = () => batches.at(-1)?.revision ?? 0;
      while (last() < revision && failure === undefined && revision > 1) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    },
  };
}

function expectedBatches(model: ModelStore, begin: Revision): WatchBatch[] {
  const batches: WatchBatch[] = [];
  for (let revision = begin as number; revision <= model.revision; revision++) {
    batches.push({
      revision: revision as Revision,
      events: model.events(revision as Revision),
    });
  }
  return batches;
}

function short(outcome: TxnOutcome): unknown {
  assert.ok(outcome.kind !== 'unknown');
  return {
    succeeded: outcome.kind === 'done',
    results: outcome.results.map(shortResult),
    revision: outcome.revision,
  };
}

function shortResult(result: OperationResult): unknown {
  switch (result.type) {
    case 'put':
      return 'put';
    case 'delete':
      return result.deleted;
    case 'get':
      return result.entry;
    case 'range':
      return result.entries;
    case 'txn':
      return [result.succeeded, result.results.map(shortResult)];
  }
}

function withLeases(each: Txn, leases: readonly LeaseId[]): Txn {
  const fill = (operation: Operation | PutOnLease): Operation => {
    if (operation.type === 'putOnLease') {
      const { key: at, lease } = operation;
      return { type: 'put', key: at, value: new Uint8Array(1), leaseId: leases[lease]! };
    }
    if (operation.type !== 'txn') return operation;
    return { type: 'txn', txn: withLeases(operation.txn, leases) };
  };
  return {
    compares: each.compares,
    success: each.success.map(fill),
    failure: (each.failure ?? []).map(fill),
  };
}

function isWellFormed(each: Txn): boolean {
  const dummies = Array.from({ length: LEASE_COUNT }, () => '0' as LeaseId);
  try {
    checkTxn(withLeases(each, dummies), {
      operationsMax: 128,
      keyBytesMax: 1_024,
      requestBytesMax: 1_000_000,
    });
    return true;
  } catch {
    return false;
  }
}
