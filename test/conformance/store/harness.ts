/**
 * What the conformance suite needs from a store under test, and short words for the cases.
 *
 * The suite knows the contract only. So it never counts on absolute revisions (a server may be in use), asks for
 * leases in whole seconds, and lets time pass through the harness: a virtual clock where the store has one, a real
 * wait where it has not.
 */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import type { ErrorCode } from '../../../src/core/errors.js';
import type {
  Compare,
  Entry,
  Key,
  KeyRange,
  LeaseId,
  Operation,
  Revision,
  Store,
  TxnOutcome,
  WatchBatch,
} from '../../../src/core/store.js';

/** One fresh, empty store. */
export interface StoreUnderTest {
  readonly store: Store;
  /** Lets so much of the store's time pass, and what it sets off be done. */
  advance(ms: number): Promise<void>;
  /** Closes the store, when a case has not done so, and removes what it left. */
  dispose(): Promise<void>;
}

export type OpenStoreUnderTest = () => Promise<StoreUnderTest>;

export const ALL: KeyRange = { from: '', to: '\x7f' };

export function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

export function text(entry: Entry | undefined): string | undefined {
  return entry && new TextDecoder().decode(entry.value);
}

export function put(key: Key, value: string | Uint8Array = '', leaseId?: LeaseId): Operation {
  const raw = typeof value === 'string' ? bytes(value) : value;
  return leaseId === undefined
    ? { type: 'put', key, value: raw }
    : { type: 'put', key, value: raw, leaseId };
}

export function del(key: Key): Operation {
  return { type: 'delete', key };
}

export function get(key: Key): Operation {
  return { type: 'get', key };
}

export function nested(
  compares: readonly Compare[],
  success: readonly Operation[],
  failure: readonly Operation[] = [],
): Operation {
  return { type: 'txn', txn: { compares, success, failure } };
}

export function isAbsent(key: Key): Compare {
  return { target: 'create', key, operator: '=', operand: 0 };
}

export function isPresent(key: Key): Compare {
  return { target: 'create', key, operator: '!=', operand: 0 };
}

/** Applies operations without a condition. @returns the revision they have */
export async function apply(store: Store, ...success: Operation[]): Promise<Revision> {
  const outcome = await store.txn({ compares: [], success });
  assert.equal(outcome.kind, 'done');
  return (outcome as Extract<TxnOutcome, { kind: 'done' }>).revision;
}

/** Whether a transaction with this one compare succeeds. */
export async function compares(store: Store, compare: Compare): Promise<boolean> {
  const outcome = await store.txn({ compares: [compare], success: [] });
  assert.notEqual(outcome.kind, 'unknown');
  return outcome.kind === 'done';
}

export async function newest(store: Store): Promise<Revision> {
  return (await store.range(ALL, { limit: 1 })).revision;
}

export async function keys(store: Store, range: KeyRange = ALL): Promise<readonly Key[]> {
  return (await store.range(range)).entries.map(({ key }) => key);
}

export function rejectsWith(action: Promise<unknown>, code: ErrorCode): Promise<void> {
  return assert.rejects(action, { code });
}

/** Starts to iterate; the test's end ends it. */
export function iterate(
  t: TestContext,
  watch: AsyncIterable<WatchBatch>,
): AsyncIterator<WatchBatch> {
  const iterator = watch[Symbol.asyncIterator]();
  t.after(async () => {
    await iterator.return?.();
  });
  return iterator;
}

/** The next batch, in short: `['put a=1', 'delete b']`. */
export async function nextEvents(iterator: AsyncIterator<WatchBatch>): Promise<string[]> {
  const { done, value } = await iterator.next();
  assert.ok(!done, 'the watch ended');
  return (value as WatchBatch).events.map((event) =>
    event.type === 'put' ? `put ${event.entry.key}=${text(event.entry)}` : `delete ${event.key}`,
  );
}
