/**
 * Writes what follows from the table of metrics in src/telemetry/metric-table.ts: docs/reference/metrics.md and the Grafana
 * dashboard monitoring/grafana-dashboard.json.
 *
 *   node scripts/docs-metrics.mjs           writes both
 *   node scripts/docs-metrics.mjs --check   says what is old, and fails then (a test runs this)
 *
 * Reads the compiled table: run `npm run build` first.
 */

import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { at, fail, readText } from './lib/project.mjs';

// biome-ignore lint/suspicious/noTemplateCurlyInString: Grafana's own variable.
const DATASOURCE = { type: 'prometheus', uid: '${datasource}' };

const INTRODUCTION = `<!-- Generated from src/telemetry/metric-table.ts by scripts/docs-metrics.mjs. -->

# Metrics

Every metric that a runtime exposes: as text from \`runtime.metrics.prometheus()\`, or through a prom-client registry or an
OpenTelemetry meter of yours ([how](../guides/observability.md#metrics)). A metric without a series (nothing of the kind has happened)
is left out of the text.

- Labels are bounded: a metric has at most 200 combinations, the rest is counted under \`_other\` and the process warns once.
- Buckets of histograms are powers of two: seconds from 2^-12 (0.24 ms) to 64 s in steps of four, tasks from 1 to 64.
- Through OpenTelemetry names have dots and the unit apart: \`millrace_process_cpu_seconds_total\` is \`millrace.process.cpu\` in \`s\`. A
  histogram is three counters there, \`.bucket\` (with the attribute \`le\`), \`.sum\` and \`.count\`.
- A Grafana dashboard with a panel for each: \`monitoring/grafana-dashboard.json\` in the package.`;

const { METRICS, METRIC_GROUPS } = await import(at('dist/src/telemetry/metric-table.js')).catch(
  (error) => fail(`the metric table cannot be read (${error.message}); run: npm run build`),
);

const FILES = {
  'docs/reference/metrics.md': page(),
  'monitoring/grafana-dashboard.json': `${JSON.stringify(dashboard(), null, 2)}\n`,
};

for (const [file, text] of Object.entries(FILES)) {
  if (!process.argv.includes('--check')) {
    mkdirSync(dirname(at(file)), { recursive: true });
    writeFileSync(at(file), text);
  } else if (readText(at(file)) !== text) {
    fail(`${file} differs from src/telemetry/metric-table.ts; run: node scripts/docs-metrics.mjs`);
  }
}

function inGroup(group) {
  return Object.values(METRICS).filter((metric) => metric.group === group);
}

function page() {
  const sections = Object.entries(METRIC_GROUPS).map(([group, title]) => {
    const rows = inGroup(group).map(({ name, type, labels, help }) => {
      const names = labels.map((label) => `\`${label}\``).join(', ') || '-';
      return `| \`${name}\` | ${type} | ${names} | ${help.replaceAll('|', '\\|')} |`;
    });
    return [`## ${title}`, '', '| metric | type | labels | |', '|---|---|---|---|', ...rows].join(
      '\n',
    );
  });
  return `${[INTRODUCTION, ...sections].join('\n\n')}\n`;
}

/** One row per group, one panel per metric. */
function dashboard() {
  const panels = [];
  let y = 0;
  for (const [group, title] of Object.entries(METRIC_GROUPS)) {
    panels.push({ id: panels.length + 1, type: 'row', title, gridPos: { x: 0, y, w: 24, h: 1 } });
    y += 1;
    inGroup(group).forEach((metric, i) => {
      const gridPos = { x: (i % 3) * 8, y: y + Math.floor(i / 3) * 7, w: 8, h: 7 };
      panels.push({ id: panels.length + 1, gridPos, ...panelOf(metric) });
    });
    y += Math.ceil(inGroup(group).length / 3) * 7;
  }
  return {
    title: 'millrace',
    uid: 'millrace',
    tags: ['millrace'],
    schemaVersion: 36,
    editable: true,
    refresh: '10s',
    time: { from: 'now-1h', to: 'now' },
    templating: {
      list: [
        variable('datasource', { type: 'datasource', query: 'prometheus' }),
        variable('instance', {
          type: 'query',
          datasource: DATASOURCE,
          query: 'label_values(millrace_build_info, instance)',
          includeAll: true,
          multi: true,
          refresh: 2,
        }),
      ],
    },
    panels,
  };
}

function variable(name, options) {
  return { name, label: name, ...options };
}

function panelOf(metric) {
  const { name, help, labels } = metric;
  const legend = [...labels.map((label) => `{{${label}}}`), '{{instance}}'].join(' ');
  return {
    type: 'timeseries',
    title: name,
    description: help,
    datasource: DATASOURCE,
    fieldConfig: { defaults: { unit: unitOf(metric), min: 0 }, overrides: [] },
    targets: targetsOf(metric, legend).map((target, i) => ({
      refId: String.fromCharCode(65 + i),
      datasource: DATASOURCE,
      ...target,
    })),
  };
}

function targetsOf({ name, type, labels }, legend) {
  const chosen = '{instance=~"$instance"}';
  if (type === 'gauge') return [{ expr: `${name}${chosen}`, legendFormat: legend }];
  if (type === 'counter') {
    return [{ expr: `rate(${name}${chosen}[$__rate_interval])`, legendFormat: legend }];
  }
  const by = ['le', 'instance', ...labels].join(', ');
  return [0.5, 0.99].map((quantile) => ({
    expr: `histogram_quantile(${quantile}, sum by (${by}) (rate(${name}_bucket${chosen}[$__rate_interval])))`,
    legendFormat: `p${quantile * 100} ${legend}`,
  }));
}

function unitOf({ name, type }) {
  const isRate = type === 'counter';
  if (name.includes('_seconds')) return isRate ? 'percentunit' : 's';
  if (name.includes('_bytes')) return isRate ? 'Bps' : 'bytes';
  return isRate ? 'ops' : 'short';
}
