/** The task of the bench, as Piscina's threads load it. */
export default function noop(): undefined {
  return undefined;
}
