// By what a door is known, and whether one speaks TLS at all: every one that other machines can reach does, with the certificate
// that follows from the token or, where RAYLITE_TLS_CERT and RAYLITE_TLS_KEY name files, with one of the user's own.
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { type ConnectionOptions, checkServerIdentity, type PeerCertificate } from 'node:tls';
import { ConfigError } from '../../common/index.js';
import { certificateOf, NAME } from './certificate.js';

export interface TlsIdentity {
  /** PEM. */
  readonly cert: string;
  readonly key: string;
  /** PEM of who vouches for the certificates of doors. */
  readonly ca: string;
  /** The user's own: doors are known by name or address, not by being the same. */
  readonly isOwn: boolean;
  readonly minVersion: 'TLSv1.2' | 'TLSv1.3';
}

export const isLoopback = (host: string): boolean =>
  host === 'localhost' || host === '[::1]' || host === '::1' || host.startsWith('127.');

/** The host of "host:port" or "[host]:port". */
export const hostOf = (address: string): string => address.slice(0, address.lastIndexOf(':')).replace(/^\[|\]$/g, '');

let made: { readonly token: string; readonly identity: TlsIdentity } | null = null; // making it again gives the same

/** What a door at `host` of the cluster with this token speaks TLS with; null when it does not. Throws {@link ConfigError}. */
export function tlsOf(host: string, token: string): TlsIdentity | null {
  const mode = process.env.RAYLITE_TLS ?? '';
  if (!['', '0', '1'].includes(mode)) throw new ConfigError('RAYLITE_TLS', '0 or 1', mode);
  if (mode === '0') return null;
  const own = ownIdentity();
  if (own) return own;
  if (mode === '' && isLoopback(host)) return null;
  if (made?.token !== token) {
    const { cert, key } = certificateOf(token);
    made = { token, identity: { cert, key, ca: cert, isOwn: false, minVersion: 'TLSv1.3' } };
  }
  return made.identity;
}

function ownIdentity(): TlsIdentity | null {
  const { RAYLITE_TLS_CERT: cert = '', RAYLITE_TLS_KEY: key = '', RAYLITE_TLS_CA: ca = '' } = process.env;
  if (cert === '' && key === '') return null;
  if (cert === '' || key === '')
    throw new ConfigError(
      cert === '' ? 'RAYLITE_TLS_CERT' : 'RAYLITE_TLS_KEY',
      'a file beside that of the other',
      '',
      'A certificate of your own needs both (--tls-cert and --tls-key)',
    );
  const text = readPem('RAYLITE_TLS_CERT', cert);
  return {
    cert: text,
    key: readPem('RAYLITE_TLS_KEY', key),
    ca: ca === '' ? text : readPem('RAYLITE_TLS_CA', ca),
    isOwn: true,
    minVersion: 'TLSv1.2',
  };
}

function readPem(name: string, path: string): string {
  try {
    const text = readFileSync(path, 'utf8');
    if (text.includes('-----BEGIN ')) return text;
  } catch (cause) {
    throw new ConfigError(name, 'a file that can be read', path, undefined, { cause });
  }
  throw new ConfigError(name, 'a PEM file', path);
}

/** How a client connects to a door of `host`: it accepts the cluster's certificate alone, or one of the user's for that host. */
export function clientOptions(
  host: string,
  tls: TlsIdentity,
): Required<Pick<ConnectionOptions, 'ca' | 'checkServerIdentity' | 'minVersion'>> & { readonly servername: string } {
  const own = new X509Certificate(tls.cert).raw;
  return {
    ca: tls.ca,
    minVersion: tls.minVersion,
    servername: NAME,
    checkServerIdentity: (_name: string, shown: PeerCertificate) => {
      if (tls.isOwn) return checkServerIdentity(host, shown);
      return own.equals(shown.raw) ? undefined : new Error('it is not the certificate of this cluster');
    },
  };
}

/** What a failed handshake means to a user; null when `reason` is not about one. */
export function explainHandshake(reason: string): string | null {
  if (/wrong version number|packet length too long|http request/i.test(reason))
    return 'what answers there does not speak TLS. Was that cluster started with RAYLITE_TLS=0? Then set it here too';
  if (!/certificate|unable to verify|altnames/i.test(reason)) return null;
  return process.env.RAYLITE_TLS_CERT
    ? `the certificate there is not to be trusted (${reason}). Give the authority of the cluster's certificates as RAYLITE_TLS_CA`
    : 'the cluster token is wrong. Give the token of this cluster: the one in the join command that "raylite start --head" printed (the certificate there does not belong to the token given)';
}
