/**
 * CPU and memory of the process's surroundings: its cgroup where that has limits, else the machine.
 *
 *   cgroup v2   /proc/self/cgroup "0::/path"          cpu.max, cpu.stat (usage_usec); memory.max, memory.current, memory.stat
 *   cgroup v1   "4:memory:/path" "2:cpu,cpuacct:/..." cpu.cfs_quota_us / cpu.cfs_period_us, cpuacct.usage; memory.limit_in_bytes,
 *                                                     memory.usage_in_bytes, memory.stat
 *   neither     os.cpus(), os.freemem(), os.totalmem()
 *
 * In a container the path of /proc/self/cgroup is often that of the host while the folder is mounted at the root; so
 * both are tried. A limit above what the machine has is none. Of the memory in use, file pages that the kernel would
 * drop (inactive_file) do not count, as in what container runtimes show.
 *
 * Files are read synchronously, a handful of lines once a second: these are in memory.
 */
import { readFileSync } from 'node:fs';
import { availableParallelism, cpus, freemem, totalmem } from 'node:os';

export interface MachineLoad {
  /** Shares from 0 to 1; of CPU since the reading before. */
  readonly cpu: number;
  readonly memory: number;
  readonly freeBytes: number;
}

/** Where the readings come from; a test has its own. */
export interface MachineSource {
  /** A file's text, undefined when it cannot be read. */
  read(path: string): string | undefined;
  monoMs(): number;
  /** CPU time of the whole machine in ms since it started: in use, and in all. */
  cpuTimes(): { readonly busyMs: number; readonly totalMs: number };
  readonly cpuCount: number;
  freeBytes(): number;
  readonly totalBytes: number;
}

export const realMachine: MachineSource = {
  read(path) {
    try {
      return readFileSync(path, 'utf8');
    } catch {
      return undefined;
    }
  },
  monoMs: () => performance.now(),
  cpuTimes() {
    let busyMs = 0;
    let totalMs = 0;
    for (const { times } of cpus()) {
      const usedMs = times.user + times.nice + times.sys + times.irq;
      busyMs += usedMs;
      totalMs += usedMs + times.idle;
    }
    return { busyMs, totalMs };
  },
  get cpuCount() {
    return availableParallelism();
  },
  freeBytes: freemem,
  get totalBytes() {
    return totalmem();
  },
};

interface CpuGroup {
  /** How many CPUs' time it may use. */
  readonly cpuCount: number;
  usedMs(): number | undefined;
}

interface MemoryGroup {
  readonly limitBytes: number;
  usedBytes(): number | undefined;
}

const ROOT = '/sys/fs/cgroup';

export class Machine {
  readonly #source: MachineSource;
  readonly #cpu: CpuGroup | undefined;
  readonly #memory: MemoryGroup | undefined;
  #lastMs: number;
  #lastUsedMs = 0;
  #lastTotalMs = 0;

  /** Limits are looked up once. */
  constructor(source: MachineSource = realMachine) {
    this.#source = source;
    const folders = foldersOf(source.read('/proc/self/cgroup') ?? '');
    this.#cpu = cpuGroup(source, folders);
    this.#memory = memoryGroup(source, folders);
    this.#lastMs = source.monoMs();
    this.#cpuShare();
  }

