// Who may use the HTTP door. Everybody must show the cluster token, on every route and method, on loopback too: as a
// bearer token, or as the cookie that /login gave. Host and Origin are checked against a list of what is ours, so that
// neither a rebound name nor another site's page can speak for the user.
import { createHmac } from 'node:crypto';
import { networkInterfaces } from 'node:os';
import { bearerToken, isSameToken } from '../../protocol/index.js';

/** The parts of a request that decide. */
export interface RequestFacts {
  readonly method: string;
  readonly host: string | undefined;
  readonly origin: string | undefined;
  readonly secFetchSite: string | undefined;
  readonly authorization: string | undefined;
  readonly cookie: string | undefined;
}

export type Verdict =
  | { readonly kind: 'allowed' }
  | { readonly kind: 'refused'; readonly status: 400 | 401 | 403; readonly message: string };

export interface GuardOptions {
  readonly token: string;
  readonly port: number;
  readonly hosts: ReadonlySet<string>; // "name:port"
}

const refuse = (status: 400 | 401 | 403, message: string): Verdict => ({ kind: 'refused', status, message });
const allowed: Verdict = { kind: 'allowed' };

/** The names under which this server may be addressed, with its port. */
export function ownHosts(bound: string, port: number): ReadonlySet<string> {
  const names = new Set(['127.0.0.1', 'localhost', '[::1]', bracket(bound)]);
  if (bound === '0.0.0.0' || bound === '::') {
    for (const addresses of Object.values(networkInterfaces())) {
      for (const { address } of addresses ?? []) names.add(bracket(address));
    }
  }
  return new Set([...names].map((name) => `${name}:${port}`));
}

const bracket = (host: string): string => (host.includes(':') && !host.startsWith('[') ? `[${host}]` : host);

/** The cookie's name carries the port: browsers share cookies between ports of a host. */
export const cookieName = (port: number): string => `raylite_${port}`;

/** What the cookie holds: proof of having known the token, not the token. */
export const cookieValue = (token: string): string =>
  createHmac('sha256', token).update('raylite page').digest('base64url');

/** Host, Origin and Sec-Fetch-Site alone, as /login needs it before there is a cookie. */
export function checkPlace(facts: RequestFacts, options: Pick<GuardOptions, 'hosts'>): Verdict {
  if (facts.host === undefined || !options.hosts.has(facts.host.toLowerCase())) {
    return refuse(403, `this server is not ${JSON.stringify(facts.host ?? '')}; use the address it was started with`);
  }
  const ours = facts.host.toLowerCase();
  if (facts.origin !== undefined && facts.origin !== `http://${ours}` && facts.origin !== `https://${ours}`) {
    return refuse(403, 'requests from pages of other sites are refused');
  }
  return allowed;
}

/** Whether a request may pass. */
export function check(facts: RequestFacts, options: GuardOptions): Verdict {
  const place = checkPlace(facts, options);
  if (place.kind === 'refused') return place;
  if (facts.secFetchSite !== undefined && facts.secFetchSite !== 'same-origin' && facts.secFetchSite !== 'none') {
    return refuse(403, 'requests from pages of other sites are refused');
  }
  if (facts.authorization !== undefined) {
    const token = bearerToken(facts.authorization);
    if (token === null) return refuse(401, 'authorization must be "Bearer <cluster token>"');
    return isSameToken(token, options.token) ? allowed : refuse(403, 'the cluster token is wrong');
  }
  const cookie = readCookie(facts.cookie, cookieName(options.port));
  if (cookie === null) return refuse(401, 'no cluster token was given');
  if (!isSameToken(cookie, cookieValue(options.token))) return refuse(403, 'the page was opened with another token');
  // A cookie travels by itself: what changes something must come from our own page.
  if (facts.method !== 'GET' && facts.method !== 'HEAD' && facts.origin === undefined) {
    return refuse(403, 'changes from a page must name their origin');
  }
  return allowed;
}

function readCookie(header: string | undefined, name: string): string | null {
  for (const part of header?.split(';') ?? []) {
    const at = part.indexOf('=');
    if (part.slice(0, at).trim() === name) return part.slice(at + 1).trim();
  }
  return null;
}
