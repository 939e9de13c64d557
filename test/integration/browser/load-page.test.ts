/**
 * The page of a load test in a real browser: it is complete, nothing overflows, and everything can be read in the light and
 * in the dark, on a phone and on a screen.
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import type { Page } from 'playwright-core';
import { setup } from '../../cli/process.js';
import { startBrowser } from '../../support/browser.js';
import { unreadable } from './contrast.js';

const WIDTHS = [390, 1280];
const SCHEMES = ['light', 'dark'] as const;

interface Rendered {
  readonly page: Page;
  /** Errors of the page and of its console, and requests for anything but the file. */
  readonly complaints: readonly string[];
}

/** Runs a load test of a few seconds and opens the page it writes. */
async function openReport(t: TestContext, words: readonly string[]): Promise<Rendered> {
  const { millrace, folder } = setup(t);
  const { code, stderr } = await millrace(['loadtest', ...words, '--html', 'report.html']);
  assert.equal(code, 0, stderr);
  return open(t, path.join(folder, 'report.html'));
}

async function open(t: TestContext, file: string): Promise<Rendered> {
  const page = await (await startBrowser(t)).newPage();
  const complaints: string[] = [];
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) complaints.push(message.text());
  });
  const { href } = pathToFileURL(file);
  page.on('request', (request) => {
    if (request.url() !== href && !request.url().startsWith('data:')) {
      complaints.push(`asks for ${request.url()}`);
    }
  });
  await page.goto(href);
  return { page, complaints };
}

/** Every width in every scheme: nothing wider than the window, nothing that cannot be read. */
async function looksRight(page: Page): Promise<void> {
  for (const colorScheme of SCHEMES) {
    await page.emulateMedia({ colorScheme });
    for (const width of WIDTHS) {
      await page.setViewportSize({ width, height: 800 });
      const overflow = await page.evaluate(
        () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
      );
      assert.ok(overflow <= 0, `${overflow} px too wide at ${width}`);
      assert.deepEqual(await page.evaluate(unreadable), [], `${colorScheme} at ${width}`);
    }
  }
}

test('the page of a load of tasks has its charts, and is read in both schemes at both widths', async (t) => {
  const words = ['--store', 'memory', '--rate', '500', '--seconds', '3', '--work', 'mix'];
  const { page, complaints } = await openReport(t, ['tasks', ...words]);
  const titles = await page.locator('figure h2').allTextContents();
  assert.deepEqual(titles, [
    'Latency by percentile',
    'Throughput over time',
    'Latency over time',
    'Garbage collection',
    'Event-loop delay',
    'Memory',
  ]);
  const lines = await page
    .locator('figure')
    .evaluateAll((figures) =>
      figures.map((figure) => figure.querySelectorAll('.plot path.series').length),
    );
  assert.deepEqual(lines, [4, 2, 3, 1, 1, 1]);
  const lengths = await page
    .locator('figure:first-of-type .plot path.series')
    .evaluateAll((paths) => paths.map((each) => (each as SVGPathElement).getTotalLength()));
  assert.ok(
    lengths.every((length) => length > 100),
    `lines are drawn: ${lengths}`,
  );
  await looksRight(page);
  assert.deepEqual(complaints, []);
});

test('the page of a load of timers is read in both schemes at both widths', async (t) => {
  const words = ['--rate', '5000', '--seconds', '2', '--delay', '200ms'];
  const { page, complaints } = await openReport(t, ['timers', ...words]);
  assert.equal(await page.locator('figure').count(), 6);
  await looksRight(page);
  assert.deepEqual(complaints, []);
});

test('what cannot be read is found', async (t) => {
  const { folder } = setup(t);
  const file = path.join(folder, 'pale.html');
  writeFileSync(
    file,
    `<style>body { background: #fff } p { color: #bbb } path { stroke: #eee }</style>
     <p>pale</p><svg><path class="series" d="M0 0L9 9"/></svg>`,
  );
  const { page } = await open(t, file);
  assert.equal((await page.evaluate(unreadable)).length, 2);
});
