import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { test } from 'node:test';
import type { Lock } from '../../src/coordination/locks.js';
import type { ChannelPayloads } from '../../src/core/channels.js';
import { sleep } from '../../src/core/clock.js';
import { prefixRange, type Txn } from '../../src/core/store.js';
import { codeOf, gate, TTL_MS, track, world } from './world.js';

test('one process: callers get the lock in the order of their calls, with rising tokens', async (t) => {
  const w = await world(t);
  const { c, faults } = await w.join();
  const order: number[] = [];
  const tokens: bigint[] = [];
  faults.sent.length = 0;
  await Promise.all(
    [0, 1, 2, 3].map((i) =>
      c.locks.withLock('a', {}, async ({ token }) => {
        order.push(i);
        tokens.push(token);
      }),
    ),
  );
  assert.deepEqual(order, [0, 1, 2, 3]);
  assert.deepEqual(
    tokens,
    [...new Set(tokens)].sort((a, b) => Number(a - b)),
  );
  assert.equal(tokens.length, 4);
  // One to enter, one for each hand-off, one to leave.
  assert.equal(faults.sent.length, 5);
  assert.deepEqual(await w.lockKeys(), []);
});

test('two processes: the second waits until the first is done', async (t) => {
  const w = await world(t);
  const [a, b] = [await w.join(), await w.join()];
  const held = gate();
  const first = a.c.locks.withLock('x', {}, () => held.opened);
  await w.clock.settle();
  let entered = false;
  const second = b.c.locks.withLock('x', {}, () => {
    entered = true;
  });
  await w.clock.advance(1_000);
  assert.equal(entered, false);
  assert.equal((await w.lockKeys()).length, 2);
  held.open();
  await first;
  await second;
  assert.equal(entered, true);
  await w.clock.settle();
  assert.deepEqual(await w.lockKeys(), []);
});

test('the token rises across processes, also when the first handed off while the second waited', async (t) => {
  const w = await world(t);
  const [a, b] = [await w.join(), await w.join()];
  const tokens: [string, bigint][] = [];
  const held = gate();
  const work = async (who: string, lock: Lock, until?: Promise<void>): Promise<void> => {
    tokens.push([who, lock.token]);
    await until;
  };
  const all = [
    a.c.locks.withLock('x', {}, (lock) => work('a1', lock, held.opened)),
    a.c.locks.withLock('x', {}, (lock) => work('a2', lock)),
    a.c.locks.withLock('x', {}, (lock) => work('a3', lock)),
  ];
  await w.clock.settle();
  all.push(b.c.locks.withLock('x', {}, (lock) => work('b', lock)));
  await w.clock.settle();
  held.open();
  await Promise.all(all);
  // a1 did not know of b; the hand-off to a2 shows it, so a3 queues behind it.
  assert.deepEqual(
    tokens.map(([who]) => who),
    ['a1', 'a2', 'b', 'a3'],
  );
  for (let i = 1; i < tokens.length; i++) assert.ok(tokens[i]![1] > tokens[i - 1]![1]);
});

test('keys are those of the etcd recipe, and waiting goes by create revision', async (t) => {
  const w = await world(t);
  const { c } = await w.join('host:1');
  // Somebody with another client, ahead of us, and one whose key sorts first but came later.
  const { leaseId } = await w.store.grantLease(60_000);
  const put = (key: string) =>
    w.store.txn({
      compares: [],
      success: [{ type: 'put', key, value: new Uint8Array(0), leaseId }],
    });
  await put('l/x/zz');
  const tracked = track(c.locks.withLock('x', {}, async () => 'in'));
  await w.clock.settle();
  const own = (await w.lockKeys()).find(({ key }) => key !== 'l/x/zz')!;
  assert.equal(own.key, `l/x/${c.session.leaseId}`);
  assert.equal(own.leaseId, c.session.leaseId);
  assert.equal(new TextDecoder().decode(own.value), 'host:1');
  await put('l/x/!early');
  await w.clock.advance(100);
  assert.equal(tracked.state, 'open');
  await w.store.txn({ compares: [], success: [{ type: 'delete', key: 'l/x/zz' }] });
  await w.clock.settle();
  assert.equal(tracked.value, 'in');
});

