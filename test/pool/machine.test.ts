import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Machine, type MachineSource, realMachine, usableCpus } from '../../src/pool/machine.js';

const GB = 1_024 ** 3;

/** A machine of 8 CPUs and 32 GB, half of both in use, with these files. */
function setup(files: Record<string, string>) {
  const state = { nowMs: 0, busyMs: 0, freeBytes: 16 * GB };
  const source: MachineSource = {
    read: (path) => files[path],
    monoMs: () => state.nowMs,
    cpuTimes: () => ({ busyMs: state.busyMs, totalMs: state.nowMs * 8 }),
    cpuCount: 8,
    freeBytes: () => state.freeBytes,
    totalBytes: 32 * GB,
  };
  const machine = new Machine(source);
  const after = (ms: number, busyMs: number) => {
    state.nowMs += ms;
    state.busyMs += busyMs;
    return machine.load();
  };
  return { files, state, after, source };
}

describe('Machine', () => {
  it('without limits is the whole machine', () => {
    const { after } = setup({});
    assert.deepEqual(after(1_000, 4_000), { cpu: 0.5, memory: 0.5, freeBytes: 16 * GB });
    assert.equal(after(1_000, 8_000).cpu, 1);
    assert.equal(after(0, 0).cpu, 0);
  });

  it('cgroup v2: its limits, and what of them is in use', () => {
    const { files, after } = setup({
      '/proc/self/cgroup': '0::/app.slice/it\n',
      '/sys/fs/cgroup/app.slice/it/cpu.max': '200000 100000\n',
      '/sys/fs/cgroup/app.slice/it/cpu.stat': 'usage_usec 5000000\nuser_usec 1\n',
      '/sys/fs/cgroup/app.slice/it/memory.max': `${2 * GB}\n`,
      '/sys/fs/cgroup/app.slice/it/memory.current': `${1.5 * GB}\n`,
      '/sys/fs/cgroup/app.slice/it/memory.stat': `anon 1\ninactive_file ${0.5 * GB}\n`,
    });
    files['/sys/fs/cgroup/app.slice/it/cpu.stat'] = 'usage_usec 6500000\n';
    assert.deepEqual(after(1_000, 8_000), { cpu: 0.75, memory: 0.5, freeBytes: 1 * GB });
    assert.equal(after(1_000, 0).cpu, 0);
  });

  it('in a container, where its own group is mounted at the root', () => {
    const { after } = setup({
      '/proc/self/cgroup': '0::/docker/4711\n',
      '/sys/fs/cgroup/cpu.max': 'max 100000\n',
      '/sys/fs/cgroup/memory.max': `${4 * GB}\n`,
      '/sys/fs/cgroup/memory.current': `${3 * GB}\n`,
    });
    assert.deepEqual(after(1_000, 2_000), { cpu: 0.25, memory: 0.75, freeBytes: 1 * GB });
  });

  it('cgroup v1', () => {
    const { files, after } = setup({
      '/proc/self/cgroup': '4:memory:/pod\n2:cpu,cpuacct:/pod\n',
      '/sys/fs/cgroup/cpu,cpuacct/pod/cpu.cfs_quota_us': '50000\n',
      '/sys/fs/cgroup/cpu,cpuacct/pod/cpu.cfs_period_us': '100000\n',
      '/sys/fs/cgroup/cpu,cpuacct/pod/cpuacct.usage': '1000000000\n',
      '/sys/fs/cgroup/memory/pod/memory.limit_in_bytes': `${1 * GB}\n`,
      '/sys/fs/cgroup/memory/pod/memory.usage_in_bytes': `${1 * GB}\n`,
      '/sys/fs/cgroup/memory/pod/memory.stat': `inactive_file 7\ntotal_inactive_file ${0.25 * GB}\n`,
    });
    files['/sys/fs/cgroup/cpu,cpuacct/pod/cpuacct.usage'] = '1250000000\n';
    assert.deepEqual(after(1_000, 0), { cpu: 0.5, memory: 0.75, freeBytes: 0.25 * GB });
  });

  it('takes a limit above the machine, or none, as none', () => {
    const { after } = setup({
      '/proc/self/cgroup': '4:memory:/\n2:cpu:/\n0::/\n',
      '/sys/fs/cgroup/memory/memory.limit_in_bytes': '9223372036854771712\n',
      '/sys/fs/cgroup/cpu/cpu.cfs_quota_us': '-1\n',
      '/sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000\n',
      '/sys/fs/cgroup/memory.max': 'max\n',
    });
    assert.deepEqual(after(1_000, 4_000), { cpu: 0.5, memory: 0.5, freeBytes: 16 * GB });
  });

  it('never has more free than the machine', () => {
    const { state, after } = setup({
      '/proc/self/cgroup': '0::/\n',
      '/sys/fs/cgroup/memory.max': `${8 * GB}\n`,
      '/sys/fs/cgroup/memory.current': `${1 * GB}\n`,
    });
    state.freeBytes = 2 * GB;
    assert.equal(after(1_000, 0).freeBytes, 2 * GB);
  });

  it('knows how many threads can run at once', () => {
    const cpus = (quota: string): number =>
      usableCpus(
        setup({ '/proc/self/cgroup': '0::/\n', '/sys/fs/cgroup/cpu.max': `${quota} 100000\n` })
          .source,
      );
    assert.deepEqual(['max', '50000', '100000', '250000', '6400000'].map(cpus), [8, 1, 1, 3, 8]);
    assert.ok(usableCpus() >= 1);
  });

  it('reads the real one', () => {
    const load = new Machine(realMachine).load();
    for (const share of [load.cpu, load.memory]) assert.ok(share >= 0 && share <= 1);
    assert.ok(load.memory > 0 && load.freeBytes > 0);
  });
});
