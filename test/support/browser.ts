/** A browser without a window, driven by playwright-core. */
import type { TestContext } from 'node:test';
import { type Browser, chromium } from 'playwright-core';
import { chromiumProgram } from './chromium.js';
import { withLibraries } from './server.js';

/** A browser that is closed after the test. */
export async function startBrowser(t: TestContext): Promise<Browser> {
  const { program, libraries } = await chromiumProgram();
  const browser = await chromium.launch({
    executablePath: program,
    // Its sandbox wants rights that containers do not give; pages here are our own.
    args: ['--no-sandbox', '--disable-gpu'],
    env: withLibraries(libraries) as Record<string, string>,
  });
  t.after(() => browser.close());
  return browser;
}