test('a waiter watches its predecessor, and does not enter when that one merely gives up', async (t) => {
  const w = await world(t);
  const [a, b, c] = [await w.join(), await w.join(), await w.join()];
  const held = gate();
  const first = a.c.locks.withLock('x', {}, () => held.opened);
  await w.clock.settle();
  const middle = track(b.c.locks.withLock('x', { timeout: 500 }, () => {}));
  await w.clock.settle();
  const watched: unknown[] = [];
  const watch = c.faults.watch.bind(c.faults);
  c.faults.watch = (range, options) => {
    watched.push(range);
    return watch(range, options);
  };
  const last = track(c.c.locks.withLock('x', {}, () => 'in'));
  await w.clock.settle();
  assert.deepEqual(watched, [
    { from: `l/x/${b.c.session.leaseId}`, to: `l/x/${b.c.session.leaseId}!` },
  ]);
  await w.clock.advance(600);
  assert.equal(codeOf(middle.error), 'ERR_MILLRACE_LOCK_TIMEOUT');
  assert.equal(last.state, 'open');
  assert.equal(watched.length, 2);
  held.open();
  await first;
  await w.clock.settle();
  assert.equal(last.value, 'in');
});

test('a timeout tells who holds the lock', async (t) => {
  const w = await world(t);
  const [a, b] = [await w.join('alpha:7'), await w.join('beta:8')];
  const held = gate();
  const first = a.c.locks.withLock('x', {}, () => held.opened);
  await w.clock.settle();
  const remote = track(b.c.locks.withLock('x', {}, () => {}));
  const local = track(a.c.locks.withLock('x', { timeout: '2s' }, () => {}));
  await w.clock.advance(2_999);
  assert.equal(remote.state, 'open');
  assert.match(
    String(local.error),
    /'l\/x' was not free within 2000 ms; this process has held it for 2000 ms/,
  );
  await w.clock.advance(1);
  assert.match(
    String(remote.error),
    /it is held by 'alpha:7' \(lease [0-9a-f]+\), and 0 more are ahead/,
  );
  held.open();
  await first;
  await w.clock.settle();
  assert.deepEqual(await w.lockKeys(), []);
});

test('an aborted wait leaves the line, and never runs', async (t) => {
  const w = await world(t);
  const [a, b] = [await w.join(), await w.join()];
  const held = gate();
  const first = a.c.locks.withLock('x', {}, () => held.opened);
  await w.clock.settle();
  const aborter = new AbortController();
  const reason = new Error('enough');
  let ran = false;
  const waiting = track(
    b.c.locks.withLock('x', { signal: aborter.signal }, () => {
      ran = true;
    }),
  );
  await w.clock.settle();
  aborter.abort(reason);
  await w.clock.settle();
  assert.equal(waiting.error, reason);
  assert.equal((await w.lockKeys()).length, 1);
  held.open();
  await first;
  await w.clock.settle();
  assert.equal(ran, false);
  await assert.rejects(
    b.c.locks.withLock('x', { signal: aborter.signal }, () => {}),
    reason,
  );
});

test('a lock inside a lock is refused, wherever in the chain of awaits, and tryLock is not', async (t) => {
  const w = await world(t);
  const { c } = await w.join();
  await c.locks.withLock('outer', {}, async () => {
    await null;
    const inner = async (): Promise<void> => {
      await w.clock.settle();
      await c.locks.withLock('inner', {}, () => {});
    };
    await assert.rejects(inner(), { code: 'ERR_MILLRACE_LOCK_NESTED' });
    const other = await c.locks.tryLock('inner');
    assert.ok(other);
    await other.release();
    assert.equal(await c.locks.tryLock('outer'), undefined);
  });
});

test('what outlives the callback is outside the lock', async (t) => {
  const w = await world(t);
  const { c } = await w.join();
  const later = gate();
  let detached: Promise<string> | undefined;
  await c.locks.withLock('outer', {}, () => {
    detached = later.opened.then(() => c.locks.withLock('inner', {}, () => 'fine'));
  });
  later.open();
  assert.equal(await detached, 'fine');
});

test('the error of the callback comes through, and the lock is free', async (t) => {
  const w = await world(t);
  const { c } = await w.join();
  const boom = new Error('boom');
  await assert.rejects(
    c.locks.withLock('x', {}, () => {
      throw boom;
    }),
    boom,
  );
  assert.deepEqual(await w.lockKeys(), []);
});

