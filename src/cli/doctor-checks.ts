/**
 * What `millrace doctor` looks at, each as a small function that finds something or nothing.
 *
 * A finding is `fail` when millrace cannot work so, `warn` when it will hurt somebody some day, `ok` when it was looked at and is
 * fine. Each says the datum, the limit and the way out.
 */
import { readFileSync, statfsSync, statSync } from 'node:fs';
import { availableParallelism, totalmem } from 'node:os';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { getHeapStatistics } from 'node:v8';
import type { Overview } from '../admin/control.js';
import { count, bytes as inBytes } from './units.js';

export interface Finding {
  /** What was looked at, in a word or two. */
  readonly check: string;
  readonly level: 'ok' | 'warn' | 'fail';
  readonly message: string;
}

const NODE_OLDEST = [20, 19] as const;
const FDS_WANTED = 4_096;
const LOOP_LOOK_MS = 1_000;
const LOOP_P99_MS_MAX = 50;
const SKEW_MS_MAX = 500;
const ROUND_TRIP_MS_MAX = 50;
const FREE_SHARE_MIN = 0.1;
const QUOTA_SHARE_MAX = 0.6;
/** File systems of other machines, by the numbers of statfs(2): locks and syncs there are not those of a disk. */
const REMOTE_FILE_SYSTEMS: ReadonlyMap<number, string> = new Map([
  [0x6969, 'NFS'],
  [0xff534d42, 'CIFS'],
  [0xfe534d42, 'SMB2'],
  [0x01021997, '9p'],
]);
const TMPFS = 0x01021994;

export function ok(check: string, message: string): Finding {
  return { check, level: 'ok', message };
}

function warn(check: string, message: string): Finding {
  return { check, level: 'warn', message };
}

export function fail(check: string, message: string): Finding {
  return { check, level: 'fail', message };
}

/** @param version - as `process.versions.node` */
export function nodeVersion(version: string): Finding {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const [oldest, oldestMinor] = NODE_OLDEST;
  const isOld = major < oldest || (major === oldest && minor < oldestMinor);
  const text = `Node.js ${version}`;
  if (isOld) return fail('node', `${text} is older than ${NODE_OLDEST.join('.')}; upgrade it`);
  return ok('node', text);
}

/** @param limits - text of /proc/self/limits; undefined where there is none */
export function fileDescriptors(limits: string | undefined): Finding[] {
  const soft = /^Max open files\s+(\d+|unlimited)/m.exec(limits ?? '')?.[1];
  if (soft === undefined) return [];
  const max = soft === 'unlimited' ? Number.POSITIVE_INFINITY : Number(soft);
  if (max >= FDS_WANTED) return [ok('open files', `limit ${soft}`)];
  return [
    warn(
      'open files',
      `the limit of ${count(max)} is below ${count(FDS_WANTED)}: threads, sockets and logs share it; raise it (ulimit -n, LimitNOFILE=)`,
    ),
  ];
}

/** How late timers of this process are: a machine without time to spare shows here. */
export async function eventLoop(): Promise<Finding> {
  const histogram = monitorEventLoopDelay({ resolution: 10 });
  histogram.enable();
  await delay(LOOP_LOOK_MS);
  histogram.disable();
  // What it measures includes its own resolution.
  const p99Ms = Math.max(0, histogram.percentile(99) / 1e6 - 10);
  const text = `p99 of ${p99Ms.toFixed(1)} ms over ${LOOP_LOOK_MS / 1_000} s in this process`;
  if (p99Ms <= LOOP_P99_MS_MAX) return ok('event loop', text);
  return warn(
    'event loop',
    `${text} is above ${LOOP_P99_MS_MAX} ms: the machine has no time to spare; leases and timers will be late`,
  );
}

/** @param environment - as `process.env` */
export function environment(environment: Readonly<Record<string, string | undefined>>): Finding[] {
  const findings: Finding[] = [];
  if (environment.MILLRACE_HEALING === 'off') {
    findings.push(
      warn('healing', 'MILLRACE_HEALING=off: nothing heals by itself; unset it when you are done'),
    );
  }
  const [cores, memory] = [availableParallelism(), totalmem()];
  findings.push(ok('machine', `${cores} cores, ${inBytes(memory)} of memory`));
  const heap = getHeapStatistics().heap_size_limit;
  const bound = cgroupBytes();
  if (bound !== undefined && heap > bound) {
    findings.push(
      warn(
        'memory',
        `the JavaScript heap may grow to ${inBytes(heap)}, and the container allows ${inBytes(bound)}: it is killed before it collects; set --max-old-space-size to about half of that`,
      ),
    );
  }
  return findings;
}

