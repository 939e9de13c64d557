/**
 * The metrics of one runtime: a family for each entry of the table, and in it a cell for each combination of labels.
 *
 * Who counts asks once for its cell and keeps it; finding it again by labels costs a look into a map. What is cheaper to
 * read than to follow (memory, counts that others keep) is read by collectors, at the scrape.
 *
 * Cardinality is bounded whatever the queues are called: a family has LABEL_SETS_MAX combinations, what is beyond goes to
 * one whose labels are `_other`, and the process warns once.
 */
import { CounterCell, GaugeCell, HistogramCell } from './metric-cells.js';
import { type AnyMetricFact, METRICS, type MetricKey, metricFact, SCALES } from './metric-table.js';

type CellOf<Key extends MetricKey> = (typeof METRICS)[Key]['type'] extends 'counter'
  ? CounterCell
  : (typeof METRICS)[Key]['type'] extends 'gauge'
    ? GaugeCell
    : HistogramCell;

/** A value for each label of the metric, in the order of the table. */
type LabelsOf<Key extends MetricKey> = Values<(typeof METRICS)[Key]['labels']>;
type Values<Labels extends readonly string[]> = { [I in keyof Labels]: string };

/** One combination of labels with its cell. */
export interface Series {
  readonly labels: readonly string[];
  readonly cell: CounterCell | GaugeCell | HistogramCell;
}

/** A metric with all its series. */
export interface Family {
  readonly fact: AnyMetricFact;
  readonly series: readonly Series[];
}

const LABEL_SETS_MAX = 200;
const OTHER = '_other';
/** Between the values in a key; no queue, reason or version has it. */
const SEPARATOR = '\u0000';

export class MetricRegistry {
  readonly #families = new Map<MetricKey, Map<string, Series>>();
  readonly #collectors: (() => void)[] = [];

  /** The cell of a metric for these labels; made when it is asked for first. */
  cell<Key extends MetricKey>(metric: Key, ...labels: LabelsOf<Key>): CellOf<Key> {
    const family = this.#familyOf(metric);
    const key = labels.join(SEPARATOR);
    const series = family.get(key) ?? this.#add(metric, family, key, labels);
    return series.cell as CellOf<Key>;
  }

  /** Calls `collect` before each scrape: it sets what is only known then. */
  onCollect(collect: () => void): void {
    this.#collectors.push(collect);
  }

  /** Everything as it is now, in the order of the table; metrics without a series are left out. */
  collect(): Family[] {
    for (const collect of this.#collectors) collect();
    return (Object.keys(METRICS) as MetricKey[]).flatMap((metric) => {
      const family = this.#families.get(metric);
      return family === undefined
        ? []
        : [{ fact: metricFact(metric), series: [...family.values()] }];
    });
  }

  #familyOf(metric: MetricKey): Map<string, Series> {
    let family = this.#families.get(metric);
    if (family === undefined) {
      family = new Map();
      this.#families.set(metric, family);
    }
    return family;
  }

  #add(
    metric: MetricKey,
    family: Map<string, Series>,
    key: string,
    labels: readonly string[],
  ): Series {
    const isFull = family.size >= LABEL_SETS_MAX;
    const kept = isFull ? labels.map(() => OTHER) : labels;
    const keptKey = isFull ? kept.join(SEPARATOR) : key;
    let series = family.get(keptKey);
    if (series === undefined) {
      if (isFull) warnOfMany(metric);
      series = { labels: kept, cell: newCell(metricFact(metric)) };
      family.set(keptKey, series);
    }
    return series;
  }
}

function newCell(fact: AnyMetricFact): Series['cell'] {
  switch (fact.type) {
    case 'counter':
      return new CounterCell();
    case 'gauge':
      return new GaugeCell();
    case 'histogram':
      return new HistogramCell(SCALES[fact.scale]);
  }
}

function warnOfMany(metric: MetricKey): void {
  const { name, labels } = METRICS[metric];
  process.emitWarning(
    `${name} has more than ${LABEL_SETS_MAX} combinations of ${labels.join(', ')}; the rest is counted as '${OTHER}'`,
    { type: 'MillraceWarning', code: 'millrace:metrics:many' },
  );
}
