/**
 * Where everything is in the store. Numbers in keys are base 36 in fixed width, so byte order is time order.
 *
 *   h/<node>                                    head of the node's commit lane
 *   t/<queue>/<shard>/<due>/<seg>               segment: a frame of tasks, immutable; put by the shard's owner
 *   i/<queue>/<shard>/<due>/<seg>               inbox: the same, put by somebody else
 *   s/<queue>/<shard>/<due>/<seg>               overlay: what differs from "all pending"
 *   f/<queue>/<shard>/<due>/<due>.<seg>         note: a task of this segment is due earlier than the segment's name says
 *   c/<queue>/<shard>/<seq>                     command to the shard's owner (letters.ts)
 *   r/<node>/<seq>                              mail to a node (letters.ts)
 *   z/<queue>/<window>/<shard>.<due>.<seg>/<n>  finished tasks of one commit
 *   d/<queue>/<task id>                         dead letter: a task that failed for good
 *   k/<window>/<scope>/<key>                    idempotency key
 *   u/<window>/<scope>/<key>                    debounce key: which task stands for it (debounces.ts)
 *   e/<queue>/<shard>/<name>                    cron entry (cron/entry.ts)
 *   p/pauses                                    what rests, on all nodes (pauses.ts)
 *   l/<kind>/<name>                             which node has which share of a rate (rates/budget.ts)
 *   v/layout                                    format of the whole (layout.ts)
 *
 * Beside these, under leases: members, heartbeats and owners (coordination/members.ts, shard-map.ts); and `w/`, what waits in a
 * shard for somebody who runs it.
 *
 * `<seg>` and `<seq>` are the writer's incarnation and counter, so writers never collide; `<queue>`, `<shard>`, `<due>`
 * and `<seg>` are the four parts of a SegmentRef, so every key of a task follows from its id.
 */
import {
  dueDigits,
  type Incarnation,
  type SegmentRef,
  segmentDueAtMs,
  type TaskId,
} from '../core/ids.js';
import { type Key, type KeyRange, prefixRange } from '../core/store.js';

/** Finished tasks are filed by the hour their segment was due, so that old ones lie together. */
export const FINISHED_WINDOW_MS = 3_600_000;

/** A shard of a queue. */
export interface ShardPlace {
  readonly queue: string;
  readonly shard: number;
}

export const ALL_SEGMENTS: KeyRange = prefixRange('t/');
export const ALL_FINISHED: KeyRange = prefixRange('z/');
export const ALL_DEAD_LETTERS: KeyRange = prefixRange('d/');
export const ALL_HEADS: KeyRange = prefixRange('h/');
export const ALL_COMMANDS: KeyRange = prefixRange('c/');
export const ALL_MAIL: KeyRange = prefixRange('r/');
export const ALL_CRON: KeyRange = prefixRange('e/');

export const ALL_DEBOUNCES: KeyRange = prefixRange('u/');
export const ALL_RATES: KeyRange = prefixRange('l/');

export const PAUSES_KEY: Key = 'p/pauses';

export function headKey(node: string): Key {
  return `h/${node}`;
}

export function segmentKey(ref: SegmentRef): Key {
  return `t/${ref.replaceAll('.', '/')}`;
}

export function inboxKey(ref: SegmentRef): Key {
  return `i/${ref.replaceAll('.', '/')}`;
}

export function overlayKey(ref: SegmentRef): Key {
  return `s/${ref.replaceAll('.', '/')}`;
}

/** When to load a segment that has a task which is due before its name says. */
export function earlyKey(ref: SegmentRef, dueAtMs: number): Key {
  const [queue, shard, ...rest] = ref.split('.');
  return `f/${queue}/${shard}/${dueDigits(dueAtMs)}/${rest.join('.')}`;
}

/** The segment of such a note, and when it is to be loaded; epoch ms. */
export function earlyOfKey(key: Key): { readonly ref: SegmentRef; readonly dueAtMs: number } {
  const [, queue, shard, due, rest] = key.split('/');
  return { ref: `${queue}.${shard}.${rest}` as SegmentRef, dueAtMs: Number.parseInt(due!, 36) };
}

/** What one shard has of a kind: `t` segments, `i` inbox, `s` overlays, `f` notes, `c` commands. */
export function shardRange(kind: 't' | 'i' | 's' | 'f' | 'c', at: ShardPlace): KeyRange {
  return prefixRange(`${kind}/${at.queue}/${shardDigits(at.shard)}/`);
}

/** The part of a kind that is due from `fromMs` on and before `toMs`; Infinity: all the rest. */
export function shardDueRange(
  kind: 't' | 'i' | 's',
  at: ShardPlace,
  fromMs: number,
  toMs: number,
): KeyRange {
  const { from, to } = shardRange(kind, at);
  return {
    from: `${from}${dueDigits(fromMs)}`,
    to: toMs === Number.POSITIVE_INFINITY ? to : `${from}${dueDigits(toMs)}`,
  };
}

/** A new command to whoever owns the shard. */
export function commandKey(at: ShardPlace, writer: Incarnation, counter: number): Key {
  return `c/${at.queue}/${shardDigits(at.shard)}/${writer}${counterDigits(counter)}`;
}

