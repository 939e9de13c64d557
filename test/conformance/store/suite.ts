/**
 * The Store contract, case by case, for whatever claims to be a Store.
 */
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import {
  type Compare,
  type Key,
  type LeaseRenewal,
  prefixRange,
  type Revision,
} from '../../../src/core/store.js';
import {
  ALL,
  apply,
  bytes,
  compares,
  del,
  get,
  isAbsent,
  isPresent,
  iterate,
  keys,
  nested,
  newest,
  nextEvents,
  type OpenStoreUnderTest,
  put,
  rejectsWith,
  type StoreUnderTest,
  text,
} from './harness.js';

export interface ConformanceOptions {
  /** Transactions that are in flight together apply in the order of the calls, as on local stores. @defaultValue true */
  readonly appliesInOrderOfCalls?: boolean;
}

/** Runs every case on a store of its own. */
export function storeConformance(
  name: string,
  open: OpenStoreUnderTest,
  options: ConformanceOptions = {},
): void {
  const setup = async (t: TestContext): Promise<StoreUnderTest> => {
    const subject = await open();
    t.after(() => subject.dispose());
    return subject;
  };
  describe(`${name}: revisions`, () => revisions(setup));
  describe(`${name}: compares`, () => conditions(setup));
  describe(`${name}: transactions`, () => transactions(setup, options));
  describe(`${name}: ranges`, () => ranges(setup));
  describe(`${name}: limits and malformed requests`, () => limits(setup));
  describe(`${name}: history`, () => history(setup));
  describe(`${name}: watches`, () => watches(setup));
  describe(`${name}: leases`, () => leases(setup));
  describe(`${name}: closing`, () => closing(setup));
}

type Setup = (t: TestContext) => Promise<StoreUnderTest>;

function revisions(setup: Setup): void {
  test('a put creates the entry, and later puts count its versions', async (t) => {
    const { store } = await setup(t);
    const first = await apply(store, put('a', 'one'));
    const second = await apply(store, put('a', 'two'));
    const entry = await store.get('a');
    assert.equal(text(entry), 'two');
    assert.deepEqual(
      { ...entry, value: undefined },
      {
        key: 'a',
        value: undefined,
        version: 2,
        createRevision: first,
        modRevision: second,
        leaseId: undefined,
      },
    );
  });

  test('every transaction that writes is one revision, whatever it writes', async (t) => {
    const { store } = await setup(t);
    const first = await apply(store, put('a'), put('b'), nested([], [put('c')]));
    const second = await apply(store, del('a'), put('d'));
    assert.equal(second, first + 1);
    const entries = (await store.range(ALL)).entries;
    assert.deepEqual(
      entries.map(({ key, modRevision }) => [key, modRevision]),
      [
        ['b', first],
        ['c', first],
        ['d', second],
      ],
    );
  });

  test('what writes nothing has no revision: reads, refusals, deletes of absent keys', async (t) => {
    const { store } = await setup(t);
    const before = await apply(store, put('a'));
    assert.equal(await apply(store, get('a'), { type: 'range', range: ALL }), before);
    assert.equal(await apply(store, del('b')), before);
    assert.equal(
      await apply(store, { type: 'deleteRange', range: { from: 'b', to: 'c' } }),
      before,
    );
    const refused = await store.txn({ compares: [isAbsent('a')], success: [put('a')] });
    assert.equal(refused.kind === 'refused' && refused.revision, before);
    assert.equal(await newest(store), before);
  });

  test('a key that comes back starts again at version 1 with a new create revision', async (t) => {
    const { store } = await setup(t);
    await apply(store, put('a'));
    await apply(store, put('a'));
    await apply(store, del('a'));
    assert.equal(await store.get('a'), undefined);
    const revision = await apply(store, put('a'));
    const entry = await store.get('a');
    assert.deepEqual([entry?.version, entry?.createRevision], [1, revision]);
  });

  test('values are bytes, any of them, also none', async (t) => {
    const { store } = await setup(t);
    const all = Uint8Array.from({ length: 256 }, (_, index) => index);
    await apply(store, put('all', all), put('none', new Uint8Array(0)));
    assert.deepEqual([...(await store.get('all'))!.value], [...all]);
    assert.equal((await store.get('none'))!.value.length, 0);
  });

  test('a caller may reuse its bytes as soon as the call has returned', async (t) => {
    const { store } = await setup(t);
    const value = bytes('first');
    const operand = bytes('first');
    await apply(store, put('compared', 'first'));
    const written = store.txn({
      compares: [{ target: 'value', key: 'compared', operator: '=', operand }],
      success: [put('a', value)],
    });
    value.fill(0);
    operand.fill(0);
    assert.equal((await written).kind, 'done');
    assert.equal(text(await store.get('a')), 'first');
  });
}

