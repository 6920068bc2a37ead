// Objects between two arenas over TCP: whole, checked, and only with the token.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { connect } from 'node:net';
import { test } from 'node:test';
import { ConnectionError, type ObjectId, ObjectLostError } from '#src/common/index.js';
import { native } from '#src/native/index.js';
import { pullObject, TransferServer } from '#src/node/transfer.js';

const BYTES = 16 * 1024 * 1024;
const arena = () =>
  native().createArena({
    path: `/dev/shm/raylite-test-${randomBytes(6).toString('hex')}`,
    bytes: BYTES,
    prefaultBytes: 0,
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
    const got = await pullObject(location, 'd-1' as ObjectId, 'secret', to, async () => ({ offset: 8192 }));
    assert.deepEqual(got, { offset: 8192, size: content.length });
    assert.ok(Buffer.from(to.readable(8192, content.length, () => {})).equals(content));
    assert.equal(closed, 1);
    await assert.rejects(
      pullObject(location, 'd-2' as ObjectId, 'secret', to, async () => ({ offset: 0 })),
      ObjectLostError,
    );
    await assert.rejects(
      pullObject(location, 'd-1' as ObjectId, 'wrong', to, async () => ({ offset: 0 })),
      ConnectionError,
    );
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
