/**
 * `npm run loadtest -- [scenario] [options]`: `millrace loadtest` of this checkout, as it is compiled.
 *
 * The ablation is about etcd over TLS. Without `--store` and MILLRACE_STORE it gets a server of its own for as long as it
 * runs: one node on loopback, which syncs for real.
 */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { at, fail } from './lib/project.mjs';

const main = at('dist/src/cli/main.js');
if (!existsSync(main)) fail('the command is not compiled; run: npm run build');

const args = process.argv.slice(2);
const hasStore =
  Boolean(process.env.MILLRACE_STORE) || args.some((arg) => /^--store(=|$)/.test(arg));
const wantsServer = args.includes('ablation') && !hasStore && !args.includes('--help');
const server = wantsServer ? await startServer() : undefined;

const child = spawn(process.execPath, [main, 'loadtest', ...args, ...(server?.words ?? [])], {
  stdio: 'inherit',
});
// The terminal's signals reach the command too, which ends by them in its own way.
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => {});
const [code] = await once(child, 'exit');
await server?.close();
process.exit(code ?? 1);

async function startServer() {
  const { EtcdCluster } = await import(at('dist/test/support/etcd/index.js'));
  const cluster = await EtcdCluster.start({ tls: {} }).catch((error) =>
    fail(`${error.message}; give --store etcd://host:2379/<namespace>`),
  );
  const hosts = cluster.endpoints.map((endpoint) => endpoint.replace(/^https?:\/\//, ''));
  const { authority } = cluster.tls;
  return {
    words: ['--store', `etcd://${hosts.join(',')}/ablation`, '--etcd-ca', authority.ca],
    close: () => cluster.close(),
  };
}