function conditions(setup: Setup): void {
  test('version, create and mod revision compare with = != < >', async (t) => {
    const { store } = await setup(t);
    const created = await apply(store, put('a'));
    const modified = await apply(store, put('a'));
    for (const [target, actual] of [
      ['version', 2],
      ['create', created],
      ['mod', modified],
    ] as const) {
      for (const [operator, operand, expected] of [
        ['=', actual, true],
        ['=', actual + 1, false],
        ['!=', actual, false],
        ['!=', actual - 1, true],
        ['<', actual, false],
        ['<', actual + 1, true],
        ['>', actual, false],
        ['>', actual - 1, true],
      ] as const) {
        const compare: Compare = { target, key: 'a', operator, operand };
        assert.equal(await compares(store, compare), expected, JSON.stringify(compare));
      }
    }
  });

  test('values compare byte by byte, a prefix before what it starts', async (t) => {
    const { store } = await setup(t);
    await apply(store, put('a', Uint8Array.of(1, 200)));
    for (const [operator, operand, expected] of [
      ['=', [1, 200], true],
      ['=', [1], false],
      ['!=', [1, 200, 0], true],
      ['<', [1, 200, 0], true],
      ['<', [1, 201], true],
      ['<', [1, 9], false],
      ['>', [1], true],
      ['>', [2], false],
    ] as const) {
      const compare: Compare = {
        target: 'value',
        key: 'a',
        operator,
        operand: Uint8Array.from(operand),
      };
      assert.equal(await compares(store, compare), expected, `${operator} ${operand}`);
    }
  });

  test('an absent key has version and revisions 0, and fails every comparison of its value', async (t) => {
    const { store } = await setup(t);
    for (const target of ['version', 'create', 'mod'] as const) {
      assert.ok(await compares(store, { target, key: 'a', operator: '=', operand: 0 }));
      assert.ok(await compares(store, { target, key: 'a', operator: '<', operand: 1 }));
      assert.ok(!(await compares(store, { target, key: 'a', operator: '>', operand: 0 })));
    }
    for (const operator of ['=', '!=', '<', '>'] as const) {
      const compare: Compare = { target: 'value', key: 'a', operator, operand: bytes('') };
      assert.ok(!(await compares(store, compare)), operator);
    }
  });

  test('all compares must hold; no compare is a condition that holds', async (t) => {
    const { store } = await setup(t);
    await apply(store, put('a'));
    const both = await store.txn({ compares: [isPresent('a'), isAbsent('b')], success: [] });
    const one = await store.txn({ compares: [isPresent('a'), isPresent('b')], success: [] });
    const none = await store.txn({ compares: [], success: [] });
    assert.deepEqual([both.kind, one.kind, none.kind], ['done', 'refused', 'done']);
  });
}

