/**
 * Tests of the shop: no server, no folder, and a day passes in milliseconds.
 *
 *   node --test shop.test.js
 */
import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { testRuntime } from 'millrace/testing';
import { Shop } from './shop.js';
import tasks, { mailer, sendMail } from './tasks.js';

let sent: string[] = [];
let failures = 0;
mailer.send = async (to, subject) => {
  if (failures-- > 0) throw new Error('the mail server is away');
  sent.push(`${to}: ${subject}`);
};
beforeEach(() => {
  sent = [];
  failures = 0;
});

test('a customer is welcomed at once, and reminded a day later', async () => {
  await using rt = await testRuntime({ tasks });
  await new Shop(rt.runtime).signUp('ada@example.com');

  await rt.drain();
  assert.deepEqual(sent, ['ada@example.com: Welcome']);
  await rt.clock.advance('23h');
  assert.equal(sent.length, 1);
  await rt.clock.advance('2h');
  assert.deepEqual(sent.slice(1), ['ada@example.com: Your basket misses you']);
});

test('signing up twice reminds once', async () => {
  await using rt = await testRuntime({ tasks, mode: 'manual' });
  const shop = new Shop(rt.runtime);
  await shop.signUp('ada@example.com');
  await shop.signUp('ada@example.com');

  // Nothing has run: this is about what the service hands over.
  rt.expectSubmitted(sendMail, { subject: 'Welcome' }, { times: 2 });
  rt.expectSubmitted(
    sendMail,
    { subject: 'Your basket misses you' },
    {
      times: 1,
      options: { delay: '24h' },
    },
  );
  assert.deepEqual(sent, []);
});

test('a mail that fails goes out when the server is back', async () => {
  await using rt = await testRuntime({ tasks });
  failures = 2;
  await rt.runtime.submit(sendMail, { to: 'bob@example.com', subject: 'Hello' });
  await rt.drain();
  assert.deepEqual(sent, []);
  await rt.drain({ delayed: true });
  assert.deepEqual(sent, ['bob@example.com: Hello']);
});
