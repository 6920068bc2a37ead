// Doors between machines: who has the token is let in by TLS, everybody else is told why not.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, test } from 'node:test';
import { connect as connectSecure } from 'node:tls';
import { ConfigError, ConnectionError } from '#src/common/index.js';
import { openGrpc, serveGrpc } from '#src/protocol/grpc/index.js';
import type { Channel } from '#src/protocol/index.js';
import { certificateOf, clientOptions, clusterFetch, secureDoor, tlsOf } from '#src/protocol/tls/index.js';
import { withoutOpenssl } from '../support/services.js';

const RANDOM = 'a'.repeat(63);
const settings = ['RAYLITE_TLS', 'RAYLITE_TLS_CERT', 'RAYLITE_TLS_KEY', 'RAYLITE_TLS_CA'] as const;
afterEach(() => {
  for (const name of settings) delete process.env[name];
});

describe('the certificate of a cluster', () => {
  test('follows from the token alone, chosen or random, and is valid for all clocks', () => {
    for (const token of ['a-token-that-somebody-chose', `${RANDOM}0`]) {
      const { cert, key } = certificateOf(token);
      assert.deepEqual(certificateOf(token), { cert, key });
      const parsed = new X509Certificate(cert);
      assert.ok(parsed.verify(parsed.publicKey), 'it vouches for itself');
      assert.equal(parsed.ca, true);
      assert.equal(parsed.subject, 'CN=raylite');
      assert.ok(
        new Date(parsed.validFrom).getUTCFullYear() === 2000 && new Date(parsed.validTo).getUTCFullYear() === 2049,
      );
    }
    assert.notEqual(certificateOf(`${RANDOM}0`).cert, certificateOf(`${RANDOM}1`).cert);
    assert.notEqual(certificateOf('a-token-that-somebody-chose').key, certificateOf('a-token-that-somebody-chosE').key);
  });

  test('is used where other machines can come, unless RAYLITE_TLS says otherwise', () => {
    assert.equal(tlsOf('127.0.0.1', 'token'), null);
    assert.equal(tlsOf('localhost', 'token'), null);
    assert.ok(tlsOf('10.0.0.1', 'token') && tlsOf('0.0.0.0', 'token'));
    process.env.RAYLITE_TLS = '1';
    assert.ok(tlsOf('127.0.0.1', 'token'));
    process.env.RAYLITE_TLS = '0';
    assert.equal(tlsOf('10.0.0.1', 'token'), null);
    process.env.RAYLITE_TLS = 'yes';
    assert.throws(() => tlsOf('10.0.0.1', 'token'), ConfigError);
  });

  test('of the user: a key without a certificate, or no PEM, is refused by name', () => {
    process.env.RAYLITE_TLS_KEY = '/nowhere/key.pem';
    assert.throws(() => tlsOf('10.0.0.1', 'token'), /RAYLITE_TLS_CERT/);
    process.env.RAYLITE_TLS_CERT = '/nowhere/cert.pem';
    assert.throws(() => tlsOf('10.0.0.1', 'token'), /RAYLITE_TLS_CERT: expected a file that can be read/);
    process.env.RAYLITE_TLS_CERT = '/proc/self/status';
    assert.throws(() => tlsOf('10.0.0.1', 'token'), /expected a PEM file/);
  });
});

/** How a stream to a door ends, which is opened with `token` while RAYLITE_TLS is `client`. */
async function refusalOf(at: { readonly server: string; readonly client: string }, token: string): Promise<string> {
  process.env.RAYLITE_TLS = at.server;
  let seen = 0;
  const door = await serveGrpc(
    { host: '127.0.0.1', port: 0, token: 'the-right-token-of-all' },
    { 'Head.Client': () => (seen += 1) },
  );
  process.env.RAYLITE_TLS = at.client;
  try {
    const channel: Channel = openGrpc('Head.Client', `127.0.0.1:${door.port}`, token);
    const { error } = await new Promise<{ error: Error | null }>((resolve) => channel.onClose(resolve));
    assert.ok(error instanceof ConnectionError, String(error));
    assert.equal(seen, 0, 'nobody saw the stream');
    return error.message;
  } finally {
    await door[Symbol.asyncDispose]();
  }
}

