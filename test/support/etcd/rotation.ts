/** Certificates that change under load: of the server in one step, of the client file by file, as tools do either. */
import assert from 'node:assert/strict';
import { copyFile, mkdir, rename, symlink } from 'node:fs/promises';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { put } from '../../conformance/store/harness.js';
import { EtcdCluster, type EtcdTls, type KeyPair } from './index.js';
import { freshNamespace, openEtcd } from './store.js';

const ROTATE_EVERY_MS = 2_000;
const LANES = 8;

/**
 * Writes and reads all the time while the certificates of both sides change every 2 s.
 *
 * @param forMs - how long
 * @throws AssertionError for the first request that fails, and when nothing moves after a rotation
 */
export async function rotateUnderLoad(t: TestContext, forMs: number): Promise<void> {
  let folder = '';
  const etcd = await EtcdCluster.start({
    tls: {
      requiresClient: true,
      server: async (authority) => {
        folder = path.dirname(authority.ca);
        return switchTo(folder, await authority.issue({ name: 'server' }));
      },
    },
  });
  t.after(() => etcd.close());
  const { authority, client } = etcd.tls as EtcdTls;
  const store = await openEtcd(t, {
    endpoints: etcd.endpoints,
    namespace: freshNamespace(),
    tls: { ca: authority.ca, ...client },
  });
  let requests = 0;
  let isOver = false;
  const load = Array.from({ length: LANES }, async (_, lane) => {
    for (let index = 1; !isOver; index++) {
      const outcome = await store.txn({ compares: [], success: [put(`k/${lane}`, `${index}`)] });
      if (outcome.kind === 'unknown') throw outcome.cause;
      assert.equal((await store.get(`k/${lane}`))?.version, index);
      requests += 2;
    }
  });
  const rotating = (async () => {
    for (let rotation = 0; rotation < forMs / ROTATE_EVERY_MS; rotation++) {
      const before = requests;
      await copyOver(client, await authority.issue({ name: `client-${rotation}` }));
      await switchTo(folder, await authority.issue({ name: `server-${rotation}` }));
      // Time has to pass here: how often certificates change is what is tested.
      await new Promise((resolve) => setTimeout(resolve, ROTATE_EVERY_MS));
      assert.ok(requests > before, `nothing moved after rotation ${rotation}`);
    }
  })().finally(() => {
    isOver = true;
  });
  await Promise.all([rotating, ...load]);
  t.diagnostic(`${requests} requests`);
}

/**
 * Makes a link to the pair's folder take the place of the last one. etcd reads two files for each handshake, and a
 * certificate with the key of another fails it.
 */
async function switchTo(folder: string, pair: KeyPair): Promise<KeyPair> {
  const [link, next] = [path.join(folder, 'current'), `${pair.cert}.next`];
  const place = `${pair.cert}.d`;
  await mkdir(place);
  await copyFile(pair.cert, path.join(place, 'cert.pem'));
  await copyFile(pair.key, path.join(place, 'key.pem'));
  await symlink(place, next);
  await rename(next, link);
  return { cert: path.join(link, 'cert.pem'), key: path.join(link, 'key.pem') };
}

async function copyOver(old: KeyPair, fresh: KeyPair): Promise<void> {
  for (const part of ['cert', 'key'] as const) {
    await copyFile(fresh[part], `${old[part]}.new`);
    await rename(`${old[part]}.new`, old[part]);
  }
}