/** Who wrote a command. */
export function writerOfCommand(key: Key): string {
  return key.slice(key.lastIndexOf('/') + 1, -counterDigits(0).length);
}

/** The how many-th of its writer's commands and letters it is. */
export function numberOfCommand(key: Key): number {
  return Number.parseInt(key.slice(-counterDigits(0).length), 36);
}

/** All mail to a node. */
export function mailRange(node: string): KeyRange {
  return prefixRange(`r/${node}/`);
}

/** A new letter to a node. */
export function mailKey(node: string, writer: Incarnation, counter: number): Key {
  return `r/${node}/${writer}${counterDigits(counter)}`;
}

/** The segment that a key of `t/`, `i/` or `s/` belongs to. */
export function refOfKey(key: Key): SegmentRef {
  return key.slice(2).replaceAll('/', '.') as SegmentRef;
}

/** All finished tasks of a segment lie below this prefix. */
export function finishedPrefix(ref: SegmentRef): string {
  const [queue, ...rest] = ref.split('.');
  return `z/${queue}/${dueDigits(finishedWindow(ref))}/${rest.join('.')}/`;
}

/** The segment that a key of `z/` belongs to. */
export function refOfFinishedKey(key: Key): SegmentRef {
  const [, queue, , segment] = key.split('/');
  return `${queue}.${segment}` as SegmentRef;
}

/** When the window of a segment's finished tasks begins; epoch ms. */
export function finishedWindow(ref: SegmentRef): number {
  return Math.floor(segmentDueAtMs(ref) / FINISHED_WINDOW_MS) * FINISHED_WINDOW_MS;
}

/** All finished tasks of one queue and window. */
export function finishedWindowRange(queue: string, windowStartMs: number): KeyRange {
  return prefixRange(`z/${queue}/${dueDigits(windowStartMs)}/`);
}

/** Of these, what was due in one shard from `fromMs` on and before `toMs`. */
export function finishedDueRange(
  { queue, shard }: ShardPlace,
  windowStartMs: number,
  fromMs: number,
  toMs: number,
): KeyRange {
  const prefix = `z/${queue}/${dueDigits(windowStartMs)}/${shardDigits(shard)}.`;
  return { from: `${prefix}${dueDigits(fromMs)}`, to: `${prefix}${dueDigits(toMs)}` };
}

export function deadLetterKey(id: TaskId): Key {
  return `d/${id.slice(0, id.indexOf('.'))}/${id}`;
}

/** Dead letters of one segment. */
export function deadLettersOf(ref: SegmentRef): KeyRange {
  return prefixRange(`d/${ref.slice(0, ref.indexOf('.'))}/${ref}.`);
}

/** Dead letters of one queue, by id. */
export function deadLettersIn(queue: string): KeyRange {
  return prefixRange(`d/${queue}/`);
}

/**
 * @param window - begin of the window, epoch ms
 * @param scope - the task's name: keys of different tasks do not meet
 */
export function idempotencyKey(window: number, scope: string, key: string): Key {
  return `k/${dueDigits(window)}/${escapeKey(scope)}/${escapeKey(key)}`;
}

/**
 * A key in this window, in which a new one is put, in the one before, and in the next, since clocks differ.
 *
 * @param at.nowMs - wall clock
 */
export function inWindows(
  { nowMs, windowMs }: { readonly nowMs: number; readonly windowMs: number },
  keyIn: (window: number) => Key,
): readonly [Key, Key, Key] {
  const begin = Math.floor(nowMs / windowMs) * windowMs;
  const keyFrom = (window: number): Key => keyIn(Math.max(0, window));
  return [keyFrom(begin), keyFrom(begin - windowMs), keyFrom(begin + windowMs)];
}

/** @param window, scope - as those of {@link idempotencyKey} */
export function debounceKey(window: number, scope: string, key: string): Key {
  return `u/${dueDigits(window)}/${escapeKey(scope)}/${escapeKey(key)}`;
}

/** Everything filed in windows that began before `window`. */
export function debounceKeysBefore(window: number): KeyRange {
  return { from: 'u/', to: `u/${dueDigits(window)}` };
}

/** @param name - of the entry */
export function cronKey(at: ShardPlace, name: string): Key {
  return `e/${at.queue}/${shardDigits(at.shard)}/${escapeKey(name)}`;
}

/** @param name - of the task type; '' for a rate that holds for all of them */
export function rateKey(kind: 'task' | 'tenant' | 'tenants', name: string): Key {
  return `l/${kind}/${escapeKey(name)}`;
}

/** The shard whose owner fires an entry. */
export function placeOfCronKey(key: Key): ShardPlace {
  const [, queue, shard] = key.split('/');
  return { queue: queue!, shard: Number.parseInt(shard!, 36) };
}

/** Everything filed in windows that began before `window`. */
export function idempotencyKeysBefore(window: number): KeyRange {
  return { from: 'k/', to: `k/${dueDigits(window)}` };
}

/**
 * Text as part of a key: percent-encoding, injective and without '/'.
 *
 * @throws URIError for a lone surrogate; callers check user input before it gets here
 */
function escapeKey(text: string): string {
  return encodeURIComponent(text);
}

function shardDigits(shard: number): string {
  return shard.toString(36).padStart(2, '0');
}

function counterDigits(counter: number): string {
  return counter.toString(36).padStart(8, '0');
}