test('tryLock takes what is free and waits for nobody', async (t) => {
  const w = await world(t);
  const [a, b] = [await w.join(), await w.join()];
  const lock = await a.c.locks.tryLock('x');
  assert.ok(lock);
  assert.equal(await a.c.locks.tryLock('x'), undefined);
  assert.equal(await b.c.locks.tryLock('x'), undefined);
  assert.equal((await w.lockKeys()).length, 1);
  await lock.release();
  await lock.release();
  const next = await b.c.locks.tryLock('x');
  assert.ok(next && next.token > lock.token);
  await next[Symbol.asyncDispose]();
  assert.deepEqual(await w.lockKeys(), []);
});

test('a lock that is taken again and again is kept for a moment, for whoever comes here', async (t) => {
  const w = await world(t);
  const [a, b] = [await w.join(), await w.join()];
  const tokens: bigint[] = [];
  const take = () => a.c.locks.withLock('x', {}, ({ token }) => tokens.push(token));
  await take();
  assert.deepEqual(await w.lockKeys(), [], 'once is not often');
  await take();
  const [kept] = await w.lockKeys();
  assert.ok(kept, 'kept');
  await take();
  const lock = await a.c.locks.tryLock('x');
  assert.ok(lock, 'a try here finds it free');
  await lock.release();
  const [again] = await w.lockKeys();
  assert.equal(again!.createRevision, kept.createRevision, 'by hand-offs of one key');
  assert.ok(tokens.every((token, i) => i === 0 || token > tokens[i - 1]!));
  // Somebody else has it two milliseconds later.
  const other = track(b.c.locks.withLock('x', {}, () => 'in'));
  await w.clock.settle();
  assert.equal(other.value, undefined);
  await w.clock.advance(3);
  assert.equal(other.value, 'in');
  assert.deepEqual(await w.lockKeys(), []);
});

test('a hot lock is not kept from another process that waits', async (t) => {
  const w = await world(t);
  const [a, b] = [await w.join(), await w.join()];
  await a.c.locks.withLock('x', {}, () => {});
  const held = gate();
  const first = a.c.locks.withLock('x', {}, () => held.opened);
  await w.clock.settle();
  const other = track(b.c.locks.withLock('x', {}, () => 'in'));
  await w.clock.settle();
  // The answer to this one's hand-off shows that somebody waits.
  const second = a.c.locks.withLock('x', {}, () => {});
  held.open();
  await first;
  await second;
  await w.clock.settle();
  assert.equal(other.value, 'in');
});

test('closing does not wait for a lock that is kept', async (t) => {
  const w = await world(t);
  const a = await w.join();
  await a.c.locks.withLock('x', {}, () => {});
  await a.c.locks.withLock('x', {}, () => {});
  assert.equal((await w.lockKeys()).length, 1);
  await a.c.stop();
  assert.deepEqual(await w.lockKeys(), []);
});

test('a try among waiters does not make them lose their place', async (t) => {
  const w = await world(t);
  const [a, b] = [await w.join(), await w.join()];
  const held = gate();
  const first = a.c.locks.withLock('x', {}, () => held.opened);
  await w.clock.settle();
  const tried = b.c.locks.tryLock('x');
  const waiting = track(b.c.locks.withLock('x', {}, () => 'in'));
  assert.equal(await tried, undefined);
  held.open();
  await first;
  await w.clock.settle();
  assert.equal(waiting.value, 'in');
});

test('a lost lease aborts the holder, who is told; the next acquisition has a new lease', async (t) => {
  const w = await world(t);
  const [a, b] = [await w.join(), await w.join()];
  const held = gate();
  let signal: AbortSignal | undefined;
  let token = 0n;
  const first = track(
    a.c.locks.withLock('x', {}, (lock) => {
      ({ signal, token } = lock);
      return held.opened;
    }),
  );
  await w.clock.settle();
  a.faults.isCut = true;
  const second = track(b.c.locks.withLock('x', { timeout: '1m' }, (lock) => lock.token));
  await w.clock.advance(TTL_MS * 0.9 - 100);
  assert.equal(signal?.aborted, false);
  await w.clock.advance(1_100);
  // Fenced, while the store still has the key: there never are two who may believe to hold it.
  assert.equal(codeOf(signal?.reason), 'ERR_MILLRACE_LEASE_LOST');
  await w.clock.advance(TTL_MS);
  assert.ok(second.value !== undefined && second.value > token);
  held.open();
  a.faults.isCut = false;
  await w.clock.advance(TTL_MS);
  assert.equal(codeOf(first.error), 'ERR_MILLRACE_LEASE_LOST');
  assert.equal(await a.c.locks.withLock('x', {}, () => 'again'), 'again');
});

