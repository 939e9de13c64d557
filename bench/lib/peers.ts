/**
 * Packages that benches compare with, and the project does not depend on.
 *
 *   bench/.peers/<name>@<version>/   package.json, node_modules, entry.mjs: a folder for each, so none meets another's dependencies
 *
 * The process that counts the rounds installs what its contenders need before the first round (`Contender.peers`), in
 * exact versions; measuring processes only import. A peer that is not there, because there is no network, makes its
 * contender unavailable and nothing else. Install scripts run, since some peers have native parts.
 *
 * A folder is filled under another name and renamed when it is whole, so a half-installed peer is never imported.
 */
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { type Peer, Unavailable } from './bench.js';
import { ROOT } from './places.js';

const PEERS = join(ROOT, 'bench/.peers');
const INSTALL_MS_MAX = 180_000;
const run = promisify(execFile);

/**
 * Installs what is missing. Never rejects: what could not be installed is said, and missing later.
 *
 * @param say - told a line per package that is installed or could not be
 */
export async function installPeers(
  peers: readonly Peer[],
  say: (line: string) => void,
): Promise<void> {
  for (const peer of peers) {
    if (existsSync(entryOf(peer))) continue;
    try {
      await install(peer);
      say(`installed ${peer.name} ${peer.version}`);
    } catch (error) {
      say(`could not install ${peer.name} ${peer.version}: ${firstLine(error)}`);
    }
  }
}

/**
 * What a peer, or a package beside it, exports: the namespace, with `default` as one of its members.
 *
 * @param name - of a package beside the peer
 * @throws Unavailable when it is not installed
 */
export async function importPeer<Namespace>(
  peer: Peer,
  name: string = peer.name,
): Promise<Namespace> {
  const entry = entryOf(peer, name);
  if (!existsSync(entry)) {
    throw new Unavailable(
      `${name} is not installed; a bench does that with npm at its start, which needs a network`,
    );
  }
  const module = (await import(pathToFileURL(entry).href)) as { default: Namespace };
  return module.default;
}

async function install(peer: Peer): Promise<void> {
  mkdirSync(PEERS, { recursive: true });
  const folder = mkdtempSync(join(PEERS, 'new-'));
  try {
    const dependencies = { [peer.name]: peer.version, ...peer.beside };
    writeFileSync(join(folder, 'package.json'), JSON.stringify({ private: true, dependencies }));
    await run(
      'npm',
      ['install', '--no-audit', '--no-fund', '--no-package-lock', '--loglevel=error'],
      {
        cwd: folder,
        timeout: INSTALL_MS_MAX,
      },
    );
    for (const name of Object.keys(dependencies)) {
      // The package's own `exports` decide what an import from within its folder means.
      const code = `import * as module from '${name}';\nexport default module;\n`;
      writeFileSync(join(folder, entryName(name)), code);
    }
    // Another bench may have been faster; its folder is as good.
    if (!existsSync(folderOf(peer))) renameSync(folder, folderOf(peer));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function folderOf({ name, version }: Peer): string {
  return join(PEERS, `${flat(name)}@${version}`);
}

function entryOf(peer: Peer, name: string = peer.name): string {
  return join(folderOf(peer), entryName(name));
}

function entryName(name: string): string {
  return `${flat(name)}.entry.mjs`;
}

/** A scope is no folder here. */
function flat(name: string): string {
  return name.replace('/', '+');
}

function firstLine(error: unknown): string {
  const { stderr, message } = error as { stderr?: string; message?: string };
  return (stderr?.trim() || message || String(error)).split('\n')[0] ?? '';
}
