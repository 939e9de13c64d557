/**
 * What a test has opened, closed last first. node:test runs `after` hooks in the order in which they were registered, so a server is
 * otherwise gone before the runtime that needs it, which then waits for its answers while it closes.
 */
import type { TestContext } from 'node:test';

/** @returns registers what ends something; each is called after the test, and waited for */
export function closing(t: TestContext): (close: () => unknown) => void {
  const closers: (() => unknown)[] = [];
  t.after(async () => {
    for (const close of closers.reverse()) await close();
  });
  return (close) => void closers.push(close);
}
