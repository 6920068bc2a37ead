// One suite for all carriers of a Channel.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { ConnectionError } from '#src/common/index.js';
import { openGrpc, serveGrpc } from '#src/protocol/grpc/index.js';
import {
  type Channel,
  type CloseReason,
  connectSocket,
  FRAME_BYTES_MAX,
  MemoryChannel,
  SocketChannel,
} from '#src/protocol/index.js';

interface Pair extends AsyncDisposable {
  readonly near: Channel;
  readonly far: Channel;
}

const carriers: Readonly<Record<string, () => Promise<Pair>>> = {
  'Unix socket': async () => {
    const folder = mkdtempSync(join(tmpdir(), 'raylite-test-'));
    const path = join(folder, 'socket');
    const { promise, resolve } = deferred<Channel>();
    const server = createServer((socket) => resolve(new SocketChannel(socket, 'near')));
    await new Promise<void>((ready) => server.listen(path, ready));
    const near = await connectSocket(path);
    const far = await promise;
    return {
      near,
      far,
      async [Symbol.asyncDispose]() {
        near.close('done');
        far.close('done');
        await new Promise((closed) => server.close(closed));
        rmSync(folder, { recursive: true });
      },
    };
  },
  gRPC: () => overGrpc(),
  'gRPC and TLS': async () => {
    process.env.RAYLITE_TLS = '1';
    try {
      return await overGrpc();
    } finally {
      delete process.env.RAYLITE_TLS;
    }
  },
  memory: async () => {
    const [near, far] = MemoryChannel.pair('near');
    return { near, far, [Symbol.asyncDispose]: async () => near.close('done') };
  },
};

async function overGrpc(): Promise<Pair> {
  const { promise, resolve } = deferred<Channel>();
  const door = await serveGrpc({ host: '127.0.0.1', port: 0, token: 'secret' }, { 'CallService.Open': resolve });
  const near = openGrpc('CallService.Open', `127.0.0.1:${door.port}`, 'secret');
  near.send(Buffer.from('hello'));
  return {
    near,
    far: await promise,
    async [Symbol.asyncDispose]() {
      near.close('done');
      await door[Symbol.asyncDispose]();
    },
  };
}

function deferred<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve!: (value: T) => void;
  const promise = new Promise<T>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}
const closed = (channel: Channel): Promise<CloseReason> => new Promise((resolve) => channel.onClose(resolve));

/** Resolves with the first `count` frames after the carrier's own greeting. */
function frames(channel: Channel, count: number): Promise<Buffer[]> {
  const { promise, resolve } = deferred<Buffer[]>();
  const got: Buffer[] = [];
  channel.receive((frame) => {
    if (Buffer.from(frame).equals(Buffer.from('hello'))) return;
    got.push(Buffer.from(frame));
    if (got.length === count) resolve(got);
  });
  return promise;
}

for (const [name, open] of Object.entries(carriers)) {
  describe(`a channel over ${name}`, () => {
    test('delivers frames whole and in order, whatever their size', async () => {
      await using pair = await open();
      const sizes = [0, 1, 3, 4, 5, 1000, 16384, 16385, 65536, 3_000_000, 7, 0, 200_000];
      const got = frames(pair.far, sizes.length);
      sizes.forEach((size, index) => {
        pair.near.send(Buffer.alloc(size, index));
      });
      assert.deepEqual(
        (await got).map((frame) => [frame.length, frame[0] ?? null]),
        sizes.map((size, index) => [size, size === 0 ? null : index]),
      );
    });

    test('delivers what came before anyone listened', async () => {
      await using pair = await open();
      pair.near.send(Buffer.from('first'));
      pair.near.send(Buffer.from('second'));
      pair.far.send(Buffer.from('back'));
      assert.equal(String((await frames(pair.near, 1))[0]), 'back');
      assert.deepEqual((await frames(pair.far, 2)).map(String), ['first', 'second']);
    });

    test('sends what is queued before it closes, and tells both sides once', async () => {
      await using pair = await open();
      const got = frames(pair.far, 1);
      pair.near.send(Buffer.from('last words'));
      pair.near.close('done');
      assert.equal(String((await got)[0]), 'last words');
      assert.equal((await closed(pair.far)).error, null);
      assert.deepEqual(await closed(pair.near), { error: null, detail: 'done' });
      pair.near.send(Buffer.from('too late'));
    });

    // Memory takes what fits into memory, and its receiver is never slower than its sender.
    const testLimit = name === 'memory' ? () => {} : test;

    testLimit('refuses a frame over the limit where it is sent', async () => {
      await using pair = await open();
      assert.throws(() => pair.near.send(Buffer.alloc(FRAME_BYTES_MAX + 1)), ConnectionError);
    });

    test('closes with a typed error when the receiver cannot understand a frame', async () => {
      await using pair = await open();
      pair.far.receive(() => {
        throw new RangeError('index out of range');
      });
      pair.near.send(Buffer.from('rubbish'));
      const reason = await closed(pair.far);
      assert.ok(reason.error instanceof ConnectionError);
      assert.ok(reason.error.cause instanceof RangeError);
      await closed(pair.near);
    });

    testLimit('asks a sender to hold back when the peer does not read, and says when it may go on', async () => {
      await using pair = await open();
      const chunk = Buffer.alloc(1024 * 1024, 1);
      let sent = 0;
      while (!pair.near.isCongested) {
        pair.near.send(chunk);
        sent += 1;
      }
      const drained = new Promise<void>((resolve) => pair.near.onDrain(resolve));
      await frames(pair.far, sent);
      await drained;
      assert.equal(pair.near.isCongested, false);
    });
  });
}

test('a socket that announces a frame over the limit is cut off', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'raylite-test-'));
  try {
    const path = join(folder, 'socket');
    const accepted = deferred<Channel>();
    const server = createServer((socket) => accepted.resolve(new SocketChannel(socket, 'raw')));
    await new Promise<void>((ready) => server.listen(path, ready));
    const raw = connect(path);
    raw.on('error', () => {});
    raw.write(Buffer.from([0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4, 5]));
    const channel = await accepted.promise;
    channel.receive(() => assert.fail('no frame was whole'));
    assert.match((await closed(channel)).error?.message ?? '', /larger than the limit/);
    raw.destroy();
    await new Promise((done) => server.close(done));
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('a gRPC stream with a missing or wrong token ends with what to do, and nobody sees it', async () => {
  await using door = await serveGrpc(
    { host: '127.0.0.1', port: 0, token: 'secret' },
    { 'Head.Client': () => assert.fail('an unauthenticated stream was accepted') },
  );
  for (const token of ['wrong', 'secretsecret', 'x y']) {
    const channel = openGrpc('Head.Client', `127.0.0.1:${door.port}`, token);
    const { error } = await closed(channel);
    assert.ok(error instanceof ConnectionError);
    assert.match(error.detail, /token/);
  }
});

test('a gRPC stream to where nothing listens fails with a typed error', async () => {
  const door = await serveGrpc({ host: '127.0.0.1', port: 0, token: 'secret' }, {});
  await door[Symbol.asyncDispose]();
  const { error } = await closed(openGrpc('Head.Client', `127.0.0.1:${door.port}`, 'secret'));
  assert.ok(error instanceof ConnectionError);
  assert.match(error.detail, /nothing answers/);
});