function transactions(setup: Setup, { appliesInOrderOfCalls = true }: ConformanceOptions): void {
  test('a refused transaction runs its failure branch, writes included', async (t) => {
    const { store } = await setup(t);
    await apply(store, put('a', 'theirs'));
    const outcome = await store.txn({
      compares: [isAbsent('a')],
      success: [put('a', 'ours')],
      failure: [get('a'), put('lost', 'race')],
    });
    assert.ok(outcome.kind === 'refused');
    const [read] = outcome.results;
    assert.equal(read?.type === 'get' && text(read.entry), 'theirs');
    const lost = await store.get('lost');
    assert.deepEqual([text(lost), lost?.modRevision], ['race', outcome.revision]);
  });

  test('results come in the order of the operations, and reads see the writes before them', async (t) => {
    const { store } = await setup(t);
    await apply(store, put('a', 'old'), put('b'), put('c'));
    const outcome = await store.txn({
      compares: [],
      success: [
        get('a'),
        put('a', 'new'),
        get('a'),
        { type: 'deleteRange', range: { from: 'b', to: 'd' } },
        { type: 'range', range: ALL, limit: 5 },
        del('b'),
        get('b'),
      ],
    });
    assert.ok(outcome.kind === 'done');
    const short = outcome.results.map((result) => {
      if (result.type === 'get') return `get ${text(result.entry)}`;
      if (result.type === 'range') return `range ${result.entries.map(({ key }) => key)}`;
      return result.type === 'delete' ? `delete ${result.deleted}` : result.type;
    });
    assert.deepEqual(short, [
      'get old',
      'put',
      'get new',
      'delete 2',
      'range a',
      'delete 0',
      'get undefined',
    ]);
    const read = outcome.results[2];
    assert.equal(read?.type === 'get' && read.entry?.modRevision, outcome.revision);
  });

  test('nested transactions are decided before anything applies, and answer for themselves', async (t) => {
    const { store } = await setup(t);
    await apply(store, put('known'));
    const outcome = await store.txn({
      compares: [],
      success: [
        put('outer'),
        // etcd decides all compares on the state before the transaction: 'outer' is not there yet.
        nested([isPresent('outer')], [put('x')], [get('outer')]),
        nested([isPresent('known')], [put('y'), get('y')], [put('z')]),
      ],
    });
    assert.ok(outcome.kind === 'done');
    const [, first, second] = outcome.results;
    assert.ok(first?.type === 'txn' && second?.type === 'txn');
    assert.deepEqual([first.succeeded, second.succeeded], [false, true]);
    // Reads see what was applied before them all the same.
    const [inside] = first.results;
    assert.ok(inside?.type === 'get' && inside.entry?.key === 'outer');
    assert.deepEqual(await keys(store), ['known', 'outer', 'y']);
  });

  test('of concurrent transactions on one key exactly one wins each version', async (t) => {
    const { store } = await setup(t);
    let wins = 0;
    for (let version = 0; version < 5; version++) {
      const compare: Compare = { target: 'version', key: 'a', operator: '=', operand: version };
      const outcomes = await Promise.all(
        Array.from({ length: 20 }, (_, index) =>
          store.txn({ compares: [compare], success: [put('a', String(index))] }),
        ),
      );
      wins += outcomes.filter(({ kind }) => kind === 'done').length;
    }
    assert.equal(wins, 5);
    assert.equal((await store.get('a'))?.version, 5);
  });

  const isOrdered = { skip: appliesInOrderOfCalls ? false : 'transactions apply in any order' };
  test('transactions apply in the order of the calls', isOrdered, async (t) => {
    const { store } = await setup(t);
    const revisionsSeen = await Promise.all(
      Array.from({ length: 50 }, (_, index) => apply(store, put('a', String(index)))),
    );
    assert.deepEqual(
      revisionsSeen,
      revisionsSeen.map((_, index) => revisionsSeen[0]! + index),
    );
    assert.equal(text(await store.get('a')), '49');
  });

  test('what has been answered is seen by every later read', async (t) => {
    const { store } = await setup(t);
    for (let round = 0; round < 20; round++) {
      const revision = await apply(store, put('a', String(round)), put('b', String(round)));
      assert.equal(text(await store.get('a')), String(round));
      const snapshot = await store.range(ALL);
      assert.deepEqual(snapshot.entries.map(text), [String(round), String(round)]);
      assert.ok(snapshot.revision >= revision);
    }
  });

  test('a range read while transactions fly sees each of them whole or not at all', async (t) => {
    const { store } = await setup(t);
    const writing = Promise.all(
      Array.from({ length: 40 }, (_, index) =>
        apply(store, put('a', String(index)), put('z', String(index))),
      ),
    );
    for (let read = 0; read < 40; read++) {
      const { entries, revision } = await store.range(ALL);
      const [a, z] = entries;
      assert.equal(text(a), text(z));
      assert.ok((a?.modRevision ?? 0) <= revision);
    }
    await writing;
  });
}

