/**
 * Who gets which part of a budget, by how much each wants of it: max-min fairness, as links share a line (Jaffe 1981).
 * Nobody gets less than it wants while another gets more; what nobody wants is split evenly, so that whoever was quiet
 * can begin at once.
 *
 *   wants  1, 1, 1       ->  1/3, 1/3, 1/3
 *   wants  1, 1, 0.2     ->  0.4, 0.4, 0.2
 *   wants  0.3, 0.1, 0   ->  0.5, 0.3, 0.2
 */

/**
 * @param wants - parts of the whole budget, 0 to 1
 * @returns a part for each; their sum is 1, or there is nobody
 */
export function fairShares(wants: readonly number[]): number[] {
  const order = wants.map((_, i) => i).sort((a, b) => wants[a]! - wants[b]!);
  const shares = wants.map(() => 0);
  let left = 1;
  let others = wants.length;
  for (const i of order) {
    const share = Math.min(wants[i]!, left / others);
    shares[i] = share;
    left -= share;
    others--;
  }
  return shares.map((share) => share + left / wants.length);
}
