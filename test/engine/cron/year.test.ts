/** Days of cron entries through changes of the clock and of their owner. The whole year is in test/long. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkYear, drawEntries } from '../../support/cron-year.js';

for (const start of ['2026-03-26', '2026-10-29']) {
  test(`every fire of 300 entries is there once in the week from ${start}, with three takeovers a day`, async () => {
    const zones = ['Europe/Berlin', 'America/New_York'];
    const { fires } = await checkYear({
      startMs: Date.parse(`${start}T00:00:00Z`),
      days: 7,
      entries: drawEntries(300, zones, 7),
      takeoversPerDay: 3,
      seed: 11,
    });
    assert.ok(fires > 900, `${fires} fires`);
  });
}
