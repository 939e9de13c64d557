/**
 * What each of the seven optimisations is worth: the workload of `millrace loadtest ablation` (src/cli/loadtest/ablation-row.ts)
 * with everything on, with everything off, and with each one off by itself, on an etcd of its own over TLS.
 *
 * What a row logs goes to /dev/null here, since a bench's processes have no output; `npm run loadtest -- ablation` writes it to a file.
 */
import { availableParallelism } from 'node:os';
import {
  type AblationSettings,
  ablationSettings,
  CONTENDERS,
  METRICS,
  rowMs,
} from '../../src/cli/loadtest/ablation-plan.js';
import { type Contender, defineBench, type JsonObject, type MetricSpec } from '../lib/bench.js';
import { millraceVersion } from '../lib/places.js';

type Settings = AblationSettings & JsonObject;

const metrics = Object.fromEntries(
  Object.entries(METRICS).map(([name, { unit, about }]): [string, MetricSpec] => [
    name,
    { unit, about, better: name === 'tasksPerSecond' ? 'higher' : 'lower' },
  ]),
);

export default defineBench<Settings>({
  name: 'ablation',
  question: 'what is each of the seven optimisations worth?',
  metrics,
  options: { rate: 'tasks per second of the open loops (default 250)' },
  ours: ['all-on'],
  contenders: CONTENDERS.map(
    ({ name, off }): Contender<Settings> => ({
      name,
      version: millraceVersion(),
      durability: 'one etcd on loopback, fsync before the acknowledgement',
      settings: { off },
      async run(settings) {
        const { onOwnEtcd } = await import('./own-etcd.js');
        return onOwnEtcd(off, settings);
      },
    }),
  ),
  runs: ({ isQuick }) => ablationSettings(isQuick, 1).runs,
  settings: ({ isQuick, options }) => {
    const settings = ablationSettings(isQuick, availableParallelism());
    return { ...settings, ratePerSecond: options.rate ?? settings.ratePerSecond };
  },
  // With the server's start.
  seconds: (settings) => rowMs(settings) / 1_000 + 1.5,
});
