import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  canMove,
  isEnded,
  isOutcome,
  isTaskState,
  Outcome,
  statusOf,
  TaskState,
} from '../../src/core/states.js';

const ALL = Object.values(TaskState);

test('the numbers of states and outcomes are stored, so they stay what they are', () => {
  assert.deepEqual(TaskState, {
    PENDING: 0,
    RUNNING: 1,
    COMPLETED: 2,
    FAILED: 3,
    CANCELLED: 4,
    EXPIRED: 5,
  });
  assert.deepEqual(Outcome, {
    COMPLETED: 0,
    FAILED: 1,
    FAILED_FOR_GOOD: 2,
    SNOOZED: 3,
    CANCELLED: 4,
    NOT_STARTED: 5,
  });
});

test('these steps are legal, and no others', () => {
  const legal = ALL.flatMap((from) =>
    ALL.filter((to) => canMove(from, to)).map((to) => `${statusOf(from)} -> ${statusOf(to)}`),
  );
  assert.deepEqual(legal, [
    'pending -> running',
    'pending -> cancelled',
    'pending -> expired',
    'running -> pending',
    'running -> completed',
    'running -> failed',
    'running -> cancelled',
  ]);
});

test('ended states absorb, and only they are ended', () => {
  for (const state of ALL) {
    assert.equal(
      isEnded(state),
      ALL.every((to) => !canMove(state, to)),
    );
  }
});

test('every state is reached from pending, and has a name of its own', () => {
  const reached = new Set<number>([TaskState.PENDING]);
  for (let size = 0; size < reached.size; ) {
    size = reached.size;
    for (const from of ALL) {
      if (reached.has(from)) for (const to of ALL) if (canMove(from, to)) reached.add(to);
    }
  }
  assert.deepEqual([...reached].sort(), [...ALL]);
  assert.equal(new Set(ALL.map(statusOf)).size, ALL.length);
});

test('a stored byte is a state, or an outcome, only if there is one', () => {
  for (const state of ALL) assert.ok(isTaskState(state));
  for (const outcome of Object.values(Outcome)) assert.ok(isOutcome(outcome));
  for (const value of [-1, 6, 255, 0.5, Number.NaN]) {
    assert.ok(!isTaskState(value));
    assert.ok(!isOutcome(value));
  }
});