  load(): MachineLoad {
    const cpu = this.#cpuShare();
    const usedBytes = this.#memory?.usedBytes();
    if (this.#memory !== undefined && usedBytes !== undefined) {
      const { limitBytes } = this.#memory;
      const freeBytes = Math.max(0, Math.min(limitBytes - usedBytes, this.#source.freeBytes()));
      return { cpu, memory: share(usedBytes, limitBytes), freeBytes };
    }
    const { totalBytes } = this.#source;
    const freeBytes = this.#source.freeBytes();
    return { cpu, memory: share(totalBytes - freeBytes, totalBytes), freeBytes };
  }

  #cpuShare(): number {
    const nowMs = this.#source.monoMs();
    const groupMs = this.#cpu?.usedMs();
    const { usedMs, totalMs } =
      this.#cpu !== undefined && groupMs !== undefined
        ? {
            usedMs: groupMs,
            totalMs: this.#lastTotalMs + (nowMs - this.#lastMs) * this.#cpu.cpuCount,
          }
        : machineMs(this.#source);
    const used = usedMs - this.#lastUsedMs;
    const total = totalMs - this.#lastTotalMs;
    this.#lastMs = nowMs;
    this.#lastUsedMs = usedMs;
    this.#lastTotalMs = totalMs;
    return share(used, total);
  }
}

/** How many threads can run at once: of the machine, its affinity mask, and the CPU limit of the cgroup, the least. */
export function usableCpus(source: MachineSource = realMachine): number {
  const limit = cpuGroup(source, foldersOf(source.read('/proc/self/cgroup') ?? ''))?.cpuCount;
  return limit === undefined ? source.cpuCount : Math.max(1, Math.ceil(limit));
}

function machineMs(source: MachineSource): { usedMs: number; totalMs: number } {
  const { busyMs, totalMs } = source.cpuTimes();
  return { usedMs: busyMs, totalMs };
}

function share(part: number, whole: number): number {
  return whole > 0 ? Math.min(1, Math.max(0, part / whole)) : 0;
}

interface Folders {
  readonly v2: readonly string[];
  readonly cpu: readonly string[];
  readonly memory: readonly string[];
}

/** Where to look, the most specific first. */
function foldersOf(selfCgroup: string): Folders {
  const paths = new Map<string, string>();
  for (const line of selfCgroup.split('\n')) {
    const [, controllers, path] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    if (controllers === undefined || path === undefined) continue;
    for (const controller of controllers.split(',')) paths.set(controller, path);
  }
  const under = (root: string, path: string | undefined): string[] =>
    path === undefined || path === '/' ? [root] : [`${root}${path}`, root];
  return {
    v2: [...under(ROOT, paths.get('')), `${ROOT}/unified`],
    cpu: [
      ...under(`${ROOT}/cpu,cpuacct`, paths.get('cpu')),
      ...under(`${ROOT}/cpu`, paths.get('cpu')),
    ],
    memory: under(`${ROOT}/memory`, paths.get('memory')),
  };
}

function cpuGroup(source: MachineSource, folders: Folders): CpuGroup | undefined {
  for (const folder of folders.v2) {
    const [quota, period] = (source.read(`${folder}/cpu.max`) ?? '').trim().split(' ');
    const cpuCount = Number(quota) / Number(period);
    if (cpuCount > 0 && cpuCount < source.cpuCount) {
      return {
        cpuCount,
        usedMs: () => scaled(field(source.read(`${folder}/cpu.stat`), 'usage_usec'), 1e-3),
      };
    }
  }
  for (const folder of folders.cpu) {
    const cpuCount =
      Number(source.read(`${folder}/cpu.cfs_quota_us`) ?? Number.NaN) /
      Number(source.read(`${folder}/cpu.cfs_period_us`) ?? Number.NaN);
    if (cpuCount > 0 && cpuCount < source.cpuCount) {
      const usage = [folder, folder.replace(`${ROOT}/cpu/`, `${ROOT}/cpuacct/`)];
      return {
        cpuCount,
        usedMs: () => {
          const text = usage.map((it) => source.read(`${it}/cpuacct.usage`)).find(Boolean);
          return scaled(number(text), 1e-6);
        },
      };
    }
  }
  return undefined;
}

function memoryGroup(source: MachineSource, folders: Folders): MemoryGroup | undefined {
  const places = [
    ...folders.v2.map((folder) => ({
      folder,
      limit: 'memory.max',
      current: 'memory.current',
      idle: 'inactive_file',
    })),
    ...folders.memory.map((folder) => ({
      folder,
      limit: 'memory.limit_in_bytes',
      current: 'memory.usage_in_bytes',
      idle: 'total_inactive_file',
    })),
  ];
  for (const { folder, limit, current, idle } of places) {
    const limitBytes = number(source.read(`${folder}/${limit}`)) ?? Number.POSITIVE_INFINITY;
    if (limitBytes >= source.totalBytes) continue;
    return {
      limitBytes,
      usedBytes() {
        const usedBytes = number(source.read(`${folder}/${current}`));
        const idleBytes = field(source.read(`${folder}/memory.stat`), idle) ?? 0;
        return usedBytes === undefined ? undefined : Math.max(0, usedBytes - idleBytes);
      },
    };
  }
  return undefined;
}

/** A whole number, or undefined for anything else, such as `max`. */
function number(text: string | undefined): number | undefined {
  return text !== undefined && /^\d+\s*$/.test(text) ? Number(text) : undefined;
}

/** `name value` out of lines of such. */
function field(text: string | undefined, name: string): number | undefined {
  const line = text?.split('\n').find((it) => it.startsWith(`${name} `));
  return number(line?.slice(name.length + 1));
}

function scaled(value: number | undefined, factor: number): number | undefined {
  return value === undefined ? undefined : value * factor;
}
