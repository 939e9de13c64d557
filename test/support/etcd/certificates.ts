/** Certificates for a test: an authority, servers and clients, and some that must be refused. Made with openssl. */
import { execFile } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** PEM files. */
export interface KeyPair {
  readonly cert: string;
  readonly key: string;
}

export interface CertificateOptions {
  /** The common name, which is the user name for a client of etcd. */
  readonly name: string;
  /** What it is valid for. @defaultValue `['DNS:localhost', 'IP:127.0.0.1']` */
  readonly subjects?: readonly string[];
  /** Validity in days from now on; negative: over since so long. @defaultValue 2 */
  readonly days?: number;
  readonly algorithm?: KeyAlgorithm;
}

export type KeyAlgorithm = 'ecdsa' | 'rsa';

/** A certificate authority in a folder of its own. */
export class CertificateAuthority {
  /** The PEM file to trust. */
  readonly ca: string;
  readonly #folder: string;
  #issued = 0;

  private constructor(folder: string) {
    this.#folder = folder;
    this.ca = path.join(folder, 'ca.pem');
  }

  static async create(folder: string, name = 'millrace test CA'): Promise<CertificateAuthority> {
    await mkdir(folder, { recursive: true });
    const authority = new CertificateAuthority(folder);
    const { key } = await authority.#request('ca', { name });
    await openssl(
      ...['req', '-x509', '-new', '-key', key, '-subj', `/CN=${name}`, '-days', '2'],
      ...['-addext', 'keyUsage=critical,keyCertSign,cRLSign', '-out', authority.ca],
    );
    return authority;
  }

  /** A certificate for servers and clients alike, signed by this authority. */
  async issue(options: CertificateOptions): Promise<KeyPair> {
    const id = `${++this.#issued}-${options.name}`;
    const { request, key } = await this.#request(id, options);
    const subjects = options.subjects ?? ['DNS:localhost', 'IP:127.0.0.1'];
    const extensions = path.join(this.#folder, `${id}.ext`);
    await writeFile(
      extensions,
      `subjectAltName=${subjects.join(',')}\nextendedKeyUsage=serverAuth,clientAuth\n`,
    );
    const cert = path.join(this.#folder, `${id}.pem`);
    await openssl(
      ...['x509', '-req', '-in', request, '-CA', this.ca],
      ...[
        '-CAkey',
        path.join(this.#folder, 'ca.key'),
        '-set_serial',
        `${Date.now()}${this.#issued}`,
      ],
      ...['-days', `${options.days ?? 2}`, '-extfile', extensions, '-out', cert],
    );
    return { cert, key };
  }

  async #request(
    id: string,
    { name, algorithm = 'ecdsa' }: CertificateOptions,
  ): Promise<{ request: string; key: string }> {
    const key = path.join(this.#folder, `${id}.key`);
    const request = path.join(this.#folder, `${id}.csr`);
    const kind =
      algorithm === 'rsa'
        ? ['-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048']
        : ['-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256'];
    await openssl('genpkey', ...kind, '-out', key);
    await openssl('req', '-new', '-key', key, '-subj', `/CN=${name}`, '-out', request);
    return { request, key };
  }
}

async function openssl(...args: string[]): Promise<void> {
  await run('openssl', args);
}
