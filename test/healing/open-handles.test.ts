/** How often the creation of a handle has its stack taken: seldom, so that it may always be on, and often on suspicion. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { publish } from '../../src/core/channels.js';
import { Subscriptions } from '../../src/core/subscriptions.js';
import { OpenHandles } from '../../src/healing/open-handles.js';

function setup(t: TestContext) {
  const events = new Subscriptions('here');
  t.after(() => events.close());
  const handles = new OpenHandles();
  handles.follow(events, () => {});
  let last = 0;
  return {
    handles,
    open: (count: number): void => {
      for (let i = 0; i < count; i++) {
        publish('millrace:handle:opened', () => ({ kind: 'lock', id: ++last, name: 'one' }));
      }
    },
    /** The oldest so many. */
    close: (count: number): void => {
      for (let id = 1; id <= count; id++) {
        publish('millrace:handle:closed', () => ({ kind: 'lock', id }));
      }
    },
    /** How many of the open ones have a stack. */
    stacks: (): number => handles.sites('lock', 100).reduce((sum, { count }) => sum + count, 0),
  };
}

test('one creation in 1024 has its stack taken; one in 16 while something is looked into, and no longer', (t) => {
  const { handles, open, stacks } = setup(t);
  open(10 * 1_024);
  assert.equal(stacks(), 10);
  handles.isLookingClosely = true;
  open(1_024);
  assert.equal(stacks(), 10 + 64);
  handles.isLookingClosely = false;
  open(10 * 1_024);
  assert.equal(stacks(), 10 + 64 + 10);
});

test('a stack goes with its handle, and no more than 4096 are kept', (t) => {
  const { handles, open, close, stacks } = setup(t);
  open(2_048);
  assert.equal(stacks(), 2);
  close(1_024);
  assert.equal(stacks(), 1);
  assert.equal(handles.counts().get('lock'), 1_024);
  handles.isLookingClosely = true;
  open(100_000);
  assert.equal(stacks(), 4_096);
});
