/**
 * The Store contract in the fewest words: every revision is a whole copy of the state.
 */
import type {
  Compare,
  Entry,
  Key,
  KeyRange,
  LeaseId,
  Operation,
  Revision,
  Txn,
  WatchEvent,
} from '../../src/core/store.js';

export type State = ReadonlyMap<Key, Entry>;

/** What a transaction answered, without the bytes' identities. */
export type Result = readonly unknown[];

export class ModelStore {
  /** Index 0 is the state the real store had when the model began. */
  readonly states: State[] = [new Map()];
  readonly #firstRevision: number;
  readonly #leases = new Set<LeaseId>();

  constructor(firstRevision: number) {
    this.#firstRevision = firstRevision;
  }

  get revision(): Revision {
    return (this.#firstRevision + this.states.length - 1) as Revision;
  }

  at(revision: Revision): State {
    return this.states[revision - this.#firstRevision]!;
  }

  range({ from, to }: KeyRange, revision: Revision = this.revision): Entry[] {
    return sorted(this.at(revision)).filter(({ key }) => from <= key && key < to);
  }

  grant(leaseId: LeaseId): void {
    this.#leases.add(leaseId);
  }

  revoke(leaseId: LeaseId): void {
    this.#leases.delete(leaseId);
    const next = new Map(this.at(this.revision));
    for (const [key, entry] of next) if (entry.leaseId === leaseId) next.delete(key);
    if (next.size < this.at(this.revision).size) this.states.push(next);
  }

  /** @returns undefined when a put names a lease that is over: nothing is applied */
  txn(txn: Txn): { succeeded: boolean; results: Result } | undefined {
    const before = this.at(this.revision);
    const revision = (this.revision + 1) as Revision;
    const after = new Map(before);
    let isLeaseLost = false;
    let hasWritten = false;
    const run = ({ compares, success, failure = [] }: Txn): [boolean, Result] => {
      const succeeded = compares.every((compare) => holds(before, compare));
      return [succeeded, (succeeded ? success : failure).map(apply)];
    };
    const apply = (operation: Operation): unknown => {
      switch (operation.type) {
        case 'put': {
          const { key, value, leaseId } = operation;
          if (leaseId !== undefined && !this.#leases.has(leaseId)) isLeaseLost = true;
          const old = after.get(key);
          after.set(key, {
            key,
            value,
            version: (old?.version ?? 0) + 1,
            createRevision: old?.createRevision ?? revision,
            modRevision: revision,
            leaseId,
          });
          hasWritten = true;
          return 'put';
        }
        case 'delete':
        case 'deleteRange': {
          const { from, to } =
            operation.type === 'delete'
              ? { from: operation.key, to: `${operation.key}\0` }
              : operation.range;
          const gone = sorted(after).filter(({ key }) => from <= key && key < to);
          for (const { key } of gone) after.delete(key);
          if (gone.length > 0) hasWritten = true;
          return gone.length;
        }
        case 'get':
          return after.get(operation.key);
        case 'range': {
          const { from, to } = operation.range;
          return sorted(after)
            .filter(({ key }) => from <= key && key < to)
            .slice(0, operation.limit);
        }
        case 'txn':
          return run(operation.txn);
      }
    };
    const [succeeded, results] = run(txn);
    if (isLeaseLost) return undefined;
    if (hasWritten) this.states.push(after);
    return { succeeded, results };
  }

  /** What a watch of everything tells of a revision. */
  events(revision: Revision): WatchEvent[] {
    const before = this.at((revision - 1) as Revision);
    const after = this.at(revision);
    const keys = new Set([...before.keys(), ...after.keys()]);
    return [...keys].sort().flatMap((key): WatchEvent[] => {
      const entry = after.get(key);
      if (entry === undefined) return [{ type: 'delete', key, modRevision: revision }];
      return entry.modRevision === revision ? [{ type: 'put', entry }] : [];
    });
  }
}

function sorted(state: State): Entry[] {
  return [...state.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
}

function holds(state: State, compare: Compare): boolean {
  const entry = state.get(compare.key);
  let difference: number;
  if (compare.target === 'value') {
    if (entry === undefined) return false;
    difference = Buffer.compare(entry.value, compare.operand);
  } else {
    const field = { version: 'version', create: 'createRevision', mod: 'modRevision' } as const;
    difference = (entry?.[field[compare.target]] ?? 0) - compare.operand;
  }
  return {
    '=': difference === 0,
    '!=': difference !== 0,
    '<': difference < 0,
    '>': difference > 0,
  }[compare.operator];
}
