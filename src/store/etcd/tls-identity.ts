/**
 * Who we are and whom we trust: certificate authority, client certificate and key, with what makes a reconnect cheap.
 *
 * Building a secure context costs milliseconds, so one is built per set of certificates. A session ticket of the last
 * connection saves the server's signature on the next (1.5 ms instead of 3-5 of CPU); a resumed session keeps the
 * identity of the handshake it comes from and is not verified again, so tickets are kept per host, name **and**
 * fingerprint of the certificates: after a rotation nothing is resumed.
 *
 * Files are looked at every other second; when one has changed, all three are read and must fit together (a key that
 * does not belong to its certificate is a file half-way through a rotation), else the old set stays and the next look
 * decides. Links that are switched as a whole, as Kubernetes does for secrets, are seen like any other change.
 */
import { createHash } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { createSecureContext, type SecureContext } from 'node:tls';
import type { Clock, WakeUp } from '../../core/clock.js';
import { MillraceError } from '../../core/errors.js';

const LOOK_MS = 2_000;
/** Tickets kept; a cluster has few members. */
const TICKETS_MAX = 64;

/** Each file is a path, read again when it changes, or the PEM itself as bytes. */
export interface TlsOptions {
  /** Authorities that may have signed the server's certificate. @defaultValue those of Node */
  readonly ca?: string | Uint8Array;
  /** Our certificate, for servers with `--client-cert-auth`; together with `key`. */
  readonly cert?: string | Uint8Array;
  readonly key?: string | Uint8Array;
  /** The name the server's certificate must have. @defaultValue the host of the endpoint */
  readonly serverName?: string;
}

/** One consistent set of certificates. */
export interface TlsMaterial {
  readonly context: SecureContext;
  readonly fingerprint: string;
}

type Part = 'ca' | 'cert' | 'key';
const PARTS: readonly Part[] = ['ca', 'cert', 'key'];

export class TlsIdentity {
  readonly serverName: string | undefined;
  readonly #options: TlsOptions;
  readonly #keepsSessions: boolean;
  readonly #tickets = new Map<string, Buffer>();
  #material: TlsMaterial;
  #stamp: string;
  #look: WakeUp | undefined;

  /**
   * Reads the files, at once.
   *
   * @param keepsSessions - false: each connection builds its own context and does a whole handshake
   * @throws ERR_MILLRACE_INVALID_OPTION for files that cannot be read or do not fit together
   */
  constructor(options: TlsOptions, keepsSessions = true) {
    this.#options = options;
    this.#keepsSessions = keepsSessions;
    this.serverName = options.serverName;
    if ((options.cert === undefined) !== (options.key === undefined)) {
      throw new MillraceError(
        'ERR_MILLRACE_INVALID_OPTION',
        'tls has one of cert and key; give both, or neither',
      );
    }
    try {
      this.#stamp = this.#paths()
        .map((path) => stampOf(statSync(path)))
        .join();
      this.#material = materialOf(PARTS.map((part) => readSync(options[part])));
    } catch (cause) {
      throw unusable(cause);
    }
  }

  /** What the next handshake uses. */
  material(): TlsMaterial {
    if (this.#keepsSessions) return this.#material;
    return materialOf(PARTS.map((part) => readSync(this.#options[part])));
  }

  ticket(host: string): Buffer | undefined {
    return this.#keepsSessions ? this.#tickets.get(this.#ticketKey(host)) : undefined;
  }

  /** @param material - what the session was made with, which may no longer be the newest */
  keepTicket(host: string, material: TlsMaterial, ticket: Buffer): void {
    if (!this.#keepsSessions || material.fingerprint !== this.#material.fingerprint) return;
    if (this.#tickets.size >= TICKETS_MAX) this.#tickets.clear();
    this.#tickets.set(this.#ticketKey(host), ticket);
  }

  dropTicket(host: string): void {
    this.#tickets.delete(this.#ticketKey(host));
  }

  /**
   * Looks for new files until `stopWatching()`.
   *
   * @param onChange - called after a new set has taken effect
   */
  watchFiles(clock: Clock, onChange: () => void): void {
    if (this.#paths().length === 0) return;
    const again = (): void => {
      this.#look = clock.wakeIn(LOOK_MS, () => {
        void this.#reload().then((hasChanged) => {
          if (this.#look === undefined) return;
          again();
          if (hasChanged) onChange();
        });
      });
    };
    again();
  }

  stopWatching(): void {
    this.#look?.cancel();
    this.#look = undefined;
  }

  async #reload(): Promise<boolean> {
    try {
      const stamp = (await Promise.all(this.#paths().map((path) => stat(path))))
        .map(stampOf)
        .join();
      if (stamp === this.#stamp) return false;
      const parts = await Promise.all(PARTS.map((part) => read(this.#options[part])));
      const material = materialOf(parts);
      this.#stamp = stamp;
      if (material.fingerprint === this.#material.fingerprint) return false;
      this.#material = material;
      this.#tickets.clear();
      return true;
    } catch {
      // Half-way through a rotation, or gone for the moment: the set in use stays good.
      return false;
    }
  }

  #paths(): string[] {
    return PARTS.map((part) => this.#options[part]).filter((source) => typeof source === 'string');
  }

  #ticketKey(host: string): string {
    return `${host}|${this.serverName ?? ''}|${this.#material.fingerprint}`;
  }
}

function materialOf(parts: readonly (Buffer | undefined)[]): TlsMaterial {
  const [ca, cert, key] = parts;
  const hash = createHash('sha256');
  for (const part of parts) hash.update(`${part?.length ?? 'none'}:`).update(part ?? '');
  const context = createSecureContext({
    minVersion: 'TLSv1.2',
    ...(ca && { ca }),
    ...(cert && { cert }),
    ...(key && { key }),
  });
  return { context, fingerprint: hash.digest('hex') };
}

function readSync(source: string | Uint8Array | undefined): Buffer | undefined {
  if (source === undefined) return undefined;
  return typeof source === 'string' ? readFileSync(source) : Buffer.from(source);
}

async function read(source: string | Uint8Array | undefined): Promise<Buffer | undefined> {
  if (source === undefined) return undefined;
  return typeof source === 'string' ? readFile(source) : Buffer.from(source);
}

function stampOf(file: { mtimeMs: number; size: number; ino: number }): string {
  return `${file.mtimeMs}/${file.size}/${file.ino}`;
}

function unusable(cause: unknown): MillraceError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new MillraceError(
    'ERR_MILLRACE_INVALID_OPTION',
    `tls certificates cannot be used: ${why}; give ca, cert and key as paths of PEM files, or as their bytes`,
    { cause },
  );
}