test('compare refuses the transaction of a holder whose turn is over', async (t) => {
  const w = await world(t);
  const { c } = await w.join();
  const locks: Lock[] = [];
  const held = gate();
  const write = (lock: Lock) => {
    const txn: Txn = {
      compares: [lock.compare],
      success: [{ type: 'put', key: 'data', value: new Uint8Array(1) }],
    };
    return w.store.txn(txn).then(({ kind }) => kind);
  };
  const all = [1, 2].map((turn) =>
    c.locks.withLock('x', {}, async (lock) => {
      locks.push(lock);
      assert.equal(await write(lock), 'done');
      if (turn === 2) await held.opened;
    }),
  );
  await w.clock.settle();
  assert.equal(await write(locks[0]!), 'refused');
  assert.equal(await write(locks[1]!), 'done');
  held.open();
  await Promise.all(all);
  assert.equal(await write(locks[1]!), 'refused');
});

test('an answer lost at any step costs nothing but time', async (t) => {
  for (const fate of ['answer lost', 'request lost'] as const) {
    for (let step = 0; step < 6; step++) {
      const w = await world(t);
      const { c, faults } = await w.join();
      faults.fates.push(...Array.from({ length: step }, () => 'ok' as const), fate);
      const tokens: bigint[] = [];
      const all = [0, 1, 2].map(() =>
        c.locks.withLock('x', {}, ({ token }) => void tokens.push(token)),
      );
      await w.clock.advance(2_000);
      await Promise.all(all);
      assert.equal(new Set(tokens).size, 3, `${fate} at ${step}`);
      assert.deepEqual(
        tokens,
        [...tokens].sort((a, b) => Number(a - b)),
      );
      assert.deepEqual(await w.lockKeys(), [], `${fate} at ${step}`);
    }
  }
});

test('a key put after everybody left is found and deleted', async (t) => {
  const w = await world(t);
  const { c, faults } = await w.join();
  faults.fates.push('late');
  const all = c.locks.withLock('x', {}, () => 'in');
  await w.clock.advance(200);
  assert.equal(await all, 'in');
  await faults.applyLate();
  assert.equal((await w.lockKeys()).length, 1);
  await w.clock.advance(TTL_MS);
  assert.deepEqual(await w.lockKeys(), []);
  assert.equal(c.session.state, 'live');
});

test('a late copy of a join does not disturb the holder', async (t) => {
  const w = await world(t);
  const { c, faults } = await w.join();
  faults.fates.push('late');
  const done = c.locks.withLock('x', {}, async ({ compare }) => {
    await faults.applyLate();
    return (await w.store.txn({ compares: [compare], success: [] })).kind;
  });
  await w.clock.advance(200);
  assert.equal(await done, 'done');
});

test('an answer that comes after the fence grants nothing', async (t) => {
  const w = await world(t);
  const { c, faults } = await w.join();
  const txn = faults.txn.bind(faults);
  const arrived = gate();
  faults.txn = async (...args) => {
    faults.txn = txn;
    const outcome = await txn(...args);
    await arrived.opened;
    return outcome;
  };
  let isLive: boolean | undefined;
  const done = track(
    c.locks.withLock('x', { timeout: '5m' }, () => {
      isLive = c.session.state === 'live';
    }),
  );
  await w.clock.settle();
  faults.isCut = true;
  await w.clock.advance(TTL_MS);
  arrived.open();
  await w.clock.advance(1_000);
  assert.equal(done.state, 'open');
  faults.isCut = false;
  await w.clock.advance(TTL_MS);
  assert.equal(done.state, 'done');
  assert.equal(isLive, true);
});