describe('a stream that does not belong to the cluster', () => {
  test('ends for the client with another token, which it does not even show', async () => {
    const message = await refusalOf({ server: '1', client: '1' }, 'another-token-than-the-one');
    assert.match(
      message,
      /the cluster token is wrong\. Give the token of this cluster.*certificate there does not belong/,
    );
  });
  test('is told that TLS is wanted when it comes without', async () => {
    const message = await refusalOf({ server: '1', client: '0' }, 'the-right-token-of-all');
    assert.match(message, /this cluster takes TLS connections only.*RAYLITE_TLS=1/);
  });
  test('is told that there is no TLS when it comes with it', async () => {
    const message = await refusalOf({ server: '0', client: '1' }, 'the-right-token-of-all');
    assert.match(message, /does not speak TLS.*RAYLITE_TLS=0|nothing answers there/);
  });
});

test('a secure door tells who speaks TLS by the first byte, and serves both what belongs to them', async () => {
  const tls = tlsOf('10.0.0.1', 'token')!;
  const enter = secureDoor(tls, {
    secure: (socket) => socket.end('secure'),
    plain: (socket) => socket.end('plain'),
  });
  const server = createServer(enter);
  await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready));
  const { port } = server.address() as { port: number };
  const readAll = async (socket: AsyncIterable<Buffer>): Promise<string> => {
    let text = '';
    for await (const chunk of socket) text += chunk;
    return text;
  };
  const plain = connect(port, '127.0.0.1');
  plain.write('GET / HTTP/1.0\r\n\r\n');
  assert.equal(await readAll(plain), 'plain');
  assert.equal(await readAll(connectSecure({ port, host: '127.0.0.1', ...clientOptions('127.0.0.1', tls) })), 'secure');
  await new Promise((closed) => server.close(closed));
});

test('certificates of the user are checked by the address that was asked for', { skip: withoutOpenssl() }, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'rl-tls-'));
  const make = (name: string, address: string): void => {
    const subject = ['-subj', `/CN=${name}`, '-addext', `subjectAltName=IP:${address}`];
    const files = ['-keyout', join(folder, `${name}.key`), '-out', join(folder, `${name}.pem`)];
    execFileSync(
      'openssl',
      ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', ...subject, ...files],
      {
        stdio: 'ignore',
      },
    );
  };
  try {
    make('here', '127.0.0.1');
    make('elsewhere', '10.9.9.9');
    for (const [name, expected] of [
      ['here', /^hello$/],
      ['elsewhere', /certificate there is not to be trusted.*10\.9\.9\.9/],
    ] as const) {
      process.env.RAYLITE_TLS_CERT = join(folder, `${name}.pem`);
      process.env.RAYLITE_TLS_KEY = join(folder, `${name}.key`);
      const heard: string[] = [];
      const door = await serveGrpc(
        { host: '127.0.0.1', port: 0, token: 'token' },
        { 'Head.Client': (channel) => channel.receive((frame) => channel.send(frame)) },
      );
      const channel = openGrpc('Head.Client', `127.0.0.1:${door.port}`, 'token');
      channel.send(Buffer.from('hello'));
      await new Promise<void>((resolve) => {
        channel.receive((frame) => {
          heard.push(Buffer.from(frame).toString());
          resolve();
        });
        channel.onClose(({ error }) => {
          heard.push(error?.message ?? '');
          resolve();
        });
      });
      assert.match(heard[0]!, expected);
      channel.close('done');
      await door[Symbol.asyncDispose]();
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('HTTP within a cluster stops at a door with another certificate, before the token is sent', async () => {
  process.env.RAYLITE_TLS = '1';
  let heard = '';
  const enter = secureDoor(tlsOf('127.0.0.1', 'the-token-of-somebody-else')!, {
    secure: (socket) => socket.on('data', (bytes: Buffer) => (heard += bytes)),
    plain: (socket) => socket.destroy(),
  });
  const server = createServer(enter);
  await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready));
  const { port } = server.address() as { port: number };
  await assert.rejects(
    clusterFetch(`http://127.0.0.1:${port}/api/nodes`, 'token-of-mine'),
    /the cluster token is wrong/,
  );
  await new Promise((closed) => server.close(closed));
  assert.equal(heard, '');
});
