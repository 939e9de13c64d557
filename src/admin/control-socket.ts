/**
 * ControlSocket: the JSON API of a runtime, on a unix socket in its store's directory.
 *
 *   <directory>/control.sock   0600: whoever may read the store's files may ask
 *
 * It is made under another name, given its mode, and then renamed: at no moment can somebody else connect. What a process
 * left behind that was killed is replaced by the rename; two processes never have one directory open (directory-lock.ts).
 */
import { randomBytes } from 'node:crypto';
import { chmodSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import { BaseService } from '../core/service.js';
import { SocketFolder } from '../store/embedded/socket-folder.js';
import { AdminServer } from './admin-server.js';
import type { Control } from './control.js';
import { controlRoutes } from './control-api.js';
import { CONTROL_SOCKET } from './control-socket-name.js';

export class ControlSocket extends BaseService {
  readonly #directory: string;
  readonly #hidden: string;
  readonly #folder: SocketFolder;
  readonly #server: AdminServer;
  #isNamed = false;

  /**
   * @param directory - the store's, which this process has open
   * @param parts.nowMs - monotonic
   */
  constructor(
    directory: string,
    control: Control,
    parts: { readonly version: string; readonly nowMs: () => number },
  ) {
    super();
    this.#directory = directory;
    this.#hidden = `.control-${process.pid}-${randomBytes(8).toString('hex')}`;
    this.#folder = new SocketFolder(directory);
    this.#server = new AdminServer(
      { path: this.#folder.path(this.#hidden) },
      controlRoutes(control, parts.version),
      parts.nowMs,
    );
  }

  /** @throws when no socket can be made there */
  protected async onStart(): Promise<void> {
    await this.#server.start();
    const hidden = path.join(this.#directory, this.#hidden);
    chmodSync(hidden, 0o600);
    renameSync(hidden, path.join(this.#directory, CONTROL_SOCKET));
    this.#isNamed = true;
  }

  protected async onStop(): Promise<void> {
    if (this.#isNamed) rmSync(path.join(this.#directory, CONTROL_SOCKET), { force: true });
    await this.#server.stop();
    this.#folder.close();
  }
}
