/** Limits for things that should happen soon: tests against real servers fail with words instead of hanging. */

/** Generous: a machine that is busy must not fail a test that is right. */
const LIMIT_MS = 30_000;

/** @param what - what is waited for, for the message */
export async function soon<T>(what: string, promise: Promise<T>, limitMs = LIMIT_MS): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${limitMs} ms`)), limitMs);
  });
  return Promise.race([promise, limit]).finally(() => clearTimeout(timer));
}

/** Asks again and again until the answer is true, for what has no event. */
export async function until(
  what: string,
  isSo: () => boolean | Promise<boolean>,
  limitMs?: number,
): Promise<void> {
  let isOver = false;
  const asking = (async () => {
    while (!isOver && !(await isSo())) await new Promise((resolve) => setTimeout(resolve, 5));
  })();
  await soon(what, asking, limitMs).finally(() => {
    isOver = true;
  });
}