function ranges(setup: Setup): void {
  const filled = async (t: TestContext): Promise<StoreUnderTest> => {
    const subject = await setup(t);
    await apply(subject.store, ...['a', 'b', 'b/1', 'b/2', 'c', '~'].map((key) => put(key, key)));
    return subject;
  };

  test('a range is half-open, in order of bytes', async (t) => {
    const { store } = await filled(t);
    assert.deepEqual(await keys(store), ['a', 'b', 'b/1', 'b/2', 'c', '~']);
    assert.deepEqual(await keys(store, { from: 'b', to: 'c' }), ['b', 'b/1', 'b/2']);
    assert.deepEqual(await keys(store, prefixRange('b/')), ['b/1', 'b/2']);
    assert.deepEqual(await keys(store, prefixRange('')), await keys(store));
    assert.deepEqual(await keys(store, { from: 'b', to: 'b' }), []);
    assert.deepEqual(await keys(store, { from: 'c', to: 'b' }), []);
  });

  test('a limit says whether it left something out', async (t) => {
    const { store } = await filled(t);
    const short = await store.range(ALL, { limit: 2 });
    assert.deepEqual([short.entries.map(({ key }) => key), short.more], [['a', 'b'], true]);
    const exact = await store.range(ALL, { limit: 6 });
    assert.deepEqual([exact.entries.length, exact.more], [6, false]);
    const outcome = await store.txn({
      compares: [],
      success: [{ type: 'range', range: ALL, limit: 1 }],
    });
    assert.ok(outcome.kind === 'done');
    const [read] = outcome.results;
    assert.ok(read?.type === 'range' && read.more && read.entries.length === 1);
  });

  test('reverse goes down, and takes its limit from the top', async (t) => {
    const { store } = await filled(t);
    const down = await store.range({ from: 'a', to: 'c' }, { reverse: true });
    assert.deepEqual(
      down.entries.map(({ key }) => key),
      ['b/2', 'b/1', 'b', 'a'],
    );
    const top = await store.range(ALL, { reverse: true, limit: 2 });
    assert.deepEqual([top.entries.map(({ key }) => key), top.more], [['~', 'c'], true]);
  });

  test('keysOnly leaves the values out and nothing else', async (t) => {
    const { store } = await filled(t);
    const { entries } = await store.range(prefixRange('b/'), { keysOnly: true });
    const full = await store.range(prefixRange('b/'));
    assert.deepEqual(
      entries,
      full.entries.map((entry) => ({ ...entry, value: new Uint8Array(0) })),
    );
  });

  test('many keys, put in no order, come out in order', async (t) => {
    const { store } = await setup(t);
    const name = (index: number): Key => `k/${String((index * 7919) % 3000).padStart(4, '0')}`;
    for (let start = 0; start < 3000; start += 100) {
      await apply(
        store,
        ...Array.from({ length: 100 }, (_, index) => put(name(start + index), String(index))),
      );
    }
    const expected = Array.from({ length: 3000 }, (_, index) => name(index)).sort();
    assert.deepEqual(await keys(store), expected);
    await apply(store, { type: 'deleteRange', range: { from: 'k/1000', to: 'k/2000' } });
    const left = expected.filter((key) => key < 'k/1000' || key >= 'k/2000');
    assert.deepEqual(await keys(store), left);
    assert.deepEqual(
      (await store.range(ALL, { reverse: true })).entries.map(({ key }) => key),
      [...left].reverse(),
    );
  });
}

function limits(setup: Setup): void {
  const refuses = async (
    t: TestContext,
    transactions: readonly (readonly ReturnType<typeof put>[])[],
  ): Promise<void> => {
    const { store } = await setup(t);
    const before = await newest(store);
    for (const success of transactions) {
      await rejectsWith(store.txn({ compares: [], success }), 'ERR_MILLRACE_INVALID_OPTION');
    }
    assert.equal(await newest(store), before);
  };

  test('no key is written twice in what one outcome applies', (t) =>
    refuses(t, [
      [put('a'), put('a')],
      [put('a'), del('a')],
      [del('a'), put('a')],
      [{ type: 'deleteRange', range: { from: 'a', to: 'b' } }, put('a/1')],
      [put('a/1'), { type: 'deleteRange', range: { from: 'a', to: 'b' } }],
      [put('a'), nested([], [put('a')])],
      [nested([], [], [put('a')]), put('a')],
      [nested([], [put('a')]), nested([], [put('a')])],
      [nested([], [del('a')]), nested([], [put('a')])],
    ]));

  test('two deletes of a key, and the two branches of a nested transaction, may meet', async (t) => {
    const { store } = await setup(t);
    await apply(store, put('a'));
    await apply(store, del('a'), del('a'), { type: 'deleteRange', range: ALL });
    await apply(store, nested([isAbsent('a')], [put('a', 'then')], [put('a', 'else')]), put('b'));
    assert.equal(text(await store.get('a')), 'then');
  });

  test('a list holds 128 operations, and a nested one what the outer list leaves', async (t) => {
    const { store } = await setup(t);
    const puts = (prefix: string, count: number) =>
      Array.from({ length: count }, (_, index) => put(`${prefix}/${index}`));
    await apply(store, ...puts('a', 128));
    await rejectsWith(
      store.txn({ compares: [], success: puts('a', 129) }),
      'ERR_MILLRACE_INVALID_OPTION',
    );
    await rejectsWith(
      store.txn({ compares: [], success: [], failure: puts('a', 129) }),
      'ERR_MILLRACE_INVALID_OPTION',
    );
    // 99 and the nested one make 100 of the outer list: 28 are left, for each nested transaction anew.
    const outer = puts('b', 98);
    await apply(store, ...outer, nested([], puts('c', 28)), nested([], puts('d', 28)));
    await rejectsWith(
      store.txn({
        compares: [],
        success: [...outer, nested([], puts('c', 29)), nested([], [])],
      }),
      'ERR_MILLRACE_INVALID_OPTION',
    );
  });

  test('transactions nest once', (t) => refuses(t, [[nested([], [nested([], [])])]]));

  test('keys are 1 to 1024 printable characters', async (t) => {
    const { store } = await setup(t);
    const longest = 'k'.repeat(1024);
    await apply(store, put(longest, 'x'), put('!'), put('~'));
    assert.equal(text(await store.get(longest)), 'x');
    for (const key of ['', ' ', 'a b', 'ä', 'a\n', '\x7f', `${longest}k`]) {
      await rejectsWith(
        store.txn({ compares: [], success: [put(key)] }),
        'ERR_MILLRACE_INVALID_OPTION',
      );
      await rejectsWith(store.get(key), 'ERR_MILLRACE_INVALID_OPTION');
    }
  });

  test('a request has at most 1.5 MiB of keys and values', async (t) => {
    const { store } = await setup(t);
    const { requestBytesMax } = store.limits;
    await apply(store, put('a', new Uint8Array(requestBytesMax - 10_000)));
    await rejectsWith(
      store.txn({ compares: [], success: [put('a', new Uint8Array(requestBytesMax))] }),
      'ERR_MILLRACE_INVALID_OPTION',
    );
    assert.equal((await store.get('a'))?.value.length, requestBytesMax - 10_000);
  });

  test('limits of ranges are whole numbers from 1 on', async (t) => {
    const { store } = await setup(t);
    for (const limit of [0, -1, 1.5, Number.NaN]) {
      await rejectsWith(store.range(ALL, { limit }), 'ERR_MILLRACE_INVALID_OPTION');
    }
  });
}

