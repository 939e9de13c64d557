/**
 * What a store refuses before it looks at any data: malformed keys, transactions over the limits, and one key
 * written twice. The rules are etcd's, so that a transaction that passes here passes there:
 *
 * - each of the three lists of a transaction has at most `operationsMax` members, and a nested transaction only
 *   what the longest list of the outer one leaves;
 * - in what one outcome applies no key is put twice, and none is both put and deleted. The two branches of a nested
 *   transaction exclude each other and may share keys; what is next to the nested transaction may share with neither.
 *   (etcd finds a delete that meets the put of a sibling only in one of the two orders. Here both are refused.)
 */
import { MillraceError } from '../../core/errors.js';
import type {
  Compare,
  CompareOperator,
  Key,
  KeyRange,
  Operation,
  StoreLimits,
  Txn,
} from '../../core/store.js';

const KEY_FORM = /^[!-~]+$/;
/** A bound may be empty (before all keys) and may end in 0x7f (after all keys of a prefix). */
const BOUND_FORM = /^[!-\x7f]*$/;
const OPERATORS: readonly CompareOperator[] = ['=', '!=', '<', '>'];

/** @throws ERR_MILLRACE_INVALID_OPTION */
export function checkKey(key: Key, limits: StoreLimits): void {
  if (typeof key === 'string' && key.length <= limits.keyBytesMax && KEY_FORM.test(key)) return;
  throw invalid(
    `key ${describe(key)} is not 1 to ${limits.keyBytesMax} characters of printable ASCII ('!' to '~')`,
    { key: describe(key), keyBytesMax: limits.keyBytesMax },
  );
}

/** @throws ERR_MILLRACE_INVALID_OPTION */
export function checkRange(range: KeyRange, limits: StoreLimits): void {
  for (const bound of [range.from, range.to]) {
    const fits = typeof bound === 'string' && bound.length <= limits.keyBytesMax + 1;
    if (fits && BOUND_FORM.test(bound)) continue;
    throw invalid(
      `range bound ${describe(bound)} is not up to ${limits.keyBytesMax + 1} characters of '!' to 0x7f`,
      { bound: describe(bound), keyBytesMax: limits.keyBytesMax },
    );
  }
}

/** @throws ERR_MILLRACE_INVALID_OPTION */
export function checkLimit(limit: number | undefined): void {
  if (limit === undefined || (Number.isSafeInteger(limit) && limit >= 1)) return;
  throw invalid(`limit is ${String(limit)}; give a whole number from 1 on, or leave it out`, {
    limit,
  });
}

/** @throws ERR_MILLRACE_INVALID_OPTION */
export function checkRevision(revision: number, name: string): void {
  if (Number.isSafeInteger(revision) && revision >= 1) return;
  throw invalid(`${name} is ${String(revision)}; give a whole number from 1 on`, { revision });
}

/** @throws ERR_MILLRACE_INVALID_OPTION */
export function checkSpan(spanMs: number, name: string): void {
  if (Number.isFinite(spanMs) && spanMs > 0) return;
  throw invalid(`${name} is ${String(spanMs)}; give a positive number of milliseconds`, { spanMs });
}

/** @throws ERR_MILLRACE_INVALID_OPTION for anything that must not reach the data */
export function checkTxn(txn: Txn, limits: StoreLimits): void {
  const size = new RequestSize(limits);
  checkLevel(txn, limits.operationsMax, false, size);
  const { success, failure = [] } = txn;
  // One plain operation cannot meet itself.
  if (success.length + failure.length === 1 && success[0]?.type === 'put') return;
  writesOf(success);
  writesOf(failure);
}

/** Bytes of the whole request, both branches: all of it would travel. */
class RequestSize {
  readonly limits: StoreLimits;
  #bytes = 0;

  constructor(limits: StoreLimits) {
    this.limits = limits;
  }

  add(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes <= this.limits.requestBytesMax) return;
    throw invalid(
      `transaction has more than ${this.limits.requestBytesMax} bytes of keys and values; split it`,
      { requestBytesMax: this.limits.requestBytesMax },
    );
  }
}

function checkLevel(txn: Txn, allowed: number, isNested: boolean, size: RequestSize): void {
  const { compares, success, failure = [] } = txn;
  const count = Math.max(compares.length, success.length, failure.length);
  if (count > allowed) {
    throw invalid(
      `transaction has ${count} operations where ${allowed} are left of ${size.limits.operationsMax}; split it`,
      { operations: count, allowed, operationsMax: size.limits.operationsMax },
    );
  }
  for (const compare of compares) checkCompare(compare, size);
  for (const list of [success, failure]) {
    for (const operation of list) {
      if (operation.type !== 'txn') checkOperation(operation, size);
      else if (isNested) throw invalid('transaction is nested twice; one level is allowed', {});
      else checkLevel(operation.txn, allowed - count, true, size);
    }
  }
}

