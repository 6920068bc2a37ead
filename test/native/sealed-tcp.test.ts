// What somebody on the network between two ranks of a group sees and can do, with and without seals. (That sealed groups give the bits of
// the others is in comm.test.ts.)
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { native } from '#src/native/index.js';
import { fillBytes } from './comm-data.js';
import type { CommRequest } from './comm-peer.js';
import { failureOf, Peer as PeerProcess } from './peer-process.js';

class Peer extends PeerProcess<CommRequest> {
  constructor() {
    super(new URL('./comm-peer.js', import.meta.url));
  }
}

const COUNT = 400_000; // more than a chunk

/** Somebody between a rank and the one that it connects to. */
class Eavesdropper implements AsyncDisposable {
  /** All that went by, each direction of each connection by itself. */
  readonly heard: Buffer[][] = [];
  /** Changes what goes by, by its place in `heard`. */
  change: (bytes: Buffer, stream: number) => Buffer = (bytes) => bytes;
  readonly #sockets: Socket[] = [];
  readonly #server;

  constructor(target: string) {
    const [host, port] = target.split(':');
    this.#server = createServer((from) => {
      const to = connect(Number(port), host!);
      this.#sockets.push(from, to);
      this.#pass(from, to);
      this.#pass(to, from);
    });
  }

  async listen(): Promise<string> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  #pass(from: Socket, to: Socket): void {
    const stream = this.heard.push([]) - 1;
    from.on('data', (bytes) => {
      this.heard[stream]!.push(bytes);
      to.write(this.change(bytes, stream));
    });
    from.on('error', () => {}).on('close', () => to.destroy());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
  }
}

/** Two ranks with an eavesdropper between them. */
async function overheard(
  sibling: 'tcp' | 'sealed tcp',
  use: (ranks: readonly [Peer, Peer], eavesdropper: Eavesdropper) => Promise<void>,
): Promise<void> {
  await using first = new Peer();
  await using second = new Peer();
  const ranks = [first, second] as const;
  const addresses = await Promise.all(ranks.map((peer) => peer.ask({ kind: 'listen' })));
  await using eavesdropper = new Eavesdropper(addresses[0]!);
  const common = { sibling, name: '', secret: 'open sesame', size: 2, timeoutMs: 20_000, operationTimeoutMs: 20_000 };
  const way = await eavesdropper.listen();
  const joined = ranks.map((peer, rank) =>
    peer.ask({ kind: 'join', ...common, rank, addresses: [rank === 0 ? addresses[0]! : way, addresses[1]!] }),
  );
  assert.deepEqual(await Promise.all(joined), ['0 of 2', '1 of 2']);
  await use(ranks, eavesdropper);
}

const broadcast = (ranks: readonly Peer[]): Promise<string>[] =>
  ranks.map((peer) => peer.ask({ kind: 'run', operation: 'broadcast', count: COUNT, root: 0 }));

/** Whether a stretch of what rank 0 sends is in what went by. */
function isHeard({ heard }: Eavesdropper): boolean {
  const sent = Buffer.from(fillBytes(0, COUNT));
  const all = heard.map((parts) => Buffer.concat(parts));
  return [0, 1000, COUNT - 64].some((at) => all.some((bytes) => bytes.includes(sent.subarray(at, at + 64))));
}

test('who listens on the network hears the numbers of a group that does not seal, and nothing of one that does', async () => {
  for (const sibling of ['tcp', 'sealed tcp'] as const)
    await overheard(sibling, async (ranks, eavesdropper) => {
      await Promise.all(broadcast(ranks));
      const bytes = eavesdropper.heard.flat().reduce((sum, part) => sum + part.length, 0);
      assert.ok(bytes > COUNT);
      assert.equal(isHeard(eavesdropper), sibling === 'tcp');
    });
});

test('a bit that is changed on the way, in a header, in the data or in what ends them, breaks the group with an error that says so', async () => {
  for (const at of [3, 5000, COUNT / 2, 262_144 + 100])
    await overheard('sealed tcp', async (ranks, eavesdropper) => {
      const before = eavesdropper.heard.map((parts) => parts.reduce((sum, part) => sum + part.length, 0));
      const passed = before.map(() => 0);
      eavesdropper.change = (bytes, stream) => {
        const from = passed[stream]!;
        passed[stream]! += bytes.length;
        if (at < from || at >= from + bytes.length) return bytes;
        const changed = Buffer.from(bytes);
        changed[at - from]! ^= 1;
        return changed;
      };
      const failures = await Promise.all(broadcast(ranks).slice(1).map(failureOf));
      for (const failure of failures) {
        assert.equal(failure.code, 'COMM');
        assert.match(failure.message, /^what rank 0 sent was changed on the way, or was sent by somebody else/);
      }
    });
});

test('what was sent before is not taken a second time', async () => {
  await overheard('sealed tcp', async (ranks, eavesdropper) => {
    await Promise.all(ranks.map((peer) => peer.ask({ kind: 'run', operation: 'barrier', count: 0, root: 0 })));
    // The last frame of each stream in the place of the next one of the same length.
    eavesdropper.change = (bytes, stream) => {
      const last = eavesdropper.heard[stream]!.at(-2);
      return last?.length === bytes.length ? last : bytes;
    };
    const barriers = ranks.map((peer) => failureOf(peer.ask({ kind: 'run', operation: 'barrier', count: 0, root: 0 })));
    for (const { message } of await Promise.all(barriers)) assert.match(message, /changed on the way/);
  });
});

test('ranks of which only one seals do not come together, and say why', async () => {
  for (const seals of [true, false]) {
    const listeners = [native().listenTcpGroup('127.0.0.1'), native().listenTcpGroup('127.0.0.1')] as const;
    const addresses = listeners.map(({ port }) => `127.0.0.1:${port}`);
    const joins = listeners.map(({ listener }, rank) =>
      native().joinTcpGroup({
        listener,
        addresses,
        secret: 's',
        rank,
        timeoutMs: 300,
        seals: rank === 0 ? seals : !seals,
      }),
    );
    const [first, second] = await Promise.allSettled(joins);
    const said = seals ? /rank 1 does not encrypt, this rank does/ : /rank 1 encrypts, this rank does not/;
    assert.match(String((first as PromiseRejectedResult).reason), said);
    assert.match(String((second as PromiseRejectedResult).reason), /rank 0 did not join/);
  }
});
