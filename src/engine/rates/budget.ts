/**
 * Budget: this node's part of what all nodes together may begin, agreed on in one key of the store.
 *
 *   l/<limit>   { format, holders: [{ node, joinedAt, share, want }] }      shares are parts of the whole; their sum is at most 1
 *
 *   step        if   mod(l/<limit>) == as read
 *               and  create(n/<us>) == as we joined           who is fenced takes nothing more
 *               and  create(n/<each dead holder>) != as it joined
 *               then put it anew, with our share and without the dead
 *
 * Each node writes its own share and nobody else's, so nothing has to be asked of anybody: it takes what is fair by what all
 * want (fair-shares.ts), but no more than the others have left; where it has more than that, it lets go. The others hear of
 * that by their watch and take it. A share that shrinks counts here before it is written, one that grows once that is done.
 * A dead node's share is free when its member record is gone, which is after it has fenced itself. So at no moment the
 * shares that nodes act by come to more than 1, whatever is late, lost or cut off.
 *
 * Cost: a few transactions when somebody comes, leaves, or wants another amount (at most one a second for the last); none
 * for tasks.
 */
import type { Member, Members } from '../../coordination/members.js';
import { joinedCompare } from '../../coordination/members.js';
import { Backoff } from '../../core/backoff.js';
import { publish } from '../../core/channels.js';
import type { Clock } from '../../core/clock.js';
import { hasCode, isMillraceError, MillraceError } from '../../core/errors.js';
import { utf8 } from '../../core/frame.js';
import type { Random } from '../../core/random.js';
import type { Compare, Entry, Key, Revision, Store } from '../../core/store.js';
import { fairShares } from './fair-shares.js';

const FORMAT = 1;
/** Smaller differences are not worth a transaction, which everybody hears of. */
const SHARE_STEP = 0.02;
const WANT_STEP = 1 / 16;

export interface Holder {
  readonly node: string;
  /** When it joined: another life of it has nothing of this. */
  readonly joinedAt: number;
  readonly share: number;
  readonly want: number;
}

export interface BudgetPorts {
  readonly clock: Clock;
  readonly random: Random;
  readonly store: Store;
  readonly members: Pick<Members, 'node' | 'self' | 'compare'>;
  /** Ends everything. */
  readonly signal: AbortSignal;
  /**
   * This node acts by another share from now on.
   *
   * @param isFirst - nobody has had any of it before, or they are all gone
   */
  onShare(share: number, isFirst: boolean): void;
}

interface Known {
  /** Undefined: it cannot be read, and so nobody here touches it. */
  readonly holders: readonly Holder[] | undefined;
  /** 0: there is no key. */
  readonly modRevision: Revision | 0;
}

export class Budget {
  readonly key: Key;
  readonly #ports: BudgetPorts;
  #members: ReadonlyMap<string, number> | undefined;
  #known: Known | undefined;
  #share = 0;
  #want: number;
  #isStepping = false;
  #isAskedAgain = false;

  /** @param want - to begin with */
  constructor(key: Key, want: number, ports: BudgetPorts) {
    this.key = key;
    this.#want = want;
    this.#ports = ports;
  }

  /** What this node may act by: a part of the whole, 0 to 1. */
  get share(): number {
    return this.#share;
  }

