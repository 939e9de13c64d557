/**
 * `millrace doctor`: looks at this machine and at the store, and says what is wrong and what to do about it. It changes nothing.
 */

import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { existsSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { StoreControl } from '../admin/store-control.js';
import { ALL_HEARTBEATS, heartbeatOf } from '../coordination/heartbeats.js';
import type { ChannelPayloads } from '../core/channels.js';
import { isMillraceError } from '../core/errors.js';
import { packageVersion } from '../package-version.js';
import type { StoreFactory } from '../store/index.js';
import { systemClock } from '../timing/system-clock.js';
import { type Arguments, ExitCode } from './command.js';
import {
  clockSkew,
  directory,
  environment,
  etcdEndpoints,
  etcdVersions,
  eventLoop,
  type Finding,
  fail,
  fileDescriptors,
  nodes,
  nodeVersion,
  ok,
  quota,
  roundTrip,
} from './doctor-checks.js';
import { openReading } from './store-access.js';
import { storeOf } from './store-option.js';

type ServerFacts = ChannelPayloads['millrace:store:server'];

/** A server that answers at all says its version within this time. */
const SERVERS_MS = 500;

export async function run(args: Arguments): Promise<ExitCode> {
  const findings: Finding[] = [
    ok('millrace', `version ${packageVersion()}`),
    nodeVersion(process.versions.node),
    await nativeCore(),
    ...fileDescriptors(limitsText()),
    ...environment(process.env),
    await eventLoop(),
  ];
  let isStoreWell = true;
  try {
    findings.push(...(await storeFindings(args)));
  } catch (error) {
    if (!isMillraceError(error) || error.kind === 'usage') throw error;
    isStoreWell = false;
    findings.push(fail('store', error.message));
  }
  const worst = levelOf(findings);
  if (args.options.has('json')) {
    process.stdout.write(`${JSON.stringify({ level: worst, findings })}\n`);
  } else process.stdout.write(textOf(findings));
  if (!isStoreWell) return ExitCode.STORE;
  return worst === 'fail' ? ExitCode.FAILED : ExitCode.DONE;
}

async function storeFindings(args: Arguments): Promise<Finding[]> {
  const factory = storeOf(args);
  if (factory.kind === 'etcd') return etcdFindings(factory, args.options.has('etcd-ca'));
  const access = await openReading(args);
  try {
    const startedAtMs = performance.now();
    const overview = await access.control.overview();
    return [
      ok('store', access.location),
      roundTrip(performance.now() - startedAtMs),
      ...directory(factory.location),
      ...nodes(overview),
    ];
  } finally {
    await access.close();
  }
}

async function etcdFindings(factory: StoreFactory, isTls: boolean): Promise<Finding[]> {
  const servers = new Map<string, ServerFacts>();
  const onServer = (facts: unknown): void => {
    const { endpoint } = facts as ServerFacts;
    servers.set(endpoint, facts as ServerFacts);
  };
  subscribe('millrace:store:server', onServer);
  try {
    const store = await factory.open({ clock: systemClock });
    try {
      await store.range(ALL_HEARTBEATS, { limit: 1 });
      const startedAtMs = performance.now();
      const beats = (await store.range(ALL_HEARTBEATS)).entries.map(heartbeatOf);
      const elapsedMs = performance.now() - startedAtMs;
      const nowMs = systemClock.wallMs();
      const usage = await store.usage?.();
      const overview = await new StoreControl(store, () => nowMs).overview();
      await delay(SERVERS_MS);
      const [, hosts = ''] = /^etcd:\/\/([^/]*)/.exec(factory.location) ?? [];
      return [
        ok('store', factory.location),
        ...etcdVersions([...servers.values()]),
        ...etcdEndpoints(hosts.split(','), isTls),
        roundTrip(elapsedMs),
        ...(usage === undefined ? [] : [quota(usage)]),
        ...clockSkew(beats, nowMs),
        ...nodes(overview),
      ];
    } finally {
      await store.close();
    }
  } finally {
    unsubscribe('millrace:store:server', onServer);
  }
}

async function nativeCore(): Promise<Finding> {
  try {
    const { TimerQueue } = await import('../timing/index.js');
    new TimerQueue().close();
    return ok('native core', `${process.platform}-${process.arch}`);
  } catch (error) {
    return fail('native core', error instanceof Error ? error.message : String(error));
  }
}

function limitsText(): string | undefined {
  const file = '/proc/self/limits';
  return existsSync(file) ? readFileSync(file, 'utf8') : undefined;
}

function levelOf(findings: readonly Finding[]): Finding['level'] {
  const has = (level: Finding['level']): boolean => findings.some((one) => one.level === level);
  return has('fail') ? 'fail' : has('warn') ? 'warn' : 'ok';
}

function textOf(findings: readonly Finding[]): string {
  const width = Math.max(...findings.map(({ check }) => check.length));
  return findings
    .map(({ check, level, message }) => `${level.padEnd(4)}  ${check.padEnd(width)}  ${message}\n`)
    .join('');
}
