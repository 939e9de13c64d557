/**
 * A short name for what a commit writes, kept in the lane's head.
 *
 * The head says whose commit was applied last: incarnation and number name it, as long as a process is one process. A
 * machine that is cloned while it runs is two with one incarnation and one counter; they write different things, so
 * the hash tells them apart, and one of them is fenced.
 *
 * It covers every key, the length of every value, and both ends of it: times stand in the first records of a
 * frame, payloads at its end. That costs microseconds where hashing a megabyte would cost a millisecond per commit.
 */
import type { Operation } from '../core/store.js';

/** Of each end of a value. */
const SAMPLED_BYTES = 256;

/** 8 hex digits. Equal for equal operations in the same order. */
export function contentHash(operations: readonly Operation[]): string {
  return (hashOf(operations, 0x811c9dc5) >>> 0).toString(16).padStart(8, '0');
}

function hashOf(operations: readonly Operation[], basis: number): number {
  let hash = basis;
  for (const operation of operations) {
    hash = text(hash, operation.type);
    switch (operation.type) {
      case 'put':
        hash = bytes(text(hash, operation.key), operation.value);
        break;
      case 'delete':
      case 'get':
        hash = text(hash, operation.key);
        break;
      case 'deleteRange':
      case 'range':
        hash = text(text(hash, operation.range.from), operation.range.to);
        break;
      case 'txn':
        hash = hashOf(operation.txn.failure ?? [], hashOf(operation.txn.success, hash));
        break;
    }
  }
  return hash;
}

// FNV-1a over characters and bytes.
function text(hash: number, value: string): number {
  for (let i = 0; i < value.length; i++) hash = step(hash, value.charCodeAt(i));
  return step(hash, value.length);
}

function bytes(hash: number, value: Uint8Array): number {
  const { length } = value;
  const head = Math.min(SAMPLED_BYTES, length);
  for (let i = 0; i < head; i++) hash = step(hash, value[i]!);
  for (let i = Math.max(head, length - SAMPLED_BYTES); i < length; i++) {
    hash = step(hash, value[i]!);
  }
  return step(hash, length);
}

function step(hash: number, value: number): number {
  return Math.imul(hash ^ value, 0x01000193);
}
