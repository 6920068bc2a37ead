// The head's HTTP API as the verbs use it: finds the cluster, shows the token, turns answers and failures into types.
import type { Command } from 'commander';
import type { ClientOptions } from 'ws';
import { ConfigError, ConnectionError, DEFAULT_HTTP_PORT, RayliteError } from '../common/index.js';
import { adoptCurrent, readToken, sessionRoot } from '../launch/index.js';
import { clientOptions, clusterFetch, type FetchInit, HandshakeError, tlsOf } from '../protocol/tls/index.js';

/** Flags of every verb that talks to a cluster. */
export interface ClusterOptions {
  readonly address?: string;
  readonly tokenFile?: string;
}

/** The head understood the request and refused it; the message is its own. */
export class RefusedError extends RayliteError {
  readonly code = 'RAYLITE_REFUSED';
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export const withCluster = (command: Command): Command =>
  command
    .option(
      '--address <url>',
      'the cluster: http://HOST:PORT of its page (default: the one started here, or $RAYLITE_ADDRESS)',
    )
    .option('--token-file <path>', 'file with the cluster token (also $RAYLITE_TOKEN)');

export class ClusterApi {
  readonly url: string;
  readonly #token: string;

  private constructor(url: string, token: string) {
    this.url = url;
    this.#token = token;
  }

  /** The cluster that the flags, the environment or current.json name, in this order. */
  static find(options: ClusterOptions): ClusterApi {
    const current = adoptCurrent(sessionRoot());
    const named = options.address ?? process.env.RAYLITE_ADDRESS;
    if (!named && !current?.httpUrl) {
      throw new ConnectionError({
        address: 'no cluster',
        detail:
          'none was started on this machine. Start one with "raylite start --head", or name one with --address http://HOST:8265',
      });
    }
    const url = named && named !== current?.headAddress ? urlOf(named) : current!.httpUrl;
    const token =
      options.tokenFile !== undefined
        ? readToken(options.tokenFile)
        : process.env.RAYLITE_TOKEN || (current?.httpUrl === url ? readToken(current.tokenFile) : '');
    if (token === '') {
      throw new ConfigError(
        '--token-file',
        `the token of ${url}`,
        undefined,
        'Give --token-file PATH or set RAYLITE_TOKEN',
      );
    }
    return new ClusterApi(url, token);
  }

  get token(): string {
    return this.#token;
  }
  /** What a WebSocket to `path` is opened with. */
  socket(path: string): { readonly url: string; readonly options: ClientOptions } {
    const { hostname } = new URL(this.url);
    const tls = tlsOf(hostname, this.#token);
    const headers = { authorization: `Bearer ${this.#token}` };
    return {
      url: `${this.url.replace(/^https?/, tls ? 'wss' : 'ws')}${path}`,
      options: { headers, ...(tls ? clientOptions(hostname.replace(/^\[|\]$/g, ''), tls) : {}) } as ClientOptions,
    };
  }

  get<T>(path: string): Promise<T> {
    return this.#json<T>(path, { method: 'GET' });
  }
  post<T>(path: string, body: unknown): Promise<T> {
    const headers = { 'content-type': 'application/json' };
    return this.#json<T>(path, { method: 'POST', body: JSON.stringify(body), headers });
  }

  async #json<T>(path: string, init: FetchInit): Promise<T> {
    const response = await this.#send(path, init);
    const text = await response.text();
    if (response.ok) return JSON.parse(text) as T;
    if (response.status === 401 || response.status === 403) throw this.#wrongToken();
    throw new RefusedError(response.status, messageOf(text) ?? `the head answered ${response.status}`);
  }

  async #send(path: string, init: FetchInit): Promise<Response> {
    try {
      return await clusterFetch(`${this.url}${path}`, this.#token, init);
    } catch (cause) {
      if (cause instanceof HandshakeError)
        throw new ConnectionError({ address: this.url, detail: cause.message }, { cause });
      const code = (cause as { cause?: { code?: string } }).cause?.code;
      const detail = `nothing answers there (${code ?? 'no connection'}). Is the cluster running? "raylite start --head" starts it, or starts its head again`;
      throw new ConnectionError({ address: this.url, detail }, { cause });
    }
  }

  #wrongToken(): ConnectionError {
    const detail =
      'the cluster refused the token. Give its own with --token-file or RAYLITE_TOKEN ("raylite start --head" printed it)';
    return new ConnectionError({ address: this.url, detail });
  }
}

/** "http://host:port", "host:port" or "host" as a URL of the head's HTTP door. */
function urlOf(address: string): string {
  const text = /^https?:\/\//.test(address) ? address : `http://${address}`;
  let url: URL;
  try {
    url = new URL(text);
  } catch (cause) {
    throw new ConfigError('--address', 'a URL such as http://10.0.0.1:8265', address, undefined, { cause });
  }
  return `${url.protocol}//${url.hostname}:${url.port || DEFAULT_HTTP_PORT}`;
}

function messageOf(text: string): string | null {
  try {
    const { error } = JSON.parse(text) as { error?: unknown };
    return typeof error === 'string' ? error : null;
  } catch {
    return null;
  }
}
