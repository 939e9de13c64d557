/** No-op tasks in a closed loop, and what they cost this process. */

import { type LoadInput, work } from '../../src/cli/loadtest/load-tasks.js';
import type { Client } from '../../src/index.js';
import { closedLoop } from '../engine/load.js';
import type { ScaleSettings } from './settings.js';

export interface LoopResult {
  readonly tasks: number;
  readonly elapsedMs: number;
  readonly cpuUs: number;
}

/**
 * @param around - measures something else over the same time
 */
export async function noopLoop(
  client: Pick<Client, 'submit' | 'close'>,
  settings: ScaleSettings,
  around: (work: () => Promise<LoopResult>) => Promise<LoopResult> = (work) => work(),
): Promise<LoopResult> {
  const inputs = [{ id: 0, text: '' }];
  const input = noopInput(settings.payloadBytes);
  const target = {
    async run(): Promise<unknown> {
      const handle = await client.submit(work, input);
      return handle.result();
    },
    close: () => client.close(),
  };
  let result: LoopResult | undefined;
  await closedLoop(target, inputs, settings, async (measure) => {
    let whole: Awaited<ReturnType<typeof measure>> | undefined;
    result = await around(async () => {
      whole = await measure();
      return whole;
    });
    return whole!;
  });
  return result!;
}

export function noopInput(payloadBytes: number): LoadInput {
  return { n: 0, cpuUs: 0, ioMs: 0, pad: 'x'.repeat(payloadBytes) };
}