function checkCompare(compare: Compare, size: RequestSize): void {
  checkKey(compare.key, size.limits);
  size.add(compare.key.length);
  if (!OPERATORS.includes(compare.operator)) {
    throw invalid(`compare operator ${describe(compare.operator)} is none of = != < >`, {});
  }
  if (compare.target === 'value') {
    checkValue(compare.operand, compare.key);
    size.add(compare.operand.length);
  } else if (!['version', 'create', 'mod'].includes(compare.target)) {
    throw invalid(`compare target ${describe(compare.target)} is unknown`, {});
  } else if (!Number.isSafeInteger(compare.operand) || compare.operand < 0) {
    throw invalid(
      `${compare.target} of '${compare.key}' is compared with ${describe(compare.operand)}; give a whole number from 0 on`,
      { key: compare.key },
    );
  }
}

function checkOperation(operation: Exclude<Operation, { type: 'txn' }>, size: RequestSize): void {
  switch (operation.type) {
    case 'put':
      checkKey(operation.key, size.limits);
      checkValue(operation.value, operation.key);
      size.add(operation.key.length + operation.value.length);
      return;
    case 'delete':
    case 'get':
      checkKey(operation.key, size.limits);
      size.add(operation.key.length);
      return;
    case 'range':
      checkLimit(operation.limit);
      checkRange(operation.range, size.limits);
      size.add(operation.range.from.length + operation.range.to.length);
      return;
    case 'deleteRange':
      checkRange(operation.range, size.limits);
      size.add(operation.range.from.length + operation.range.to.length);
      return;
    default:
      throw invalid(`operation type ${describe((operation as { type: unknown }).type)} is unknown`);
  }
}

function checkValue(value: unknown, key: Key): void {
  if (value instanceof Uint8Array) return;
  throw invalid(`value for '${key}' is ${describe(value)}; give a Uint8Array`, { key });
}

/** What a list of operations may write. */
class WriteSet {
  readonly puts = new Set<Key>();
  readonly deletes = new Set<Key>();
  readonly ranges: KeyRange[] = [];

  deletesKey(key: Key): boolean {
    return this.deletes.has(key) || this.ranges.some(({ from, to }) => from <= key && key < to);
  }

  /** @throws ERR_MILLRACE_INVALID_OPTION when the other may write what this one does */
  refuseOverlap(other: WriteSet): void {
    for (const key of other.puts) if (this.puts.has(key) || this.deletesKey(key)) throw twice(key);
    if (other.deletes.size === 0 && other.ranges.length === 0) return;
    for (const key of this.puts) if (other.deletesKey(key)) throw twice(key);
  }

  absorb(other: WriteSet): void {
    for (const key of other.puts) this.puts.add(key);
    for (const key of other.deletes) this.deletes.add(key);
    this.ranges.push(...other.ranges);
  }
}

function writesOf(operations: readonly Operation[]): WriteSet {
  const all = new WriteSet();
  for (const operation of operations) {
    if (operation.type === 'put') {
      if (all.puts.has(operation.key) || all.deletesKey(operation.key)) throw twice(operation.key);
      all.puts.add(operation.key);
    } else if (operation.type === 'delete') {
      if (all.puts.has(operation.key)) throw twice(operation.key);
      all.deletes.add(operation.key);
    } else if (operation.type === 'deleteRange' || operation.type === 'txn') {
      const more = new WriteSet();
      if (operation.type === 'deleteRange') {
        more.ranges.push(operation.range);
      } else {
        more.absorb(writesOf(operation.txn.success));
        more.absorb(writesOf(operation.txn.failure ?? []));
      }
      all.refuseOverlap(more);
      all.absorb(more);
    }
  }
  return all;
}

function twice(key: Key): MillraceError {
  return invalid(`transaction writes '${key}' twice; give each key one final operation`, { key });
}

function invalid(message: string, details: Readonly<Record<string, unknown>> = {}): MillraceError {
  return new MillraceError('ERR_MILLRACE_INVALID_OPTION', message, { details });
}

function describe(value: unknown): string {
  if (typeof value !== 'string') return value === null ? 'null' : `of type ${typeof value}`;
  return value.length > 60 ? `'${value.slice(0, 60)}...' (${value.length})` : `'${value}'`;
}