test('a late copy of a hand-off does not disturb the holder', async (t) => {
  const w = await world(t);
  const { c, faults } = await w.join();
  const held = gate();
  let compareHolds: string | undefined;
  faults.fates.push('ok', 'late');
  const all = [
    c.locks.withLock('x', {}, () => {}),
    c.locks.withLock('x', {}, async ({ compare }) => {
      await faults.applyLate();
      const { kind } = await w.store.txn({ compares: [compare], success: [] });
      compareHolds = kind;
      await held.opened;
    }),
  ];
  await w.clock.advance(200);
  held.open();
  await Promise.all(all);
  assert.equal(compareHolds, 'done');
});

test('fifty in a line: a hand-off takes one watch each, also when those from the past are slow', async (t) => {
  const w = await world(t);
  // As etcd has it: a watch from a revision of the past is served within 100 ms, one from now on at once.
  const catchUpMs = 100;
  let watches = 0;
  const processes = [];
  for (let i = 0; i < 50; i++) processes.push(await w.join());
  for (const { faults } of processes) {
    const watch = faults.watch.bind(faults);
    faults.watch = (range, options) =>
      (async function* () {
        watches++;
        const { revision } = await w.store.range(prefixRange('none'));
        if ((options?.startRevision ?? revision + 1) <= revision) await sleep(w.clock, catchUpMs);
        yield* watch(range, options);
      })();
  }
  const held = gate();
  const order: number[] = [];
  const calls = processes.map(async ({ c }, i) =>
    c.locks.withLock('x', { timeout: '60s' }, async () => {
      order.push(i);
      await held.opened;
    }),
  );
  await w.clock.advance(1_000);
  const startMs = w.clock.monoMs();
  held.open();
  await w.clock.advance(200);
  await Promise.all(calls);
  assert.ok(w.clock.monoMs() - startMs <= 200);
  assert.equal(order.length, 50);
  assert.equal(watches, 49);
});

test('a predecessor that gave up uncovers those ahead of it: nobody enters until they have gone', async (t) => {
  const w = await world(t);
  const [a, b, c, d] = [await w.join(), await w.join(), await w.join(), await w.join()];
  const gates = [gate(), gate()];
  const order: string[] = [];
  const lock = (p: typeof a, name: string, opened: Promise<void>) =>
    p.c.locks.withLock('x', { timeout: '60s' }, async () => {
      order.push(`${name} in`);
      await opened;
      order.push(`${name} out`);
    });
  const first = lock(a, 'a', gates[0]!.opened);
  await w.clock.settle();
  const second = lock(b, 'b', gates[1]!.opened);
  await w.clock.settle();
  const third = track(c.c.locks.withLock('x', { timeout: 300 }, () => order.push('c')));
  await w.clock.settle();
  const fourth = lock(d, 'd', Promise.resolve());
  await w.clock.advance(400);
  assert.equal(codeOf(third.error), 'ERR_MILLRACE_LOCK_TIMEOUT');
  assert.deepEqual(order, ['a in']);
  gates[0]!.open();
  await first;
  await w.clock.advance(100);
  assert.deepEqual(order, ['a in', 'a out', 'b in']);
  gates[1]!.open();
  await Promise.all([second, fourth]);
  assert.deepEqual(order, ['a in', 'a out', 'b in', 'b out', 'd in', 'd out']);
});

test('a wait goes on when the history it watches was compacted', async (t) => {
  const w = await world(t);
  const [a, b] = [await w.join(), await w.join()];
  const held = gate();
  const first = a.c.locks.withLock('x', {}, () => held.opened);
  await w.clock.settle();
  const watch = b.faults.watch.bind(b.faults);
  b.faults.watch = (range, options) => {
    b.faults.watch = watch;
    return (async function* () {
      const { revision } = await w.store.range(prefixRange('none'));
      await w.store.compact(revision);
      yield* watch(range, { ...options, startRevision: 1 as never });
    })();
  };
  const waiting = track(b.c.locks.withLock('x', {}, () => 'in'));
  await w.clock.advance(100);
  held.open();
  await first;
  await w.clock.advance(100);
  assert.equal(waiting.value, 'in');
});

test('a wait survives a watch that tells nothing', async (t) => {
  const w = await world(t);
  const [a, b] = [await w.join(), await w.join()];
  const held = gate();
  const first = a.c.locks.withLock('x', {}, () => held.opened);
  await w.clock.settle();
  b.faults.watch = (_range, options) =>
    (async function* () {
      await new Promise((resolve) => options?.signal?.addEventListener('abort', resolve));
    })();
  const waiting = track(b.c.locks.withLock('x', { timeout: '30s' }, () => 'in'));
  await w.clock.advance(100);
  held.open();
  await first;
  await w.clock.advance(5_000);
  assert.equal(waiting.value, 'in');
});

