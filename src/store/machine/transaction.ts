/**
 * Runs a checked transaction on a keyspace, as etcd does: first *all* compares, the nested ones included, choose
 * the branches on the state before the transaction; then the operations of the chosen branches apply in order, and
 * reads among them see the writes that stand before them. All writes share one revision, the next; a transaction
 * that changes nothing has none.
 */
import type { Compare, Entry, Operation, OperationResult, Txn } from '../../core/store.js';
import type { Keyspace } from './keyspace.js';
import type { LeaseTable } from './lease-table.js';

export interface Applied {
  readonly succeeded: boolean;
  readonly results: readonly OperationResult[];
}

/** A transaction whose compares have been decided. */
interface Plan {
  readonly succeeded: boolean;
  readonly operations: readonly Operation[];
  /** The plans of the transactions among the operations, in their order. */
  readonly nested: readonly Plan[];
}

/**
 * Appends the transaction to the keyspace's head.
 *
 * @throws ERR_MILLRACE_LEASE_LOST when a put that has to run names a lease that is not live; nothing stays applied
 */
export function applyTxn(keyspace: Keyspace, leases: LeaseTable, txn: Txn): Applied {
  const plan = decide(keyspace, txn);
  return inRevision(keyspace, () => ({
    succeeded: plan.succeeded,
    results: run(keyspace, leases, plan),
  }));
}

/** Runs `write` in a revision of its own; without changes, or when it throws, the revision never was. */
export function inRevision<T>(keyspace: Keyspace, write: () => T): T {
  const before = keyspace.head;
  const revision = keyspace.history.open();
  try {
    const result = write();
    const { changes } = keyspace.history.record(revision);
    if (changes.length === 0) keyspace.rollback(before);
    else if (changes.length > 1) changes.sort((a, b) => (a.key < b.key ? -1 : 1));
    return result;
  } catch (error) {
    keyspace.rollback(before);
    throw error;
  }
}

function decide(keyspace: Keyspace, txn: Txn): Plan {
  const succeeded = txn.compares.every((compare) =>
    holds(compare, keyspace.get(compare.key, keyspace.head)),
  );
  const operations = succeeded ? txn.success : (txn.failure ?? []);
  const nested: Plan[] = [];
  for (const operation of operations) {
    if (operation.type === 'txn') nested.push(decide(keyspace, operation.txn));
  }
  return { succeeded, operations, nested };
}

function run(keyspace: Keyspace, leases: LeaseTable, plan: Plan): readonly OperationResult[] {
  const nested = plan.nested[Symbol.iterator]();
  return plan.operations.map((operation) =>
    operation.type === 'txn'
      ? runNested(keyspace, leases, nested.next().value!)
      : runOne(keyspace, leases, operation),
  );
}

function runNested(keyspace: Keyspace, leases: LeaseTable, plan: Plan): OperationResult {
  return { type: 'txn', succeeded: plan.succeeded, results: run(keyspace, leases, plan) };
}

function runOne(
  keyspace: Keyspace,
  leases: LeaseTable,
  operation: Exclude<Operation, { type: 'txn' }>,
): OperationResult {
  const revision = keyspace.head;
  switch (operation.type) {
    case 'put': {
      const { key, value, leaseId } = operation;
      if (leaseId !== undefined) leases.require(leaseId);
      const previous = keyspace.get(key, revision);
      keyspace.put(previous, {
        key,
        value,
        version: (previous?.version ?? 0) + 1,
        createRevision: previous?.createRevision ?? revision,
        modRevision: revision,
        leaseId,
      });
      return { type: 'put' };
    }
    case 'delete':
      return { type: 'delete', deleted: keyspace.delete(operation.key) };
    case 'deleteRange':
      return { type: 'delete', deleted: keyspace.deleteRange(operation.range) };
    case 'get':
      return { type: 'get', entry: keyspace.get(operation.key, revision) };
    case 'range': {
      const { range, limit } = operation;
      return { type: 'range', ...keyspace.scan(range, { revision, limit }) };
    }
  }
}

/** An absent key counts as version and revisions 0, and fails every comparison of its value. */
function holds(compare: Compare, entry: Entry | undefined): boolean {
  switch (compare.target) {
    case 'value':
      if (entry === undefined) return false;
      return isOrdered(Buffer.compare(entry.value, compare.operand), compare.operator);
    case 'version':
      return isOrdered((entry?.version ?? 0) - compare.operand, compare.operator);
    case 'create':
      return isOrdered((entry?.createRevision ?? 0) - compare.operand, compare.operator);
    case 'mod':
      return isOrdered((entry?.modRevision ?? 0) - compare.operand, compare.operator);
  }
}

function isOrdered(difference: number, operator: Compare['operator']): boolean {
  switch (operator) {
    case '=':
      return difference === 0;
    case '!=':
      return difference !== 0;
    case '<':
      return difference < 0;
    case '>':
      return difference > 0;
  }
}
