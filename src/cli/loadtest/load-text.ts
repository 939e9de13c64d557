/** The report of an open load as a table for people. */
import { table } from '../table.js';
import { count, span } from '../units.js';
import type { DeliveryFacts } from './delivery.js';
import type { LoadReport } from './load-report.js';
import { delayRows, phaseRows, processRows } from './load-tables.js';

export function loadText(report: LoadReport): string {
  const { faults, delivery } = report;
  return [
    `${headline(report)}\n`,
    table(phaseRows(report)),
    table(processRows(report)),
    table(delayRows(report)),
    faults.map(({ atSeconds, result }) => `${atSeconds.toFixed(0)} s: ${result}\n`).join(''),
    `${deliveryLine(delivery, report.isExact)}\n`,
  ]
    .filter((part) => part !== '')
    .join('\n');
}

export function headline({ load, store, elapsedMs, endedPerSecond }: LoadReport): string {
  const { rate, seconds, work } = load as { rate: number; seconds: number; work?: string };
  const what = work === undefined ? 'timers' : `${work} tasks`;
  const where = store === undefined ? '' : `, store ${store}`;
  return `${count(rate)} ${what}/s for ${seconds} s${where}: ${count(endedPerSecond)}/s ended, ${span(elapsedMs)} in all`;
}

/** One sentence on whether every task has exactly one result. */
export function deliveryLine(facts: DeliveryFacts, isExact: boolean): string {
  const failed = sum(facts.failed);
  const refused = sum(facts.refused);
  const parts = [
    `${count(facts.accepted)} accepted`,
    `${count(facts.completed)} completed`,
    ...(failed > 0 ? [`${count(failed)} failed (${codes(facts.failed)})`] : []),
    ...(refused > 0 ? [`${count(refused)} refused (${codes(facts.refused)})`] : []),
    ...(facts.open > 0 ? [`${count(facts.open)} not ended in time`] : []),
    ...(facts.unheard > 0 ? [`${count(facts.unheard)} ended unheard`] : []),
    `${count(facts.lost)} lost`,
    `${count(facts.twice + facts.foreign)} wrong or second results`,
    `${count(facts.repeated)} run more than once`,
  ];
  return `delivery ${isExact ? 'exact' : 'NOT exact'}: ${parts.join(', ')}`;
}

function sum(byCode: Readonly<Record<string, number>>): number {
  return Object.values(byCode).reduce((total, value) => total + value, 0);
}

function codes(byCode: Readonly<Record<string, number>>): string {
  return Object.entries(byCode)
    .map(([code, value]) => `${code} ${value}`)
    .join(', ');
}
