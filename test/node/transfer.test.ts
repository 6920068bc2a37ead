// Objects between two arenas over TCP: whole, checked, and only with the token.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { test } from 'node:test';
import { ConnectionError, type ObjectId, ObjectLostError } from '#src/common/index.js';
import { type NativeArena, native } from '#src/native/index.js';
import { type PullOptions, pullObject } from '#src/node/pull-object.js';
import { TransferServer } from '#src/node/transfer.js';

const BYTES = 16 * 1024 * 1024;
const arena = () =>
  native().createArena({
    path: `/dev/shm/raylite-test-${randomBytes(6).toString('hex')}`,
    bytes: BYTES,
  });

const into = (to: NativeArena, offset = 0): PullOptions => ({
  token: 'secret',
  door: '',
  arena: to,
  allocate: async () => ({ offset }),
  arrived: () => {},
});

test('an object arrives as it was, from arena to arena; a wrong id or token does not', async () => {
  const from = arena();
  const to = arena();
  const content = randomBytes(9 * 1024 * 1024 + 13);
  from.write(4096, [content]);
  const memory = new Uint8Array(from.readable(4096, content.length, () => {}));
  let closed = 0;
  const object = {
    size: content.length,
    read: async (at: number, length: number) => memory.subarray(at, at + length),
    close: () => {
      closed += 1;
    },
  };
  const source = { open: (id: string) => (id === 'd-1' ? object : null), freed: () => {} };
  const server = await TransferServer.listen('127.0.0.1', 'secret', source);
  try {
    const location = { transfer: `127.0.0.1:${server.port}` };
    const got = await pullObject(location, 'd-1' as ObjectId, into(to, 8192));
    assert.deepEqual(got, { offset: 8192, size: content.length });
    assert.ok(Buffer.from(to.readable(8192, content.length, () => {})).equals(content));
    assert.equal(closed, 1);
    await assert.rejects(pullObject(location, 'd-2' as ObjectId, into(to)), ObjectLostError);
    await assert.rejects(pullObject(location, 'd-1' as ObjectId, { ...into(to), token: 'wrong' }), ConnectionError);
    const raw = connect(server.port, '127.0.0.1');
    raw.on('error', () => {});
    raw.write(Buffer.from([0xff, 0xff, 0xff, 0xff]));
    await new Promise((closed) => raw.once('close', closed));
  } finally {
    await server[Symbol.asyncDispose]();
    from.close();
    to.close();
  }
});

const MIB = 1024 * 1024;

/** A way to `port` on which each connection breaks after `bytesMax` bytes of answer; the k-th byte may be damaged. */
async function brokenWay(port: number, bytesMax: number, damagedAt = -1) {
  let connections = 0;
  let damage = damagedAt;
  const server = createServer((near) => {
    connections += 1;
    const far = connect(port, '127.0.0.1');
    let left = bytesMax;
    for (const socket of [near, far]) socket.on('error', () => {});
    near.on('close', () => far.destroy());
    near.pipe(far);
    far.on('data', (bytes) => {
      const at = bytesMax - left;
      if (damage >= at && damage < at + bytes.length) {
        bytes[damage - at]! ^= 1;
        damage = -1;
      }
      near.write(bytes.subarray(0, left));
      left -= bytes.length;
      if (left <= 0) near.end();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    transfer: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    connections: () => connections,
    [Symbol.asyncDispose]: () => new Promise<void>((closed) => server.close(() => closed())),
  };
}

test('a transfer that breaks, or brings a damaged chunk, goes on behind the last good one', async () => {
  const to = arena();
  const content = randomBytes(15 * MIB);
  const object = {
    size: content.length,
    read: async (at: number, length: number) => content.subarray(at, at + length),
    close: () => {},
  };
  const server = await TransferServer.listen('127.0.0.1', 'secret', { open: () => object, freed: () => {} });
  try {
    {
      await using way = await brokenWay(server.port, 6 * MIB);
      const got = await pullObject(way, 'd-1' as ObjectId, into(to));
      assert.equal(got.size, content.length);
      assert.ok(Buffer.from(to.readable(0, content.length, () => {})).equals(content));
      assert.equal(way.connections(), 4, 'one chunk of 4 MiB in each');
    }
    {
      await using way = await brokenWay(server.port, 64 * MIB, 9 * MIB);
      await pullObject(way, 'd-1' as ObjectId, into(to));
      assert.ok(Buffer.from(to.readable(0, content.length, () => {})).equals(content));
      assert.equal(way.connections(), 2);
    }
    await using way = await brokenWay(server.port, 3 * MIB);
    await assert.rejects(pullObject(way, 'd-1' as ObjectId, into(to)), ConnectionError);
    assert.equal(way.connections(), 1, 'what never began is not tried again here');
  } finally {
    await server[Symbol.asyncDispose]();
    to.close();
  }
});