/** A store's directory. @param directory - exists */
export function directory(directory: string): Finding[] {
  const findings: Finding[] = [];
  const { type, bavail, bsize, blocks } = statfsSync(directory);
  const remote = REMOTE_FILE_SYSTEMS.get(type);
  if (remote !== undefined) {
    findings.push(
      fail(
        'directory',
        `${directory} is on ${remote}: what is synced there may not be safe, and locks may lie; use a local disk`,
      ),
    );
  }
  if (type === TMPFS) {
    findings.push(
      warn(
        'directory',
        `${directory} is in memory (tmpfs): nothing there survives a restart of the machine; use a disk`,
      ),
    );
  }
  const free = bavail * bsize;
  const share = blocks === 0 ? 1 : bavail / blocks;
  findings.push(
    share < FREE_SHARE_MIN
      ? warn(
          'disk',
          `${inBytes(free)} are free, which is less than a tenth: a full disk refuses tasks; make room`,
        )
      : ok('disk', `${inBytes(free)} free`),
  );
  const mode = statSync(directory).mode & 0o077;
  if (mode !== 0) {
    findings.push(
      warn(
        'permissions',
        `${directory} is open to others (mode ${(statSync(directory).mode & 0o777).toString(8)}): inputs and results can be read there; chmod 700`,
      ),
    );
  }
  return findings;
}

/** @param servers - what each said of itself */
export function etcdVersions(
  servers: readonly {
    readonly endpoint: string;
    readonly version: string;
    readonly bugs: readonly string[];
  }[],
): Finding[] {
  return servers.map(({ endpoint, version, bugs }) =>
    bugs.length === 0
      ? ok(
          'etcd',
          `${endpoint} has version ${version}, of which no bug is known that concerns millrace`,
        )
      : warn('etcd', `${endpoint} has version ${version}: ${bugs.join('; ')}; upgrade it`),
  );
}

/** @param endpoints - `host:port` */
export function etcdEndpoints(endpoints: readonly string[], isTls: boolean): Finding[] {
  const findings: Finding[] = [];
  if (endpoints.length === 1) {
    findings.push(
      warn(
        'endpoints',
        'one endpoint is given: while it is down, a process that starts finds nobody; name all members',
      ),
    );
  }
  const isNear = endpoints.every((endpoint) => /^(localhost|127\.|\[?::1)/.test(endpoint));
  if (!isTls && !isNear) {
    findings.push(
      warn('tls', 'inputs and results cross the network as they are; give --etcd-ca for TLS'),
    );
  }
  return findings;
}

export function roundTrip(ms: number): Finding {
  const text = `a read takes ${ms.toFixed(1)} ms`;
  if (ms <= ROUND_TRIP_MS_MAX) return ok('store', text);
  return warn(
    'store',
    `${text}, more than ${ROUND_TRIP_MS_MAX} ms: every task waits for a commit at least that long; bring the store nearer`,
  );
}

/** @param usage - bytes in use and the quota */
export function quota(usage: { readonly bytes: number; readonly bytesMax: number }): Finding {
  const share = usage.bytes / usage.bytesMax;
  const text = `${inBytes(usage.bytes)} of ${inBytes(usage.bytesMax)} are in use`;
  if (share < QUOTA_SHARE_MAX) return ok('quota', text);
  return warn(
    'quota',
    `${text}: submits slow down from 60 % on and are refused from 80 % on; raise --quota-backend-bytes, or shorten retention`,
  );
}

/**
 * Clocks of the nodes against ours, by their heartbeats: one is written at most `everyMs` before it is read.
 *
 * @param beats - of the nodes, read just now
 */
export function clockSkew(
  beats: readonly {
    readonly node: string;
    readonly atMs: number;
    readonly everyMs: number | undefined;
  }[],
  nowMs: number,
): Finding[] {
  return beats.map(({ node, atMs, everyMs = 5_000 }) => {
    const agoMs = nowMs - atMs;
    const skewMs = agoMs < 0 ? -agoMs : Math.max(0, agoMs - everyMs);
    if (skewMs <= SKEW_MS_MAX) return ok('clock', `node ${node} agrees with this machine`);
    const way = agoMs < 0 ? 'ahead of' : 'behind';
    return warn(
      'clock',
      `the clock of node ${node} is about ${Math.round(skewMs)} ms ${way} this machine's: delays and cron are off by that; run NTP on both`,
    );
  });
}

export function nodes({ nodes: all, deadLetters, self }: Overview): Finding[] {
  const findings: Finding[] = [];
  const running = all.filter(({ queues }) => queues.length > 0);
  findings.push(
    running.length === 0
      ? warn('nodes', 'no process is there that runs tasks')
      : ok('nodes', `${running.length} that run tasks`),
  );
  for (const reason of self?.reasons ?? []) findings.push(fail('health', reason));
  if (deadLetters > 0) {
    findings.push(
      warn(
        'dead letters',
        `${count(deadLetters)} tasks failed for good: millrace ls --state failed`,
      ),
    );
  }
  return findings;
}

function cgroupBytes(): number | undefined {
  try {
    const text = readFileSync('/sys/fs/cgroup/memory.max', 'utf8').trim();
    return text === 'max' ? undefined : Number(text);
  } catch {
    return undefined;
  }
}
