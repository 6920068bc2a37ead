// The certificate that all doors of a cluster share, made from its token: whoever has the token can make it, and knows it when
// a door shows it; nobody else can. So nothing has to be handed out, renewed or compared by eye.
//
// X.509 (RFC 5280) in DER, an Ed25519 key (RFC 8410); signatures of Ed25519 are a function of key and message, so that the
// certificate is the same bytes everywhere. Its dates are wide open: clocks of machines need not agree.
import { createPrivateKey, createPublicKey, hkdfSync, type KeyObject, scryptSync, sign } from 'node:crypto';

export interface Certificate {
  /** PEM. */
  readonly cert: string;
  readonly key: string;
}

const SEED_BYTES = 32;
const CONTEXT = 'raylite cluster certificate 1';
/** Of a token that a person may have chosen, each guess shall cost: 16 MiB and some 30 ms. */
const SCRYPT = { N: 2 ** 14, r: 8, p: 1 } as const;
/** 256 random bits, as "raylite start --head" and `init` make them: nobody guesses these. */
const RANDOM_TOKEN = /^[0-9a-f]{64}$/;

const PKCS8_ED25519 = Buffer.from('302e020100300506032b657004220420', 'hex');
const TAG = { integer: 0x02, bits: 0x03, octets: 0x04, oid: 0x06, utf8: 0x0c, time: 0x17, sequence: 0x30, set: 0x31 };

export function certificateOf(token: string): Certificate {
  const seed = RANDOM_TOKEN.test(token)
    ? Buffer.from(hkdfSync('sha256', token, '', CONTEXT, SEED_BYTES))
    : scryptSync(token, CONTEXT, SEED_BYTES, SCRYPT);
  const key = createPrivateKey({ key: Buffer.concat([PKCS8_ED25519, seed]), format: 'der', type: 'pkcs8' });
  return {
    cert: pem('CERTIFICATE', signed(key)),
    key: key.export({ format: 'pem', type: 'pkcs8' }) as string,
  };
}

function signed(key: KeyObject): Buffer {
  const publicKey = createPublicKey(key).export({ format: 'der', type: 'spki' });
  const algorithm = der(TAG.sequence, der(TAG.oid, Buffer.from('2b6570', 'hex'))); // 1.3.101.112, Ed25519
  const commonName = der(TAG.sequence, der(TAG.oid, Buffer.from('550403', 'hex')), der(TAG.utf8, Buffer.from(NAME)));
  const name = der(TAG.sequence, der(TAG.set, commonName));
  const dates = der(
    TAG.sequence,
    ...['000101000000Z', '491231235959Z'].map((date) => der(TAG.time, Buffer.from(date))),
  );
  const serial = Buffer.concat([Buffer.from([1]), publicKey.subarray(-8)]);
  const body = der(
    TAG.sequence,
    der(0xa0, der(TAG.integer, Buffer.from([2]))), // version 3
    der(TAG.integer, serial),
    algorithm,
    name, // issuer and subject are one
    dates,
    name,
    publicKey,
    der(0xa3, der(TAG.sequence, IS_AUTHORITY, ALTERNATIVE_NAME)),
  );
  const signature = Buffer.concat([Buffer.from([0]), sign(null, body, key)]);
  return der(TAG.sequence, body, algorithm, der(TAG.bits, signature));
}

/** By which clients call the door, whatever its address. */
export const NAME = 'raylite';

const extension = (oid: string, value: Buffer): Buffer =>
  der(TAG.sequence, der(TAG.oid, Buffer.from(oid, 'hex')), der(TAG.octets, value));
const IS_AUTHORITY = extension('551d13', der(TAG.sequence, Buffer.from('0101ff', 'hex'))); // it vouches for itself
const ALTERNATIVE_NAME = extension('551d11', der(TAG.sequence, der(0x82, Buffer.from(NAME))));

/** One value of DER: tag, length, content. */
function der(tag: number, ...content: readonly Buffer[]): Buffer {
  const body = Buffer.concat(content);
  const length = body.length < 0x80 ? [body.length] : [0x82, body.length >> 8, body.length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...length]), body]);
}

const pem = (label: string, bytes: Buffer): string =>
  `-----BEGIN ${label}-----\n${bytes.toString('base64').replace(/.{64}/g, '$&\n').trimEnd()}\n-----END ${label}-----\n`;