test('names hold no slash, and are one thing only', async (t) => {
  const w = await world(t);
  const { c } = await w.join();
  const run = (name: string, shard?: string | number): Promise<string> =>
    c.locks.withLock(name, shard === undefined ? {} : { shard }, () => 'in');
  for (const name of ['', 'a/b', 'ä', 'a b', 'x'.repeat(201)]) {
    await assert.rejects(run(name), { code: 'ERR_MILLRACE_INVALID_OPTION' }, name);
  }
  await assert.rejects(run('order', 'a/b'), { code: 'ERR_MILLRACE_INVALID_OPTION' });
  assert.equal(await run('order', 7), 'in');
  await assert.rejects(run('order'), /lock with shards already and cannot be a lock too/);
  assert.equal(await run('plain'), 'in');
  await assert.rejects(run('plain', 7), { code: 'ERR_MILLRACE_INVALID_OPTION' });
  await assert.rejects(c.elections.campaign('plain', 'v'), { code: 'ERR_MILLRACE_INVALID_OPTION' });
});

test('a name that another process uses with shards is refused, and nothing stays in the line', async (t) => {
  const w = await world(t);
  const [a, b] = [await w.join(), await w.join()];
  const held = gate();
  const first = a.c.locks.withLock('order', { shard: 1 }, () => held.opened);
  await w.clock.settle();
  await assert.rejects(
    b.c.locks.withLock('order', {}, () => {}),
    /used with shards elsewhere/,
  );
  assert.equal((await w.lockKeys()).length, 1);
  held.open();
  await first;
});

test('close refuses who waits and leaves no key', async (t) => {
  const w = await world(t);
  const [a, b] = [await w.join(), await w.join()];
  const held = gate();
  const first = track(a.c.locks.withLock('x', {}, () => held.opened));
  await w.clock.settle();
  const local = track(a.c.locks.withLock('x', {}, () => {}));
  const remote = track(b.c.locks.withLock('x', {}, () => 'in'));
  await w.clock.settle();
  await a.c.stop();
  await w.clock.settle();
  assert.equal(codeOf(local.error), 'ERR_MILLRACE_CLOSED');
  assert.equal(remote.value, 'in');
  held.open();
  await w.clock.settle();
  assert.equal(codeOf(first.error), 'ERR_MILLRACE_CLOSED');
  assert.deepEqual(await w.lockKeys(), []);
  await assert.rejects(
    a.c.locks.withLock('x', {}, () => {}),
    { code: 'ERR_MILLRACE_CLOSED' },
  );
});

test('many locks at once are no leak of listeners', async (t) => {
  const w = await world(t);
  const { c } = await w.join();
  const warnings: string[] = [];
  const onWarning = ({ name }: Error): void => void warnings.push(name);
  process.on('warning', onWarning);
  t.after(() => process.off('warning', onWarning));
  const many = Array.from({ length: 30 }, (_, shard) => shard);
  w.clock.jumpWall(2_000);
  await Promise.all([
    ...many.map((shard) => c.locks.withLock('x', { shard }, () => w.clock.settle())),
    w.clock.advance(1_000),
  ]);
  await w.clock.settle();
  assert.deepEqual(warnings, []);
});

test('a lock that is held for long is reported, with growing pauses', async (t) => {
  const w = await world(t);
  const { c } = await w.join();
  const seen: ChannelPayloads['millrace:lock:held-long'][] = [];
  const listener = (payload: unknown): void => void seen.push(payload as (typeof seen)[number]);
  subscribe('millrace:lock:held-long', listener);
  t.after(() => unsubscribe('millrace:lock:held-long', listener));
  const held = gate();
  const done = c.locks.withLock('x', {}, () => held.opened);
  await w.clock.advance(5 * TTL_MS);
  held.open();
  await done;
  await w.clock.advance(10 * TTL_MS);
  assert.deepEqual(
    seen.map(({ heldMs }) => heldMs),
    [TTL_MS, 2 * TTL_MS, 4 * TTL_MS],
  );
});
