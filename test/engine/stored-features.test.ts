/**
 * What features beyond the plain task keep in the store: schedules, pauses, debounced keys, shares of a rate, and notes of
 * far tasks that were moved. As in stored-format.test.ts it was frozen once, as bytes in test/fixtures/format; this version
 * must write the same, and go on with it when it finds it. MILLRACE_FREEZE=1 makes the first test write.
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { describe, type TestContext, test } from 'node:test';
import { defineTask, defineTasks } from '../../src/core/task.js';
import { cluster } from '../../src/testing/cluster.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';

// The compiled test is in dist/test/engine.
const FILE = new URL('../../../test/fixtures/format/features-1.json', import.meta.url);

/** Value by key, base64. */
type Frozen = Readonly<Record<string, string>>;

/** A cluster without nodes, and what has begun on those that join it: names, in order. */
async function setup(t: TestContext) {
  const begun: string[] = [];
  const run = ({ name }: { readonly name: string }): void => void begun.push(name);
  const work = defineTask({ name: 'work', exec: 'inline', run });
  const limited = defineTask({
    name: 'limited',
    exec: 'inline',
    rate: { limit: 10, per: '1s' },
    run,
  });
  const c = await cluster(0, {
    tasks: defineTasks({ work, limited }),
    runtime: { session: { ttl: '30s' } },
  });
  t.after(() => c.close());
  return { c, work, limited, begun };
}

type Setup = Awaited<ReturnType<typeof setup>>;

/** Brings the store into a state in which there is something of every feature. */
async function write({ c, work, limited }: Setup): Promise<Frozen> {
  const { runtime } = await c.join();
  await c.run(runtime.cron('nightly', '20 0 * * *', work, { name: 'by schedule' }));
  const far = await c.run(runtime.submit(work, { name: 'moved' }, { delay: '9d' }));
  await c.run(far.reschedule({ delay: '25m' }));
  const debounce = { key: 'k', wait: '5m' } as const;
  await c.run(runtime.submit(work, { name: 'replaced' }, { debounce }));
  await c.run(runtime.submit(work, { name: 'debounced' }, { debounce }));
  await c.run(runtime.submit(limited, { name: 'limited' }));
  await c.run(runtime.pause({ tenant: 'acme' }));
  await c.run(runtime.submit(work, { name: 'paused' }, { tenant: 'acme' }));
  await c.advance('1s');
  return contentOf(c);
}

/** All that stays when the nodes are gone. */
function contentOf(c: Setup['c']): Frozen {
  return Object.fromEntries(
    c.store
      .entries('')
      .filter(({ leaseId }) => leaseId === undefined)
      .map(({ key, value }) => [key, Buffer.from(value).toString('base64')]),
  );
}

function frozen(): Frozen {
  return JSON.parse(readFileSync(FILE, 'utf8')) as Frozen;
}

describe('what features keep in the store', () => {
  test('is written as it was when the format was frozen', async (t) => {
    const written = await write(await setup(t));
    if (process.env.MILLRACE_FREEZE) writeFileSync(FILE, `${JSON.stringify(written, null, 2)}\n`);
    assert.deepEqual(written, frozen());
    const kinds = new Set(Object.keys(written).map((key) => key.split('/')[0]));
    for (const kind of ['e', 'f', 'l', 'p', 'u']) assert.ok(kinds.has(kind), kind);
  });

  test('and frozen then is gone on with', async (t) => {
    const { c, work, begun } = await setup(t);
    // Nobody's clock: what goes over it takes no time.
    const server = await c.store.open({ clock: new VirtualClock() });
    c.store.setFaults();
    for (const [key, value] of Object.entries(frozen())) {
      const put = { type: 'put', key, value: Buffer.from(value, 'base64') } as const;
      await c.run(server.txn({ compares: [], success: [put] }));
    }
    c.heal();
    const { runtime } = await c.join();
    const debounce = { key: 'k', wait: '5m' } as const;
    await c.run(runtime.submit(work, { name: 'debounced anew' }, { debounce }));
    await c.advance('10m');
    // The one that was frozen stands for the key no more.
    assert.deepEqual(begun.splice(0), ['debounced anew']);
    await c.advance('20m');
    assert.deepEqual(begun.splice(0).sort(), ['by schedule', 'moved']);
    await c.run(runtime.resume({ tenant: 'acme' }));
    await c.advance('1s');
    assert.deepEqual(begun.splice(0), ['paused']);
  });
});
