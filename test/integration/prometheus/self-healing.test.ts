/**
 * The whole circle with the real programs: a runtime is scraped by Prometheus, a rule fires, Alertmanager calls the webhook,
 * and the runtime does what the alert's label says.
 */
import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { readFile } from 'node:fs/promises';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import {
  createRuntime,
  defineTask,
  defineTasks,
  type HealingOptions,
  memoryStore,
  type Runtime,
} from '../../../src/index.js';
import { check, prometheusPrograms, startServer } from '../../support/prometheus.js';

const MONITORING = fileURLToPath(new URL('../../../../monitoring/', import.meta.url));
const TOKEN = 'webhook-token-of-this-test-0123456789';
const LIMIT_MS = 90_000;

let isDown = false;
const tasks = defineTasks({
  call: defineTask({
    name: 'call',
    exec: 'inline',
    retry: { attempts: 1_000, min: 20, max: 20, jitter: 'none' },
    run: async () => {
      if (isDown) throw Object.assign(new Error('nobody there'), { code: 'ECONNREFUSED' });
      return 'answer';
    },
  }),
});

async function start(t: TestContext, healing: HealingOptions = {}): Promise<Runtime> {
  const runtime = await createRuntime({
    tasks,
    store: memoryStore(),
    admin: { listen: 0 },
    // The runtime's own breakers would be faster than any alert.
    healing: { rules: { breaker: { failures: 1_000_000 }, dependency: false }, ...healing },
    shutdown: { soft: 0, hard: 0 },
  });
  t.after(() => runtime.close());
  return runtime;
}

const addressOf = ({ adminAddress }: Runtime): string => `127.0.0.1:${adminAddress!.port}`;

/** Resolves with the first message of a channel that fits; fails when none comes. */
function heard<T>(name: string, fits: (message: T) => boolean): Promise<T> {
  return new Promise((resolve, reject) => {
    const done = (end: () => void): void => {
      unsubscribe(name, listener);
      clearTimeout(timer);
      end();
    };
    const listener = (message: unknown): void => {
      if (fits(message as T)) done(() => resolve(message as T));
    };
    const late = new Error(`nothing fitting on ${name} in ${LIMIT_MS} ms`);
    const timer = setTimeout(() => done(() => reject(late)), LIMIT_MS);
    subscribe(name, listener);
  });
}

test('promtool accepts what a runtime exposes', async (t) => {
  const { promtool } = await prometheusPrograms();
  const runtime = await start(t);
  await (await runtime.submit('call', null)).result();
  const said = await check(promtool, ['check', 'metrics'], runtime.metrics.prometheus());
  assert.equal(said, '');
});

test('what comes with the package for Prometheus and Alertmanager is well-formed, and the rules do what their tests say', async () => {
  const { promtool, amtool } = await prometheusPrograms();
  await check(promtool, ['check', 'rules', `${MONITORING}prometheus-rules.yml`]);
  await check(promtool, ['test', 'rules', `${MONITORING}prometheus-rules.test.yml`]);
  const said = await check(amtool, ['check-config', `${MONITORING}alertmanager.yml`]);
  assert.match(said, /SUCCESS/);
});