function history(setup: Setup): void {
  test('reads at a revision see the state of then', async (t) => {
    const { store } = await setup(t);
    const first = await apply(store, put('a', '1'), put('b', '1'));
    const second = await apply(store, put('a', '2'), del('b'), put('c', '2'));
    await apply(store, { type: 'deleteRange', range: ALL });
    const at = async (revision: Revision) =>
      (await store.range(ALL, { revision })).entries.map((entry) => `${entry.key}${text(entry)}`);
    assert.deepEqual(await at(first), ['a1', 'b1']);
    assert.deepEqual(await at(second), ['a2', 'c2']);
    assert.deepEqual(await keys(store), []);
    assert.equal(text(await store.get('b', { revision: first })), '1');
    assert.equal(await store.get('b', { revision: second }), undefined);
    assert.equal((await store.get('a', { revision: second }))?.version, 2);
    const page = await store.range(ALL, { revision: first, limit: 1, reverse: true });
    assert.deepEqual([page.entries[0]?.key, page.more], ['b', true]);
    assert.equal(page.revision, second + 1);
  });

  test('the future cannot be read', async (t) => {
    const { store } = await setup(t);
    const revision = ((await apply(store, put('a'))) + 1) as Revision;
    await rejectsWith(store.get('a', { revision }), 'ERR_MILLRACE_INVALID_OPTION');
    await rejectsWith(store.range(ALL, { revision }), 'ERR_MILLRACE_INVALID_OPTION');
  });

  test('compaction forgets what was before it, and keeps the present', async (t) => {
    const { store } = await setup(t);
    const first = await apply(store, put('a', '1'), put('still'));
    const second = await apply(store, put('a', '2'));
    const third = await apply(store, put('a', '3'));
    await store.compact(second);
    await rejectsWith(store.get('a', { revision: first }), 'ERR_MILLRACE_COMPACTED');
    await rejectsWith(store.range(ALL, { revision: first }), 'ERR_MILLRACE_COMPACTED');
    assert.equal(text(await store.get('a', { revision: second })), '2');
    await store.compact(third);
    await store.compact(second);
    assert.equal(text(await store.get('a')), '3');
    assert.deepEqual(await keys(store), ['a', 'still']);
    assert.equal(await apply(store, put('a', '4')), third + 1);
  });
}

