// HTTP to the head's door as the parts of a cluster use it: by TLS where the door can be reached from other machines. (The
// door takes plain HTTP too, for browsers.) As `fetch`, whose certificate check cannot be told which one is ours.
import { request } from 'node:https';
import { clientOptions, explainHandshake, tlsOf } from './identity.js';

export interface FetchInit {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array;
}

/** What a failed request says in words that a user can act on, where there are such. */
export class HandshakeError extends Error {}

/** Rejects as `fetch` does; with {@link HandshakeError} when the door is not this cluster's. */
export async function clusterFetch(url: string, token: string, init: FetchInit = {}): Promise<Response> {
  const headers = { ...init.headers, authorization: `Bearer ${token}` };
  const { hostname, port, pathname, search, host } = new URL(url);
  const tls = tlsOf(hostname, token);
  if (!tls) return fetch(url, { ...init, headers } as RequestInit);
  return new Promise((resolve, reject) => {
    const sent = request({
      host: hostname.replace(/^\[|\]$/g, ''),
      port,
      path: `${pathname}${search}`,
      method: init.method ?? 'GET',
      headers: { ...headers, host },
      agent: false,
      ...clientOptions(hostname.replace(/^\[|\]$/g, ''), tls),
    });
    sent.on('error', (cause) => {
      const words = explainHandshake(cause.message);
      reject(words ? new HandshakeError(words, { cause }) : new TypeError('fetch failed', { cause }));
    });
    sent.on('response', (answer) => {
      const chunks: Buffer[] = [];
      answer.on('data', (chunk: Buffer) => chunks.push(chunk));
      answer.on('error', reject);
      answer.on('end', () => {
        const status = answer.statusCode ?? 0;
        const body = status === 204 || status === 304 ? null : Buffer.concat(chunks);
        resolve(new Response(body, { status, headers: textHeaders(answer.headers) }));
      });
    });
    sent.end(init.body);
  });
}

const textHeaders = (headers: NodeJS.Dict<string | string[]>): Record<string, string> =>
  Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)]));
