/**
 * The tables of docs/scaling.md out of the report of the bench `scale`: what was measured, and what the model makes of it. A cell
 * says which of the two it is: what the report has is measured, everything else is modelled.
 */

const PENDING = ['10k', '100k', '1M', '5M'];
const NODES = [1, 2, 4, 8];
/** Of the model: machines with so many cores for millrace, and cores that etcd can use at once. */
const CORES = 4;
const ETCD_CORES = 2;
/** Half of what would be possible: room for bursts, and for a node that dies. */
const LOAD_SHARE = 0.5;
const FLEETS = [1, 2, 4, 8, 16, 32, 64];

const PENDING_COLUMNS = [
  ['submitCpuUs', 'accept, CPU us', 1],
  ['rssBytes', 'memory, bytes', 0],
  ['heapBytes', 'of it JavaScript heap', 1],
  ['runCpuUs', 'run another one meanwhile, CPU us', 1],
  ['gcMsPerSecond', 'GC meanwhile, ms/s', 1],
];
const NODE_COLUMNS = [
  ['nodeCpuUs', 'nodes, CPU us', 1],
  ['clientCpuUs', 'client, CPU us', 1],
  ['etcdCpuUs', 'etcd, CPU us', 1],
  ['tasksPerRevision', 'tasks per transaction', 0],
  ['tasksPerSecond', 'tasks/s on this one machine', 0],
];

/** @param report - of the bench `scale` @returns markdown by the name of its place */
export function scalingTables(report, table) {
  const figure = (contender, metric, place) =>
    report.contenders.find(({ name }) => name === contender)?.metrics[`${metric}@${place}`]?.median;
  const row = (contender, place, columns, places) =>
    columns.map(([metric, , digits]) => {
      const measured = figure(contender, metric, place);
      if (measured !== undefined) return `${number(measured, digits)} measured`;
      // The cost of one does not depend on how many there are: that is the model, and what the measured sizes show.
      const near = places.map((other) => figure(contender, metric, other)).filter(Number.isFinite);
      const isModelled = near.length > 0 && metric !== 'tasksPerSecond';
      return isModelled ? `${number(near.at(-1), digits)} modelled` : '-';
    });
  const pending = ['millrace-memory', 'millrace-embedded'].flatMap((contender) =>
    PENDING.map((place) => [
      `${contender.replace('millrace-', '')}, ${place}`,
      ...row(contender, place, PENDING_COLUMNS, PENDING),
    ]),
  );
  const nodes = NODES.map((count) => [
    `${count}`,
    ...row('millrace-etcd', `${count}nodes`, NODE_COLUMNS, NODES.map(placeOf)),
  ]);
  return {
    pending: table([['store, pending', ...PENDING_COLUMNS.map(([, title]) => title)], ...pending]),
    nodes: table([['nodes', ...NODE_COLUMNS.map(([, title]) => title)], ...nodes]),
    fleets: fleetTable(figure, table),
    machine: `${report.machine.cpu}, ${report.machine.cores} cores, Node ${report.node}, ${report.date.slice(0, 10)}, commit \`${(report.commit ?? 'unknown').slice(0, 12)}\`, ${report.settings.runs === 1 ? 'one run' : `medians of ${report.settings.runs}`}.`,
  };
}

/** What the slowest of nodes and etcd lets through, with the costs of the most nodes that were measured. */
function fleetTable(figure, table) {
  const places = NODES.map(placeOf).filter((place) => figure('millrace-etcd', 'nodeCpuUs', place));
  const place = places.at(-1);
  const nodeUs = figure('millrace-etcd', 'nodeCpuUs', place);
  const etcdUs = figure('millrace-etcd', 'etcdCpuUs', place);
  const etcd = (ETCD_CORES * 1e6 * LOAD_SHARE) / etcdUs;
  const rows = FLEETS.map((count) => {
    const nodes = (count * CORES * 1e6 * LOAD_SHARE) / nodeUs;
    const limit = nodes < etcd ? 'nodes' : 'etcd';
    return [
      `${count} x ${CORES} cores`,
      `${rough(nodes)} modelled`,
      `${rough(etcd)} modelled`,
      `${rough(Math.min(nodes, etcd))} modelled, by ${limit}`,
      `${Math.ceil(nodes / etcd)} modelled`,
    ];
  });
  return table([
    [
      'nodes',
      'they could run, tasks/s',
      'one etcd carries',
      'so together',
      'etcd clusters to use all',
    ],
    ...rows,
  ]);
}

function placeOf(count) {
  return `${count}nodes`;
}

function number(value, digits) {
  return value.toFixed(digits).replace(/\B(?=(\d{3})+(?!\d))/g, ' ');
}

/** Two digits: a model is no more exact. */
function rough(value) {
  return number(Number(value.toPrecision(2)), 0);
}