function watches(setup: Setup): void {
  test('a watch tells every change of its range in order, once, a revision at a time', async (t) => {
    const { store } = await setup(t);
    const iterator = iterate(t, store.watch({ from: 'a', to: 'c' }));
    const first = await apply(store, put('b', '1'), put('z', '1'), put('a', '1'));
    await apply(store, put('z', '2'));
    await apply(store, del('a'), put('b', '2'));
    await apply(store, del('absent'));
    await apply(store, { type: 'deleteRange', range: ALL });
    const batch = await iterator.next();
    assert.ok(!batch.done);
    assert.equal(batch.value.revision, first);
    assert.deepEqual(
      batch.value.events.map((event) => event.type === 'put' && event.entry.key),
      ['a', 'b'],
    );
    assert.deepEqual(await nextEvents(iterator), ['delete a', 'put b=2']);
    assert.deepEqual(await nextEvents(iterator), ['delete b']);
  });

  test('events carry what they were: entries with their counts, deletions with their revision', async (t) => {
    const { store } = await setup(t);
    const iterator = iterate(t, store.watch(ALL));
    const created = await apply(store, put('a', '1'));
    const modified = await apply(store, put('a', '2'));
    const deleted = await apply(store, del('a'));
    const [first, second, third] = [
      (await iterator.next()).value,
      (await iterator.next()).value,
      (await iterator.next()).value,
    ];
    const entry = second.events[0].entry;
    assert.equal(first.events[0].entry.version, 1);
    assert.deepEqual(
      [entry.version, entry.createRevision, entry.modRevision],
      [2, created, modified],
    );
    assert.deepEqual(third.events, [{ type: 'delete', key: 'a', modRevision: deleted }]);
  });

  test('a watch can start in the past and goes on into the present', async (t) => {
    const { store } = await setup(t);
    const first = await apply(store, put('a', '1'));
    await apply(store, put('a', '2'));
    const iterator = iterate(t, store.watch(ALL, { startRevision: first }));
    assert.deepEqual(await nextEvents(iterator), ['put a=1']);
    assert.deepEqual(await nextEvents(iterator), ['put a=2']);
    const next = nextEvents(iterator);
    await apply(store, put('a', '3'));
    assert.deepEqual(await next, ['put a=3']);
  });

  test('a watch can start in the future', async (t) => {
    const { store } = await setup(t);
    const start = ((await apply(store, put('a', '1'))) + 2) as Revision;
    const iterator = iterate(t, store.watch(ALL, { startRevision: start }));
    const next = nextEvents(iterator);
    await apply(store, put('a', '2'));
    await apply(store, put('a', '3'));
    assert.deepEqual(await next, ['put a=3']);
  });

  test('a list and a watch from the revision after it miss nothing and repeat nothing', async (t) => {
    const { store } = await setup(t);
    const writing = Promise.all(
      Array.from({ length: 60 }, (_, index) => apply(store, put(`k/${index}`))),
    );
    const { entries, revision } = await store.range(ALL);
    const iterator = iterate(t, store.watch(ALL, { startRevision: (revision + 1) as Revision }));
    const seen = entries.map(({ key }) => key);
    while (seen.length < 60) {
      for (const event of await nextEvents(iterator)) seen.push(event.slice(4, -1));
    }
    await writing;
    assert.deepEqual(
      [...seen].sort(),
      Array.from({ length: 60 }, (_, index) => `k/${index}`).sort(),
    );
  });

  test('watches are independent: each has its own pace and its own end', async (t) => {
    const { store } = await setup(t);
    const quick = iterate(t, store.watch(ALL));
    const slow = iterate(t, store.watch(ALL));
    await apply(store, put('a', '1'));
    await apply(store, put('a', '2'));
    assert.deepEqual(await nextEvents(quick), ['put a=1']);
    assert.deepEqual(await nextEvents(quick), ['put a=2']);
    await quick.return?.();
    assert.deepEqual(await quick.next(), { done: true, value: undefined });
    assert.deepEqual(await nextEvents(slow), ['put a=1']);
    assert.deepEqual(await nextEvents(slow), ['put a=2']);
  });

  test('the store knows the oldest revision that a watch still needs', async (t) => {
    const { store, advance } = await setup(t);
    assert.equal(store.neededRevision(), undefined);
    const first = await apply(store, put('a', '1'));
    const slow = iterate(t, store.watch({ from: 'a', to: 'b' }, { startRevision: first }));
    const idle = iterate(t, store.watch({ from: 'x', to: 'y' }, { class: 'control' }));
    const waiting = idle.next();
    const second = await apply(store, put('a', '2'));
    await advance(100);
    assert.ok(store.neededRevision()! >= first && store.neededRevision()! <= second + 1);
    await nextEvents(slow);
    await nextEvents(slow);
    const after = await apply(store, put('b', '1'));
    assert.ok(store.neededRevision()! >= first && store.neededRevision()! <= after + 1);
    await slow.return?.();
    await idle.return?.();
    await waiting;
    assert.equal(store.neededRevision(), undefined);
  });

  test('an aborted signal ends a watch quietly, also one that waits', async (t) => {
    const { store } = await setup(t);
    const controller = new AbortController();
    const iterator = iterate(t, store.watch(ALL, { signal: controller.signal }));
    const waiting = iterator.next();
    controller.abort();
    assert.deepEqual(await waiting, { done: true, value: undefined });
    for await (const _ of store.watch(ALL, { signal: AbortSignal.abort() })) {
      assert.fail('an aborted watch told something');
    }
  });

  test('leaving a loop over a watch ends it', async (t) => {
    const { store } = await setup(t);
    const watch = store.watch(ALL);
    await apply(store, put('a', '1'));
    for await (const { events } of watch) {
      assert.equal(events.length, 1);
      break;
    }
  });

  test('a watch whose next revision is gone says so and names the oldest there is', async (t) => {
    const { store } = await setup(t);
    const first = await apply(store, put('a', '1'));
    await apply(store, put('a', '2'));
    const third = await apply(store, put('a', '3'));
    await store.compact(third);
    const late = iterate(t, store.watch(ALL, { startRevision: first }));
    await assert.rejects(late.next(), (error: unknown) => {
      const { code, details } = error as { code: string; details: { compactRevision: number } };
      assert.deepEqual([code, details.compactRevision], ['ERR_MILLRACE_COMPACTED', third]);
      return true;
    });
    const inTime = iterate(t, store.watch(ALL, { startRevision: third }));
    assert.deepEqual(await nextEvents(inTime), ['put a=3']);
  });
}

