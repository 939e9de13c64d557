/** A process that runs the tasks of a load test: told by its parent which store, ended by its parent or with it. */
import { createRuntime } from '../../millrace.js';
import { storeOf } from '../store-option.js';
import type { FromNode, NodeAssignment, ToNode } from './node-protocol.js';
import { ProcessVitals } from './process-vitals.js';

const { options, threads } = JSON.parse(process.argv[2] ?? '{}') as NodeAssignment;

const tell = (message: FromNode): void => void process.send?.(message);
let vitals: ProcessVitals | undefined;

const runtime = await createRuntime({
  tasks: new URL('./load-tasks.js', import.meta.url),
  store: storeOf({ positionals: [], options: new Map(options) }),
  ...(threads !== undefined && { threads: { max: threads } }),
});

process.on('message', (message: ToNode) => {
  if (message.kind === 'stop') void stop();
  else vitals ??= new ProcessVitals(message.startMs, (facts) => tell({ kind: 'facts', facts }));
});
process.on('disconnect', () => process.exit());
tell({ kind: 'ready' });

async function stop(): Promise<void> {
  if (vitals !== undefined) tell({ kind: 'facts', facts: vitals.stop() });
  await runtime.close();
  process.exit();
}
