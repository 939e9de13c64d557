/**
 * The token of an etcd user, for servers with `auth enable`.
 *
 * One request fetches it for everybody who waits. Whoever is told that it is stale hands it back, and the next one
 * to ask fetches another; handing back one that has been replaced already does nothing.
 */
import { type Message, Reader, Writer } from './protobuf.js';
import { CallFailure } from './transport.js';

const METHOD = '/etcdserverpb.Auth/Authenticate';

export interface AuthOptions {
  readonly user: string;
  readonly password: string;
}

/** `''` is the token of a server where nobody has to log in. */
export class Tokens {
  readonly #request: () => Message;
  readonly #call: (method: string, request: Message) => Promise<Uint8Array>;
  #token: string | undefined;
  #fetching: Promise<string> | undefined;

  /** @param call - a call without a token */
  constructor(auth: AuthOptions, call: (method: string, request: Message) => Promise<Uint8Array>) {
    this.#call = call;
    this.#request = () => {
      const writer = new Writer(256);
      writer.utf8(2, auth.password);
      writer.utf8(1, auth.user);
      return writer.finish();
    };
  }

  /** The token, when there is one already. */
  get current(): string | undefined {
    return this.#token;
  }

  /** @throws CallFailure */
  get(): Promise<string> {
    if (this.#token !== undefined) return Promise.resolve(this.#token);
    this.#fetching ??= this.#fetch().finally(() => {
      this.#fetching = undefined;
    });
    return this.#fetching;
  }

  handBack(token: string): void {
    if (this.#token === token) this.#token = undefined;
  }

  async #fetch(): Promise<string> {
    try {
      this.#token = tokenOf(await this.#call(METHOD, this.#request()));
    } catch (thrown) {
      const isOff =
        thrown instanceof CallFailure &&
        thrown.isFromServer &&
        thrown.message.includes('authentication is not enabled');
      if (!isOff) throw thrown;
      this.#token = '';
    }
    return this.#token;
  }
}

// AuthenticateResponse: 1 header, 2 token
function tokenOf(body: Uint8Array): string {
  const reader = new Reader(body);
  let token = '';
  for (let tag = reader.tag(reader.length); tag !== 0; tag = reader.tag(reader.length)) {
    if (tag === 0x12) token = reader.utf8();
    else reader.skip(tag);
  }
  return token;
}