function leases(setup: Setup): void {
  test('a lease that is not renewed ends, and its keys go in one revision', async (t) => {
    const { store, advance } = await setup(t);
    const { leaseId, ttlMs } = await store.grantLease(2_000);
    assert.ok(ttlMs >= 2_000);
    await apply(store, put('b', '', leaseId), put('free'));
    const before = await apply(store, put('a', '', leaseId));
    assert.equal((await store.get('a'))?.leaseId, leaseId);
    const iterator = iterate(t, store.watch(ALL));
    await advance(ttlMs / 2);
    assert.deepEqual(await keys(store), ['a', 'b', 'free']);
    await advance(ttlMs / 2 + 1_000);
    assert.deepEqual(await nextEvents(iterator), ['delete a', 'delete b']);
    assert.deepEqual(await keys(store), ['free']);
    assert.equal(await newest(store), before + 1);
    await rejectsWith(store.renewLease(leaseId), 'ERR_MILLRACE_LEASE_LOST');
  });

  test('a lease lives as long as it is renewed', async (t) => {
    const { store, advance } = await setup(t);
    const { leaseId, ttlMs } = await store.grantLease(2_000);
    await apply(store, put('a', '', leaseId));
    for (let renewal = 0; renewal < 4; renewal++) {
      await advance(ttlMs / 2);
      assert.equal((await store.renewLease(leaseId)).ttlMs, ttlMs);
    }
    assert.deepEqual(await keys(store), ['a']);
    await advance(ttlMs + 1_000);
    assert.deepEqual(await keys(store), []);
  });

  test('revoking ends a lease at once, and does no harm twice', async (t) => {
    const { store } = await setup(t);
    const { leaseId } = await store.grantLease(60_000);
    const other = await store.grantLease(60_000);
    assert.notEqual(leaseId, other.leaseId);
    await apply(store, put('a', '', leaseId), put('b', '', leaseId), put('c', '', other.leaseId));
    await store.revokeLease(leaseId);
    assert.deepEqual(await keys(store), ['c']);
    await store.revokeLease(leaseId);
    await rejectsWith(store.renewLease(leaseId), 'ERR_MILLRACE_LEASE_LOST');
  });

  test('a put on a lease that has ended is not applied, nor is what comes with it', async (t) => {
    const { store } = await setup(t);
    const { leaseId } = await store.grantLease(60_000);
    await store.revokeLease(leaseId);
    const before = await newest(store);
    await rejectsWith(
      store.txn({ compares: [], success: [put('a'), put('b', '', leaseId)] }),
      'ERR_MILLRACE_LEASE_LOST',
    );
    assert.deepEqual([await keys(store), await newest(store)], [[], before]);
  });

  test('a key hangs on the lease of its last put only', async (t) => {
    const { store } = await setup(t);
    const first = await store.grantLease(60_000);
    const second = await store.grantLease(60_000);
    await apply(store, put('freed', '', first.leaseId), put('moved', '', first.leaseId));
    await apply(store, put('gone', '', first.leaseId));
    await apply(store, put('freed'), put('moved', '', second.leaseId), del('gone'));
    await apply(store, put('gone'));
    await store.revokeLease(first.leaseId);
    assert.deepEqual(await keys(store), ['freed', 'gone', 'moved']);
    assert.equal((await store.get('freed'))?.leaseId, undefined);
    await store.revokeLease(second.leaseId);
    assert.deepEqual(await keys(store), ['freed', 'gone']);
  });

  test('a lease without keys ends without a revision', async (t) => {
    const { store } = await setup(t);
    const before = await apply(store, put('a'));
    const { leaseId } = await store.grantLease(60_000);
    await store.revokeLease(leaseId);
    assert.equal(await newest(store), before);
  });

  test('a kept lease lives on, and every answered renewal is told with when it was sent', async (t) => {
    const { store, advance } = await setup(t);
    const lease = await store.grantLease(2_000);
    await apply(store, put('a', '', lease.leaseId));
    const renewals: LeaseRenewal[] = [];
    const keeper = store.keepLease(lease, {
      hangLimitMs: 60_000,
      onRenewed: (renewal) => renewals.push(renewal),
      onLost: (cause) => assert.fail(cause),
    });
    assert.equal(keeper.leaseId, lease.leaseId);
    assert.equal(keeper.lastRenewal(), undefined);
    await advance(lease.ttlMs * 2.5);
    assert.deepEqual(keeper.lastRenewal(), renewals.at(-1));
    assert.deepEqual(await keys(store), ['a']);
    assert.ok(renewals.length >= 6, `${renewals.length} renewals in 2.5 ttls`);
    for (const [index, { sentAtMs, ttlMs }] of renewals.entries()) {
      assert.equal(ttlMs, lease.ttlMs);
      if (index > 0) assert.ok(sentAtMs > renewals[index - 1]!.sentAtMs);
    }
    await keeper.stop();
    await keeper.stop();
    const told = renewals.length;
    await advance(lease.ttlMs + 1_000);
    assert.deepEqual([await keys(store), renewals.length], [[], told]);
  });

  test('a keeper lets the lease of a process without progress end, and says so', async (t) => {
    const { store, advance } = await setup(t);
    const lease = await store.grantLease(2_000);
    const lost: string[] = [];
    const keeper = store.keepLease(lease, {
      hangLimitMs: 500,
      onLost: ({ code }) => lost.push(code),
    });
    for (let step = 0; step < 20; step++) {
      await advance(200);
      keeper.progress();
    }
    await store.renewLease(lease.leaseId);
    await advance(lease.ttlMs + 1_500);
    await rejectsWith(store.renewLease(lease.leaseId), 'ERR_MILLRACE_LEASE_LOST');
    for (let step = 0; step < 8; step++) {
      keeper.progress();
      await advance(200);
    }
    assert.deepEqual(lost, ['ERR_MILLRACE_LEASE_LOST']);
  });

  test('a keeper learns that its lease was revoked, also out of turn', async (t) => {
    const { store, advance } = await setup(t);
    const lease = await store.grantLease(60_000);
    let lost = 0;
    const keeper = store.keepLease(lease, { onLost: () => lost++ });
    await advance(200);
    await store.revokeLease(lease.leaseId);
    keeper.renewNow();
    // The renewal before may still be on its way in a thread that has to share its processor.
    for (let tries = 0; lost === 0 && tries < 50; tries++) await advance(200);
    assert.equal(lost, 1);
  });

  test('a ttl is a positive span', async (t) => {
    const { store } = await setup(t);
    for (const ttlMs of [0, -1, Number.NaN, Number.POSITIVE_INFINITY]) {
      await rejectsWith(store.grantLease(ttlMs), 'ERR_MILLRACE_INVALID_OPTION');
    }
    const lease = await store.grantLease(60_000);
    for (const options of [{ everyMs: 0 }, { hangLimitMs: -1 }]) {
      const keep = async () => store.keepLease(lease, options);
      await rejectsWith(keep(), 'ERR_MILLRACE_INVALID_OPTION');
    }
  });
}

