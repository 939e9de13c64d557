/** The ablation as a page: the table, and bars for the figures that matter most. */
import { millis } from '../units.js';
import { METRICS } from './ablation-plan.js';
import { type AblationReport, BASE } from './ablation-report.js';
import { ablationRows, unnoticed } from './ablation-text.js';
import { barChart } from './page/bar-chart.js';
import { escaped, htmlTable } from './page/html.js';
import { page } from './page/page.js';

export function ablationPage(report: AblationReport): string {
  const { machine, node, date, settings } = report;
  const facts = `${machine.cpu}, ${machine.cores} cores, ${machine.kernel}, Node ${node}, ${date.slice(0, 16).replace('T', ' ')} UTC; store ${settings.store}; medians of ${settings.runs}`;
  const charts = Object.entries(METRICS).map(([name, { unit, about }]) =>
    barChart({
      title: name,
      about: `${unit}: ${about}`,
      bars: report.contenders.map((contender) => {
        const value = contender.metrics[name]?.median;
        return {
          name: contender.name,
          value,
          label: value === undefined ? 'not measured' : millis(value),
          isBase: contender.name === BASE,
        };
      }),
    }),
  );
  return page('millrace loadtest ablation: what each optimisation is worth', facts, [
    '<p>The same workload with everything on, with everything off, and with each one off by itself; in brackets the relation to all-on.</p>',
    htmlTable(ablationRows(report)),
    ...unnoticed(report).map((line) => `<p>${escaped(line)}</p>`),
    `<div class="charts">${charts.join('\n')}</div>`,
    `<p class="soft">${escaped(`Settings: ${JSON.stringify(settings)}`)}</p>`,
  ]);
}