  /** How much of the whole this node has use for, 0 to 1. */
  want(part: number): void {
    if (Math.abs(part - this.#want) < WANT_STEP && part !== 0) return;
    if (part === this.#want) return;
    this.#want = part;
    this.step();
  }

  /** Who is there, by name, with when it joined. */
  setMembers(members: readonly Member[]): void {
    this.#members = new Map(members.map(({ node, joinedAt }) => [node, joinedAt]));
    this.step();
  }

  /** @param entry - of the key; undefined: there is none */
  hear(entry: Entry | undefined): void {
    const modRevision = entry?.modRevision ?? 0;
    if (modRevision !== 0 && modRevision <= (this.#known?.modRevision ?? 0)) return;
    this.#known = { holders: decode(entry), modRevision };
    this.#actBy();
    this.step();
  }

  /** Takes what is free, or lets go of what others are to have. */
  step(): void {
    this.#isAskedAgain = true;
    if (!this.#isStepping) void this.#stepOn();
  }

  /** This node's lease is over, and so is its share. */
  loseShare(): void {
    this.#apply(0);
  }

  #apply(share: number, isFirst = false): void {
    if (share === this.#share) return;
    this.#share = share;
    this.#ports.onShare(share, isFirst);
  }

  /** Takes over what the store says is ours. REQUIRES: it is news, so what we let go of and could not write is over. */
  #actBy(): void {
    const known = this.#known!;
    this.#apply(this.#mine(known)?.share ?? 0, known.holders?.length === 1);
  }

  #mine({ holders }: Known): Holder | undefined {
    const { node, self } = this.#ports.members;
    return holders?.find((holder) => holder.node === node && holder.joinedAt === self?.joinedAt);
  }

  async #stepOn(): Promise<void> {
    this.#isStepping = true;
    const { clock, random, signal, store } = this.#ports;
    const backoff = new Backoff(clock, random);
    try {
      while (this.#isAskedAgain && !signal.aborted) {
        this.#isAskedAgain = false;
        try {
          if ((await this.#write()) === 'settled') continue;
          await backoff.pause(signal);
          this.hear(await store.get(this.key));
        } catch (error) {
          if (signal.aborted || hasCode(error, 'ERR_MILLRACE_CLOSED')) return;
          if (!isMillraceError(error)) throw error;
          await backoff.pause(signal).catch(() => {});
        }
        this.#isAskedAgain = true;
      }
    } finally {
      this.#isStepping = false;
    }
  }

  /** @returns `unsettled`: the key has to be read before it is known what holds */
  async #write(): Promise<'settled' | 'unsettled'> {
    const known = this.#known;
    const plan = known && this.#plan(known);
    if (known === undefined || plan === undefined) return 'settled';
    const { holders, dead, share } = plan;
    if (share < this.#share) this.#apply(share);
    const { store, members } = this.#ports;
    const outcome = await store.txn({
      compares: [
        { target: 'mod', key: this.key, operator: '=', operand: known.modRevision },
        members.compare,
        ...dead.map(({ node, joinedAt }): Compare => {
          return { ...joinedCompare(node, joinedAt as Revision), operator: '!=' };
        }),
      ],
      success: [{ type: 'put', key: this.key, value: encode(holders) }],
    });
    if (outcome.kind !== 'done') return 'unsettled';
    // Heard of it before its answer came, or of what came after it.
    if (outcome.revision <= (this.#known?.modRevision ?? 0)) return 'settled';
    this.#known = { holders, modRevision: outcome.revision };
    this.#actBy();
    return 'settled';
  }

  /** What to write; undefined: it is well as it is, or not ours to say. */
  #plan(known: Known):
    | {
        readonly holders: readonly Holder[];
        readonly dead: readonly Holder[];
        readonly share: number;
      }
    | undefined {
    const { node, self } = this.#ports.members;
    const joinedAt = self?.joinedAt;
    if (this.#members === undefined || joinedAt === undefined) return undefined;
    if (known.holders === undefined) return undefined;
    const there = new Map(this.#members).set(node, joinedAt);
    const living = known.holders.filter((holder) => there.get(holder.node) === holder.joinedAt);
    const dead = known.holders.filter((holder) => !living.includes(holder));
    const others = living.filter((holder) => holder.node !== node);
    const mine = this.#mine(known);
    const want = this.#want;
    const [fair] = fairShares([want, ...others.map((other) => other.want)]);
    const free = others.reduce((left, other) => left - other.share, 1);
    let share = Math.max(0, Math.min(fair!, free));
    if (mine !== undefined) {
      if (Math.abs(share - mine.share) < SHARE_STEP) share = Math.min(mine.share, this.#share);
      const isAsTold = share === mine.share && want === mine.want && dead.length === 0;
      if (isAsTold) return undefined;
    }
    return { holders: [...others, { node, joinedAt, share, want }], dead, share };
  }
}

/** Of what does not decode, or is another version's, this node takes nothing, with a loud event. */
function decode(entry: Entry | undefined): readonly Holder[] | undefined {
  if (entry === undefined) return [];
  try {
    const { format, holders } = JSON.parse(utf8(entry.value)) as Record<string, unknown>;
    if (format === FORMAT && Array.isArray(holders) && holders.every(isHolder)) return holders;
  } catch {
    // Not even JSON: the same.
  }
  const { key } = entry;
  const cause = new MillraceError(
    'ERR_MILLRACE_STORE_CORRUPT',
    `${key} does not say who has which share of the rate; upgrade this node if a newer one wrote it, else delete it`,
    { details: { key } },
  );
  publish('millrace:store:corrupt', () => ({ key, cause }));
  return undefined;
}

function encode(holders: readonly Holder[]): Uint8Array {
  return Buffer.from(JSON.stringify({ format: FORMAT, holders }));
}

function isHolder(given: unknown): given is Holder {
  const { node, joinedAt, share, want } = (given ?? {}) as Record<keyof Holder, unknown>;
  const isPart = (part: unknown): boolean => typeof part === 'number' && part >= 0 && part <= 1;
  return typeof node === 'string' && typeof joinedAt === 'number' && isPart(share) && isPart(want);
}