function closing(setup: Setup): void {
  test('a closed store refuses every call, and closing twice is fine', async (t) => {
    const { store } = await setup(t);
    const lease = await store.grantLease(60_000);
    const { leaseId } = lease;
    await store.close();
    await store.close();
    for (const call of [
      () => store.get('a'),
      () => store.range(ALL),
      () => store.txn({ compares: [], success: [put('a')] }),
      () => store.grantLease(1_000),
      () => store.renewLease(leaseId),
      () => store.revokeLease(leaseId),
      async () => store.keepLease(lease),
      () => store.compact(1 as Revision),
      async () => store.watch(ALL),
    ]) {
      await rejectsWith(call(), 'ERR_MILLRACE_CLOSED');
    }
  });

  test('closing finishes what is in flight', async (t) => {
    const { store } = await setup(t);
    const inFlight = Array.from({ length: 10 }, (_, index) => apply(store, put(`k/${index}`)));
    await store.close();
    assert.equal(new Set(await Promise.all(inFlight)).size, 10);
  });

  test('closing ends watches with an error, also those that wait', async (t) => {
    const { store } = await setup(t);
    const waiting = store.watch(ALL)[Symbol.asyncIterator]();
    const idle = store.watch(ALL)[Symbol.asyncIterator]();
    const next = waiting.next();
    const told = rejectsWith(next, 'ERR_MILLRACE_CLOSED');
    await store.close();
    await told;
    await rejectsWith(idle.next(), 'ERR_MILLRACE_CLOSED');
    assert.deepEqual(await idle.next(), { done: true, value: undefined });
  });
}
