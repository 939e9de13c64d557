/**
 * Heartbeats as bytes: what a member says of itself all the time, under `b/<node>`, on its lease.
 *
 *   atMs      when, by its own wall clock; nobody compares it with another clock
 *   everyMs   how often it beats
 *   needed    the oldest revision it still reads from
 *   load      how much it has to do (load.ts)
 *   shards    what it owns, by queue: [shard, epoch], ...
 *
 * What does not parse says nothing: it is another version's.
 */
import type { ShardOwnership } from '../core/channels.js';
import { type Entry, type Key, type KeyRange, prefixRange, type Revision } from '../core/store.js';
import { type Load, readLoad } from './load.js';

export interface Heartbeat {
  readonly node: string;
  /** By the node's own wall clock. */
  readonly atMs: number;
  /** How long it means to be silent before the next one; undefined when it does not say. */
  readonly everyMs: number | undefined;
  /** The oldest revision it needs; undefined when it needs none. */
  readonly neededRevision: Revision | undefined;
  /** Undefined of a process that runs no tasks. */
  readonly load: Load | undefined;
  /** The shards it takes to be its own. */
  readonly shards: readonly ShardOwnership[];
}

/** What the engine of a node adds to its heartbeats. */
export interface NodeReport {
  readonly load: Load;
  readonly shards: readonly ShardOwnership[];
}

const PREFIX = 'b/';

export const ALL_HEARTBEATS: KeyRange = prefixRange(PREFIX);

export function heartbeatKey(node: string): Key {
  return `${PREFIX}${node}`;
}

export function encodeHeartbeat(beat: {
  readonly atMs: number;
  readonly everyMs: number;
  readonly neededRevision: Revision | undefined;
  readonly report: NodeReport | undefined;
}): Uint8Array {
  const { atMs, everyMs, neededRevision: needed, report } = beat;
  const shards: Record<string, [number, number][]> = {};
  for (const { queue, shard, epoch } of report?.shards ?? []) {
    shards[queue] ??= [];
    shards[queue].push([shard, epoch]);
  }
  const said = { atMs, everyMs, ...(needed !== undefined && { needed }) };
  return Buffer.from(JSON.stringify(report ? { ...said, load: report.load, shards } : said));
}

export function heartbeatOf({ key, value }: Entry): Heartbeat {
  const { atMs, everyMs, needed, load, shards } = parse(value);
  return {
    node: key.slice(PREFIX.length),
    atMs: typeof atMs === 'number' ? atMs : 0,
    everyMs: typeof everyMs === 'number' && everyMs > 0 ? everyMs : undefined,
    neededRevision: typeof needed === 'number' ? (needed as Revision) : undefined,
    load: readLoad(load),
    shards: readShards(shards),
  };
}

function parse(value: Uint8Array): Readonly<Record<string, unknown>> {
  try {
    const parsed: unknown = JSON.parse(Buffer.from(value).toString());
    return typeof parsed === 'object' && parsed !== null
      ? (parsed as Readonly<Record<string, unknown>>)
      : {};
  } catch {
    return {};
  }
}

function readShards(given: unknown): ShardOwnership[] {
  if (typeof given !== 'object' || given === null) return [];
  return Object.entries(given).flatMap(([queue, list]) => {
    if (!Array.isArray(list)) return [];
    return list.flatMap((pair: unknown) => {
      const [shard, epoch] = Array.isArray(pair) ? (pair as unknown[]) : [];
      return typeof shard === 'number' && typeof epoch === 'number'
        ? [{ queue, shard, epoch }]
        : [];
    });
  });
}
