/** The process of one row of the ablation: told what to do by its only argument, answers its parent and ends. Its log is its standard output. */
import { prefixRange } from '../../core/store.js';
import type { Switch } from '../../runtime-options.js';
import { systemClock } from '../../timing/system-clock.js';
import { storeOf } from '../store-option.js';
import type { AblationSettings } from './ablation-plan.js';
import { measureRow, type RowResult } from './ablation-row.js';

export interface RowAssignment {
  /** Options of the command line that say which store it is; a place of this row's own. */
  readonly options: readonly (readonly [name: string, value: string])[];
  readonly off: readonly Switch[];
  readonly settings: AblationSettings;
}

export type RowAnswer = { readonly result: RowResult } | { readonly reason: string };

const { options, off, settings } = JSON.parse(process.argv[2] ?? '{}') as RowAssignment;

const answer = await measure();
process.send?.(answer, () => process.exit());

async function measure(): Promise<RowAnswer> {
  try {
    const factory = storeOf({ positionals: [], options: new Map(options) });
    const result = await measureRow(factory, off, settings);
    if (factory.kind === 'etcd') {
      // The place was this row's own: nothing of it stays on somebody's cluster.
      const store = await factory.open({ clock: systemClock });
      const range = prefixRange('');
      await store.txn({ compares: [], success: [{ type: 'deleteRange', range }] });
      await store.close();
    }
    return { result };
  } catch (error) {
    return { reason: error instanceof Error ? (error.stack ?? error.message) : String(error) };
  }
}
