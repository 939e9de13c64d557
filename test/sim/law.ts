/**
 * Who may write what: the part of the oracle that differs between the worlds.
 */
import type { SegmentRef } from '../../src/core/ids.js';
import type { Operation, OperationResult, Revision, Txn } from '../../src/core/store.js';
import type { SimNode } from './sim-node.js';

export interface Put {
  readonly key: string;
  readonly value: Uint8Array;
}

/** One write of a transaction that was applied; `value` undefined: deleted. */
export interface Write {
  readonly key: string;
  readonly value: Uint8Array | undefined;
}

export interface AppliedWrites {
  readonly txn: Txn;
  readonly revision: Revision;
  readonly node: SimNode;
  /** Of the branches that were taken, in order. */
  readonly writes: readonly Write[];
}

export interface Law {
  /** Judges what was written, as soon as it is. */
  judge(applied: AppliedWrites): void;
  /** A process says that somebody else has its lane. */
  fenced(node: SimNode): void;
  /** The ownership that a write of a segment stands on; undefined where there is only one. */
  epochOf(txn: Txn, ref: SegmentRef): Revision | undefined;
  /** Whether claims stand on what rests: where others write to the store. */
  readonly isShared: boolean;
  /** The membership of a node by now; undefined: it has none, or the world knows no members. */
  sessionOf(node: SimNode): Revision | undefined;
  /** Whether the lease that a node goes by is over in the store, which is the truth. */
  hasOutlivedItsLease(node: SimNode): boolean;
}

/** What a transaction has written, nested ones included. */
export function writesOf(
  operations: readonly Operation[],
  results: readonly OperationResult[],
): Write[] {
  return operations.flatMap((operation, i): Write[] => {
    const result = results[i];
    if (operation.type === 'put') return [{ key: operation.key, value: operation.value }];
    if (operation.type === 'delete') return [{ key: operation.key, value: undefined }];
    if (operation.type !== 'txn' || result?.type !== 'txn') return [];
    const { success, failure = [] } = operation.txn;
    return writesOf(result.succeeded ? success : failure, result.results);
  });
}
