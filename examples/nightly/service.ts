/**
 * A service with a report at night: at three in the morning in Berlin, once in the fleet, and made up for after an outage.
 *
 *   node dist/examples/nightly/service.js                   prints when it comes next
 *   CRON='* * * * * *' node dist/examples/nightly/service.js       every second, to see it work
 *
 * STORE (a folder) comes from the environment. Start it as often as you like: the entry is stored, by name, and stays one.
 */
import { subscribe } from 'node:diagnostics_channel';
import { createRuntime, fileStore } from 'millrace';
import { report } from './tasks.js';

const runtime = await createRuntime({
  tasks: new URL('./tasks.js', import.meta.url),
  store: fileStore(process.env.STORE ?? 'nightly.millrace'),
  signals: true,
});

subscribe('millrace:cron:fired', (message) => {
  const { taskId } = message as { readonly taskId: string };
  const ended = runtime.handle(report, taskId).result();
  ended.then(({ kind, rows }) => console.log(`${kind}: ${rows} rows`), console.error);
});

const nightly = await runtime.cron(
  'nightly-report',
  process.env.CRON ?? '0 3 * * *',
  report,
  { kind: 'sales' },
  { tz: 'Europe/Berlin', overlap: 'skip', catchUp: 'one' },
);
console.log(
  `next: ${nightly
    .next(2)
    .map((fire) => fire.toISOString())
    .join(', ')}`,
);
