/** Where a member of the cluster is reached, as a user or the member list writes it. */
import { invalidOption } from '../../core/options.js';

export interface Endpoint {
  readonly host: string;
  readonly port: number;
  readonly isTls: boolean;
  /** `host:port`: the identity of an endpoint, and the `:authority` of its requests. */
  readonly authority: string;
}

const DEFAULT_PORT = 2_379;
/** A scheme, a name as long as DNS has them, and a port. */
const TEXT_CHARS_MAX = 300;

/**
 * @param text - `host`, `host:port`, `http://host:port` or `https://host:port`; IPv6 addresses in brackets
 * @param isTls - what a text without a scheme means
 * @throws ERR_MILLRACE_INVALID_OPTION for anything else
 */
export function parseEndpoint(text: string, isTls: boolean): Endpoint {
  const wanted = "'host:2379', 'http://host:2379' or 'https://host:2379'";
  if (typeof text !== 'string' || text.length > TEXT_CHARS_MAX) {
    throw invalidOption('endpoint', text, wanted);
  }
  const hasScheme = /^https?:\/\//.test(text);
  let url: URL;
  try {
    url = new URL(hasScheme ? text : `${isTls ? 'https' : 'http'}://${text}`);
  } catch {
    throw invalidOption('endpoint', text, wanted);
  }
  const isPlace =
    url.hostname !== '' && url.username === '' && url.search === '' && url.hash === '';
  if (!isPlace || (url.pathname !== '/' && url.pathname !== '')) {
    throw invalidOption('endpoint', text, wanted);
  }
  const secure = url.protocol === 'https:';
  // URL leaves the default port of the scheme out; someone who wrote :80 or :443 means it.
  const written = /:(\d+)\/?$/.exec(text)?.[1];
  const port = Number(url.port || written || DEFAULT_PORT);
  const host = url.hostname.replace(/^\[|\]$/g, '');
  return { host, port, isTls: secure, authority: `${url.hostname}:${port}` };
}
