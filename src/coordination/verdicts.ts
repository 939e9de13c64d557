/**
 * What the supervisor says of members that are late: `v/<node>`, on the lease of the member it speaks of, so that it goes
 * with the member. No key: nothing to say.
 *
 *   late       its heartbeat is half a ttl old                      gets a quarter of its share of new tasks
 *   silent     two heartbeats are missing                           gets none while there is anybody else
 *   evicting   three: its lease is about to be revoked              none
 */
import { type Entry, type Key, type KeyRange, prefixRange } from '../core/store.js';

const STAGES = ['late', 'silent', 'evicting'] as const;
export type LateStage = (typeof STAGES)[number];

const PREFIX = 'v/';

export const ALL_VERDICTS: KeyRange = prefixRange(PREFIX);

export function verdictKey(node: string): Key {
  return `${PREFIX}${node}`;
}

export function encodeVerdict(stage: LateStage, by: string): Uint8Array {
  return Buffer.from(JSON.stringify({ stage, by }));
}

/** Undefined for what another version says. */
export function verdictOf({ key, value }: Entry): {
  readonly node: string;
  readonly stage: LateStage | undefined;
} {
  const node = key.slice(PREFIX.length);
  try {
    const { stage } = JSON.parse(Buffer.from(value).toString()) as { readonly stage?: unknown };
    return { node, stage: STAGES.find((known) => known === stage) };
  } catch {
    return { node, stage: undefined };
  }
}

/** Share of new tasks that a member gets, against what it would get otherwise; 0 to 1. */
export function weightOf(stage: LateStage | undefined): number {
  if (stage === undefined) return 1;
  return stage === 'late' ? 0.25 : 0;
}
