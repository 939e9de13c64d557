import assert from 'node:assert/strict';
import { channel, subscribe, unsubscribe } from 'node:diagnostics_channel';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { publish } from '../../src/core/channels.js';

test('subscribers get the payload, at once', (t) => {
  const got: unknown[] = [];
  const listener = (payload: unknown): void => void got.push(payload);
  subscribe('millrace:task:unhandled', listener);
  t.after(() => unsubscribe('millrace:task:unhandled', listener));
  const payload = { taskId: 'id', type: 'mail.send' };
  publish('millrace:task:unhandled', () => payload);
  assert.deepEqual(got, [payload]);
});

test('nothing is built while nobody listens, before and after somebody did', () => {
  let built = 0;
  const announce = (): void =>
    publish('millrace:result:stale', () => {
      built++;
      return { taskId: 'id', attempt: 1 };
    });
  announce();
  assert.equal(built, 0);
  const listener = (): void => {};
  subscribe('millrace:result:stale', listener);
  announce();
  assert.equal(built, 1);
  unsubscribe('millrace:result:stale', listener);
  announce();
  assert.equal(built, 1);
});

test('a subscriber that came through the channel object is heard like any other', (t) => {
  let heard = 0;
  const source = channel('millrace:task:lost');
  const listener = (): void => void heard++;
  source.subscribe(listener);
  t.after(() => source.unsubscribe(listener));
  publish('millrace:task:lost', () => ({
    incarnation: 'i',
    taskId: 'id',
    type: 'x',
    queue: 'q',
    losses: 1,
  }));
  assert.equal(heard, 1);
});

test('a subscriber that throws does not reach the publisher', async (t) => {
  const listener = (): void => {
    throw new Error('a bad subscriber');
  };
  subscribe('millrace:janitor:failed', listener);
  t.after(() => unsubscribe('millrace:janitor:failed', listener));
  const listeners = process.listeners('uncaughtException');
  process.removeAllListeners('uncaughtException');
  const escaped = new Promise((resolve) => process.once('uncaughtException', resolve));
  t.after(() => {
    for (const original of listeners) process.on('uncaughtException', original);
  });
  publish('millrace:janitor:failed', () => ({ cause: new Error('x') as never }));
  assert.match(String(await escaped), /a bad subscriber/);
});

test('docs/reference/events.md lists every channel with the fields of its payload', () => {
  const read = (path: string): string =>
    readFileSync(new URL(`../../../${path}`, import.meta.url), 'utf8');
  const [, body = ''] =
    /interface ChannelPayloads \{\n([\s\S]*?)\n\}\n/.exec(read('src/core/channels.ts')) ?? [];
  const declared = [...body.matchAll(/'(millrace:[a-z:-]+)': \{([^}]*)\}/g)].map(
    ([, name, fields = '']) => [
      name,
      [...fields.matchAll(/readonly (\w+)\??:/g)].map((field) => field[1]),
    ],
  );
  const rows = [
    ...read('docs/reference/events.md').matchAll(/^\| `(millrace:[a-z:-]+)` \| (.*?) \|/gm),
  ];
  const documented = rows.map(([, name, fields = '']) => [
    name,
    [...fields.matchAll(/`(\w+)`/g)].map((field) => field[1]),
  ]);
  assert.ok(declared.length > 5);
  assert.deepEqual(documented, declared);
});