test('a type that finds nobody to answer is held back by an alert, on the node it is about, and comes back', async (t) => {
  const { prometheus, alertmanager, template } = await prometheusPrograms();
  const templateText = await readFile(template, 'utf8');
  const webhook = { token: TOKEN };
  const sick = await start(t, { webhook });
  const well = await start(t, { webhook });
  const { url: alertsUrl } = await startServer(t, alertmanager, (port) => ({
    args: [
      '--config.file=alertmanager.yml',
      '--storage.path=data',
      `--web.listen-address=127.0.0.1:${port}`,
      '--cluster.listen-address=',
    ],
    files: {
      'alertmanager.yml': JSON.stringify({
        route: {
          receiver: 'millrace',
          group_by: ['alertname', 'instance'],
          group_wait: '1s',
          group_interval: '1s',
          repeat_interval: '5s',
        },
        receivers: [
          {
            name: 'millrace',
            // To both of them: each acts on what names it.
            webhook_configs: [sick, well].map((runtime) => ({
              url: `http://${addressOf(runtime)}/v1/alerts`,
              http_config: { authorization: { credentials: TOKEN } },
            })),
          },
        ],
      }),
      'default.tmpl': templateText,
      // Wanted as well, and used by no webhook.
      'email.tmpl': '',
    },
  }));
  const rules = await readFile(`${MONITORING}prometheus-rules.yml`, 'utf8');
  await startServer(t, prometheus, (port) => ({
    args: [
      '--config.file=prometheus.yml',
      '--storage.tsdb.path=data',
      `--web.listen-address=127.0.0.1:${port}`,
    ],
    files: {
      // The shipped rules, but for how long they look back.
      'rules.yml': rules.replaceAll('[1m]', '[10s]'),
      'prometheus.yml': JSON.stringify({
        global: { scrape_interval: '1s', evaluation_interval: '1s' },
        rule_files: ['rules.yml'],
        alerting: {
          alertmanagers: [{ static_configs: [{ targets: [alertsUrl.replace('http://', '')] }] }],
        },
        scrape_configs: [
          { job_name: 'millrace', static_configs: [{ targets: [sick, well].map(addressOf) }] },
        ],
      }),
    },
  }));

  isDown = true;
  t.after(() => {
    isDown = false;
  });
  const done = heard<{ action: string; result: string }>(
    'millrace:heal:action',
    ({ action, result }) => action === 'open-breaker' && result === 'done',
  );
  const handle = await sick.submit('call', null);
  await done;
  assert.match(
    sick.metrics.prometheus(),
    /^millrace_breaker_state\{name="call",state="open"\} 1$/m,
  );
  const [record] = sick.healing.audit();
  assert.deepEqual(
    [record?.action, record?.target, record?.source, record?.result, record?.reason],
    ['open-breaker', 'call', 'webhook', 'done', 'alert MillraceDependencyDown'],
  );
  assert.deepEqual(well.healing.audit(), []);

  // It is open, so nothing fails any more: the alert is resolved, and the type is tried.
  isDown = false;
  assert.equal(await handle.result({ timeout: LIMIT_MS }), 'answer');
  // The page is made at most four times a second: it may still be the one from before.
  let page: string;
  do page = await (await fetch(`http://${addressOf(sick)}/metrics`)).text();
  while (!page.includes('millrace_heal_actions_total{action="open-breaker"'));
  assert.match(page, /^millrace_heal_actions_total\{action="open-breaker",result="done"\} 1$/m);
});

test('who has no token, or sends nonsense, changes nothing', async (t) => {
  const runtime = await start(t, { webhook: { token: TOKEN } });
  const send = async (body: string, token = TOKEN) => {
    const answer = await fetch(`http://${addressOf(runtime)}/v1/alerts`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body,
    }).catch(() => undefined);
    return answer?.status;
  };
  const alert = {
    status: 'firing',
    labels: { alertname: 'A', action: 'degrade' },
    startsAt: '2026-11-23T11:42:54Z',
    fingerprint: 'f30c3df4978013b0',
  };
  const good = JSON.stringify({ version: '4', alerts: [alert] });
  assert.equal(await send(good, TOKEN.replace('0', '1')), 401);
  assert.equal(await send(good.slice(1)), 400);
  assert.equal(await send(good.replace('degrade', 'rm -rf /')), 202);
  // Refused while it is sent: the answer, or the end of the connection.
  assert.ok([413, undefined].includes(await send(' '.repeat(1_048_577))));
  assert.deepEqual(runtime.healing.audit(), []);

  for (let i = 0; i < 1_000; i++) assert.equal(await send(good), 202);
  assert.deepEqual(
    runtime.healing.audit().map(({ action, result }) => [action, result]),
    [['degrade', 'done']],
  );
});
