/**
 * Weighted rendezvous hashing: who of several nodes a thing belongs to, agreed on without talking.
 *
 * Every node draws a number for every thing out of a hash of both names, and the highest number wins. Since the draws of
 * two nodes have nothing to do with each other, a node that leaves only gives up what it had, and a node that comes
 * only takes what it wins: nothing moves between the others.
 *
 *   score(node, thing) = weight / -ln(u)       u = hash(node, thing), uniform in (0, 1)
 *
 * -ln(u) / weight is an exponential variable of rate `weight`, and the least of several such is the one of rate w_i
 * with probability w_i / sum(w). So shares are proportional to weights, and a weight that changes only moves things
 * to or from that node.
 *
 * Cost: one hash per node and thing. Shares scatter like coin throws: 64 things on 2 nodes are 32 +- 4.
 * Source: Thaler and Ravishankar, "Using name-based mappings to increase hit rates" (1998); the weighted score is
 * Schindelhauer and Schomaker's "Weighted distributed hash tables" (2005).
 */
import { uniformOf } from '../core/hash.js';

export interface Candidate {
  readonly node: string;
  /** Its share in proportion to the others'. 0, or what is no positive number: it gets nothing. */
  readonly weight: number;
}

/**
 * The node that `thing` belongs to, or undefined when nobody may have it. The order of candidates does not matter.
 * All nodes come to the same answer from the same candidates; ownership never rests on that, only who tries.
 */
export function ownerOf(thing: string, candidates: Iterable<Candidate>): string | undefined {
  let winner: string | undefined;
  let highest = 0;
  for (const { node, weight } of candidates) {
    if (!(weight > 0 && weight < Number.POSITIVE_INFINITY)) continue;
    const score = weight / -Math.log(uniformOf(`${node}\n${thing}`));
    // Equal scores are a matter of 2^-53; the name decides, so that everybody still agrees.
    if (score > highest || (score === highest && node < winner!)) {
      highest = score;
      winner = node;
    }
  }
  return winner;
}
