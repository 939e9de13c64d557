/**
 * What a server says about itself and its cluster: its version, the size of its database, its members.
 *
 * Some versions have bugs that no client can make good; they are said once per server on the channel
 * `millrace:store:server`. Source of the list: etcd's changelogs, with the issue of each.
 */
import { type Message, Reader, Writer } from './protobuf.js';

export const STATUS_METHOD = '/etcdserverpb.Maintenance/Status';
export const MEMBER_LIST_METHOD = '/etcdserverpb.Cluster/MemberList';

export function emptyRequest(): Message {
  return new Writer(16).finish();
}

export interface ServerStatus {
  /** As in `3.5.16`. */
  readonly version: string;
  /** The file, with pages that are free. What the quota is compared with. */
  readonly databaseBytes: number;
  readonly databaseBytesInUse: number;
  /** From 3.6 on. */
  readonly quotaBytes: number | undefined;
}

// StatusResponse: 2 version, 3 dbSize, 9 dbSizeInUse, 12 dbSizeQuota
export function decodeStatus(body: Uint8Array): ServerStatus {
  const reader = new Reader(body);
  let [version, databaseBytes, databaseBytesInUse, quotaBytes] = ['', 0, 0, 0];
  for (let tag = reader.tag(reader.length); tag !== 0; tag = reader.tag(reader.length)) {
    if (tag === 0x12) version = reader.utf8();
    else if (tag === 0x18) databaseBytes = reader.int();
    else if (tag === 0x48) databaseBytesInUse = reader.int();
    else if (tag === 0x60) quotaBytes = reader.int();
    else reader.skip(tag);
  }
  return { version, databaseBytes, databaseBytesInUse, quotaBytes: quotaBytes || undefined };
}

// MemberListResponse: 2 members { 4 clientURLs, 5 isLearner }
/** The client URLs of all members that can be asked: learners answer reads of their own only. */
export function decodeMemberUrls(body: Uint8Array): string[] {
  const reader = new Reader(body);
  const urls: string[] = [];
  for (let tag = reader.tag(reader.length); tag !== 0; tag = reader.tag(reader.length)) {
    if (tag !== 0x12) {
      reader.skip(tag);
      continue;
    }
    const end = reader.open();
    const own: string[] = [];
    let isLearner = false;
    for (let inner = reader.tag(end); inner !== 0; inner = reader.tag(end)) {
      if (inner === 0x22) own.push(reader.utf8());
      else if (inner === 0x28) isLearner = reader.bool();
      else reader.skip(inner);
    }
    if (!isLearner) urls.push(...own);
  }
  return urls;
}

interface KnownBug {
  /** First fixed patch of each minor version; a minor that is not listed and above all of these is fine. */
  readonly fixedIn: Readonly<Record<string, number>>;
  /** When it came in; absent: it was always there. */
  readonly since?: Readonly<Record<string, number>>;
  readonly text: string;
}

const KNOWN_BUGS: readonly KnownBug[] = [
  {
    fixedIn: { '3.4': 31, '3.5': 13 },
    text: 'compaction may drop events of slow watches, and an old leader may revoke leases (etcd#17529, etcd#15247)',
  },
  {
    since: { '3.5': 16 },
    fixedIn: { '3.5': 19 },
    text: 'requests stall for seconds while it compacts (etcd#19406)',
  },
  {
    fixedIn: { '3.4': 38, '3.5': 23, '3.6': 5 },
    text: 'the renewal of a revoked lease may be answered as if it lived',
  },
  {
    fixedIn: { '3.4': 42, '3.5': 28, '3.6': 9 },
    text: 'linearizable reads may be stale after the server process was paused',
  },
  {
    fixedIn: { '3.5': 33, '3.6': 14, '3.7': 1 },
    text: 'with auth enabled, nested transactions and watches may get around permissions',
  },
];

/** Versions below are not tested with millrace. */
const OLDEST = [3, 4] as const;

/** What is known to be wrong with a version; empty for the newest, and for one that cannot be read. */
export function bugsOfVersion(version: string): string[] {
  const parts = /^(\d+)\.(\d+)\.(\d+)/.exec(version);
  if (parts === null) return [];
  const [major, minor, patch] = parts.slice(1).map(Number) as [number, number, number];
  if (major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1])) {
    return [
      `it is older than ${OLDEST.join('.')}, the oldest version that millrace is tested with`,
    ];
  }
  const line = `${major}.${minor}`;
  return KNOWN_BUGS.filter(({ since, fixedIn }) => {
    if (since !== undefined && !(line in since && patch >= since[line]!)) return false;
    const fixed = fixedIn[line];
    if (fixed !== undefined) return patch < fixed;
    // A line older than every fixed one never got the fix.
    return Object.keys(fixedIn).every((other) => isOlder(line, other));
  }).map(({ text }) => text);
}

function isOlder(line: string, than: string): boolean {
  const [a = 0, b = 0] = line.split('.').map(Number);
  const [c = 0, d = 0] = than.split('.').map(Number);
  return a < c || (a === c && b < d);
}

/** Whether "how far are you" is answered truthfully on a watch stream (etcd#15220). */
export function canAskProgress(version: string): boolean {
  const [major = 0, minor = 0, patch = 0] = version.split('.').map(Number);
  if (major !== 3) return major > 3;
  if (minor === 4) return patch >= 25;
  if (minor === 5) return patch >= 8;
  return minor > 5;
}
