/** Levers and a cluster that write down what is asked of them. */
import type { HealGate } from '../../src/core/heal-gate.js';
import type { Levers } from '../../src/core/levers.js';

/** What degrading pulls, and what recovering pulls. */
export const DEGRADED: readonly string[] = ['shed 0', 'ahead false', 'linger 50'];
export const RECOVERED: readonly string[] = ['shed undefined', 'ahead true', 'linger 0'];

export interface FakePorts {
  readonly levers: Levers;
  readonly gate: HealGate;
  /** What was pulled, in order. */
  readonly pulled: string[];
  /** That run here. */
  readonly types: ReadonlySet<string>;
  /** Another node is healing. */
  isBusy: boolean;
  /** The store does not answer. */
  isSilent: boolean;
}

export function fakePorts(): FakePorts {
  const said = new Set<string>();
  const pulled: string[] = [];
  const ports: FakePorts = {
    pulled,
    types: new Set(['mail', 'x']),
    isBusy: false,
    isSilent: false,
    levers: {
      runsType: (type) => ports.types.has(type),
      limitType: (type, atMost) => void pulled.push(`limit ${type} ${atMost}`),
      shedBelow: (priority) => void pulled.push(`shed ${priority}`),
      allowClaimsAhead: (isAllowed) => void pulled.push(`ahead ${isAllowed}`),
      lingerCommits: (lingerMs) => void pulled.push(`linger ${lingerMs}`),
      replaceThreads: async (count, threadId) =>
        void pulled.push(`replace ${count}${threadId === undefined ? '' : ` ${threadId}`}`),
      running: 0,
      holdStarts: (isHeld) => void pulled.push(`hold ${isHeld}`),
      inspectThreads: (forMs) => void pulled.push(`inspect ${forMs}`),
      captureDiagnostics: async () => {
        pulled.push('capture');
        return '/tmp/report.json';
      },
      exit: async (code) => void pulled.push(`exit ${code}`),
    },
    gate: {
      async exclusive(_, act) {
        if (ports.isBusy) return false;
        await act();
        return true;
      },
      async once(key) {
        if (ports.isSilent) throw new Error('silent');
        const isFirst = !said.has(key);
        said.add(key);
        return isFirst;
      },
    },
  };
  return ports;
}
