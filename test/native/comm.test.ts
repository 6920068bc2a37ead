// Collectives between real processes: one suite, run over every carrier.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { connect } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { narrow, widen } from '#src/engine/index.js';
import { native } from '#src/native/index.js';
import { digest, fill, fillBytes, fillHalves, SIBLINGS, type Sibling } from './comm-data.js';
import { type CommRequest, OPERATIONS, type Operation } from './comm-peer.js';
import { failureOf, type PeerFailure, Peer as PeerProcess } from './peer-process.js';

const prefix = `raylite-test-comm-${process.pid}-`;
let names = 0;

class Peer extends PeerProcess<CommRequest> {
  constructor() {
    super(new URL('./comm-peer.js', import.meta.url));
  }
}

interface GroupOptions {
  readonly timeoutMs?: number;
  readonly operationTimeoutMs?: number;
  readonly secrets?: readonly string[];
  readonly absent?: readonly number[];
}

/** Makes all of `peers` ranks of a new group; the answer of each, or its failure. */
async function joinGroup(sibling: Sibling, peers: readonly Peer[], options: GroupOptions = {}) {
  const addresses =
    sibling === 'shm' ? peers.map(() => '') : await Promise.all(peers.map((peer) => peer.ask({ kind: 'listen' })));
  const name = `${prefix}${names++}`;
  const joins = peers.map((peer, rank) =>
    options.absent?.includes(rank)
      ? Promise.resolve('absent')
      : peer.ask({
          kind: 'join',
          sibling,
          name,
          addresses,
          secret: options.secrets?.[rank] ?? 'open sesame',
          rank,
          size: peers.length,
          timeoutMs: options.timeoutMs ?? 20_000,
          operationTimeoutMs: options.operationTimeoutMs ?? 20_000,
        }),
  );
  const results = await Promise.allSettled(joins);
  assert.equal(
    existsSync(`/dev/shm/${name}`),
    false,
    'the name is gone as soon as the group is complete or has failed',
  );
  return results;
}

async function formed(sibling: Sibling, peers: readonly Peer[], options: GroupOptions = {}): Promise<void> {
  const results = await joinGroup(sibling, peers, options);
  assert.deepEqual(
    results.map((result) => (result.status === 'fulfilled' ? result.value : String(result.reason))),
    peers.map((_, rank) => `${rank} of ${peers.length}`),
  );
}

/** What every rank must hold afterwards, computed here one element at a time in the order of ranks. */
function expected(operation: Operation, size: number, count: number, root: number): readonly string[] {
  const ranks = Array.from({ length: size }, (_, rank) => rank);
  const reduced = (inputs: readonly Float32Array[], combine = (a: number, b: number) => a + b) => {
    const total = Float32Array.from(inputs[0]!);
    for (const input of inputs.slice(1)) {
      for (let index = 0; index < count; index++) total[index] = combine(total[index]!, input[index]!);
    }
    return total;
  };
  const floats = () => ranks.map((rank) => fill(rank, count));
  const halves = (type: 'bf16' | 'f16') => {
    const wide = ranks.map((rank) => widen(new Uint8Array(fillHalves(rank, count, type).buffer), type));
    return narrow(reduced(wide), type);
  };
  const sliceOf = <T extends Float32Array | Uint16Array | Uint8Array>(data: T, rank: number) =>
    data.subarray((rank * count) / size, ((rank + 1) * count) / size);
  const gathered = (of: readonly Uint8Array[], slice: (rank: number) => number) => {
    const whole = new Uint8Array(count);
    for (const rank of ranks) whole.set(sliceOf(of[rank]!, slice(rank)), (rank * count) / size);
    return digest(whole);
  };
  const bytes = () => ranks.map((rank) => fillBytes(rank, count));
  const all = (data: Float32Array | Uint16Array | Uint8Array) => Array(size).fill(digest(data));
  switch (operation) {
    case 'allReduceSum':
      return all(reduced(floats()));
    case 'allReduceMax':
      return all(reduced(floats(), Math.max));
    case 'allReduceBf16':
      return all(halves('bf16'));
    case 'allReduceF16':
      return all(halves('f16'));
    case 'reduceScatter': {
      const total = reduced(floats());
      return ranks.map((rank) => digest(sliceOf(total, rank)));
    }
    case 'reduceScatterBf16': {
      const total = halves('bf16');
      return ranks.map((rank) => digest(sliceOf(total, rank)));
    }
    case 'allGather':
      return Array(size).fill(gathered(bytes(), (rank) => rank));
    case 'allToAll':
      return ranks.map((rank) => gathered(bytes(), () => rank));
    case 'broadcast':
      return all(fillBytes(root, count));
    case 'sendReceive':
      return ranks.map((rank) =>
        digest(size === 1 ? new Uint8Array(count) : fillBytes((rank + size - 1) % size, count)),
      );
    case 'barrier':
      return ranks.map(() => 'passed');
  }
}

const SLICED: readonly Operation[] = ['reduceScatter', 'reduceScatterBf16', 'allGather', 'allToAll'];
// Nothing, less than a rank each, around the borders of a chunk of floats and of bytes, and several chunks with a rest.
const counts = [0, 1, 2, 3, 17, 4097, 65_535, 65_536, 65_537, 262_145, 400_003];

for (const sibling of SIBLINGS) {
  describe(`collectives over ${sibling}`, () => {
    const sizes = sibling === 'hierarchical' ? [1, 2, 3, 4, 6] : [1, 2, 3, 4];
    let peers: Peer[] = [];
    before(() => {
      peers = Array.from({ length: Math.max(...sizes) }, () => new Peer());
    });
    after(async () => {
      await Promise.all(peers.map((peer) => peer.kill()));
    });

    for (const size of sizes) {
      test(`every collective gives ${size} rank(s) the bits of the sum in rank order`, async () => {
        const ranks = peers.slice(0, size);
        await formed(sibling, ranks);
        for (const operation of OPERATIONS) {
          for (const length of counts) {
            const count = SLICED.includes(operation) ? length - (length % size) : length;
            const root = (size - 1) % 3;
            const digests = await Promise.all(ranks.map((peer) => peer.ask({ kind: 'run', operation, count, root })));
            assert.deepEqual(digests, expected(operation, size, count, root), `${operation} of ${count}`);
          }
        }
        const sent = await Promise.all(ranks.map((peer) => peer.ask({ kind: 'dispose' })));
        if (size > 1) for (const bytes of sent) assert.ok(Number(bytes) > 1_000_000, `${bytes} bytes sent`);
      });
    }

    test('a rank may leave as soon as its own last call is done', async () => {
      for (let round = 0; round < 15; round++) {
        await formed(sibling, peers.slice(0, 4));
        const answers = await Promise.all(
          peers.slice(0, 4).map(async (peer) => {
            const passed = peer.ask({ kind: 'run', operation: 'allReduceSum', count: 100_000, root: 0 });
            const left = passed.then(() => peer.ask({ kind: 'dispose' }));
            await left;
            return await passed;
          }),
        );
        assert.equal(new Set(answers).size, 1);
      }
    });

    test('a rank that is killed makes all others fail, naming it', async () => {
      await using victim = new Peer();
      const ranks = [peers[0]!, peers[1]!, victim, peers[2]!];
      await formed(sibling, ranks);
      const survivors = [peers[0]!, peers[1]!, peers[2]!];
      const waiting = survivors.map((peer) =>
        failureOf(peer.ask({ kind: 'run', operation: 'barrier', count: 0, root: 0 })),
      );
      await victim.kill();
      for (const failure of await Promise.all(waiting)) {
        assert.equal(failure.code, 'COMM');
        assert.equal(failure.rank, 2, failure.message);
        assert.match(failure.message, /rank 2/);
      }
      const later = await failureOf(peers[0]!.ask({ kind: 'run', operation: 'barrier', count: 0, root: 0 }));
      assert.equal(later.rank, 2, 'later calls say the same');
    });

    test('a rank killed in the midst of data makes all others fail, naming it', async () => {
      await using victim = new Peer();
      const ranks = [peers[0]!, victim, peers[1]!];
      await formed(sibling, ranks);
      const survivors = [peers[0]!, peers[1]!];
      const repeat = { kind: 'repeat', operation: 'allReduceSum', count: 1_000_000 } as const;
      const failing = survivors.map((peer) => failureOf(peer.ask(repeat)));
      victim.ask(repeat).catch(() => {}); // ends with its process
      await victim.ask({ kind: 'abort', reason: '' }).catch(() => {}); // refused: a reason is needed; but the loop runs
      await victim.kill();
      for (const failure of await Promise.all(failing)) assert.equal(failure.rank, 1, failure.message);
    });

    test('a rank that is late makes all others fail, naming it', async () => {
      const ranks = peers.slice(0, 3);
      await formed(sibling, ranks, { operationTimeoutMs: 400 });
      const failures = await Promise.all(
        [ranks[0]!, ranks[1]!].map((peer) =>
          failureOf(peer.ask({ kind: 'run', operation: 'allReduceSum', count: 400_000, root: 0 })),
        ),
      );
      for (const failure of failures) {
        assert.equal(failure.rank, 2, failure.message);
        assert.match(failure.message, /rank 2 is late: nothing came from it for 4\d\d ms/);
      }
    });

    test('abort wakes every rank with its reason', async () => {
      const ranks = peers.slice(0, 3);
      await formed(sibling, ranks);
      const waiting = [ranks[0]!, ranks[2]!].map((peer) =>
        failureOf(peer.ask({ kind: 'run', operation: 'allReduceSum', count: 300_000, root: 0 })),
      );
      await ranks[1]!.ask({ kind: 'abort', reason: 'the loss is not a number' });
      for (const failure of await Promise.all(waiting)) {
        assert.equal(failure.message, 'rank 1 aborted the group: the loss is not a number');
        assert.equal(failure.rank, 1);
      }
      const own = await failureOf(ranks[1]!.ask({ kind: 'run', operation: 'barrier', count: 0, root: 0 }));
      assert.equal(own.message, 'rank 1 aborted the group: the loss is not a number');
    });

    test('ranks that make different calls are told so', async () => {
      const ranks = peers.slice(0, 2);
      await formed(sibling, ranks);
      const failures = await Promise.all([
        failureOf(ranks[0]!.ask({ kind: 'run', operation: 'allReduceSum', count: 10, root: 0 })),
        failureOf(ranks[1]!.ask({ kind: 'run', operation: 'allReduceSum', count: 12, root: 0 })),
      ]);
      for (const failure of failures) {
        assert.match(
          failure.message,
          /rank \d is in all-reduce \(sum\) of 1\d elements while rank \d is in all-reduce/,
        );
      }
    });

    test('a group that does not become complete says who did not come', async () => {
      const results = await joinGroup(sibling, peers.slice(0, 4), { timeoutMs: 300, absent: [1, 3] });
      for (const rank of [0, 2]) {
        const result = results[rank]!;
        assert.equal(result.status, 'rejected');
        const failure = (result as PromiseRejectedResult).reason as PeerFailure;
        // A hierarchical group forms on each machine first.
        const missing = sibling === 'hierarchical' ? `rank ${rank + 1}` : 'ranks 1 and 3';
        assert.match(failure.message, new RegExp(`${missing} did not join the group within 300 ms`));
        assert.equal(failure.facts.code, 'COMM');
      }
    });

    test('leaving during a call, and ending the process during a call, fail the others and hang nobody', async () => {
      await using leaver = new Peer();
      await formed(sibling, [peers[0]!, leaver]);
      const own = failureOf(leaver.ask({ kind: 'run', operation: 'barrier', count: 0, root: 0 }));
      await leaver.ask({ kind: 'dispose' });
      assert.match((await own).message, /rank 1 aborted the group: it left during a collective/);
      assert.equal((await failureOf(peers[0]!.ask({ kind: 'run', operation: 'barrier', count: 0, root: 0 }))).rank, 1);

      await formed(sibling, [peers[0]!, leaver]);
      const ended = once(leaver.process, 'exit');
      leaver.ask({ kind: 'exitDuringBarrier' }).catch(() => {}); // its process ends before it can answer
      assert.equal((await ended)[0], 7);
      // It had entered the barrier, so that the first one here may pass.
      assert.equal((await failureOf(peers[0]!.ask({ kind: 'repeat', operation: 'barrier', count: 0 }))).rank, 1);
    });
  });
}

describe('joining over tcp', () => {
  test('a rank with another secret is refused, and both sides say so', async () => {
    await using first = new Peer();
    await using second = new Peer();
    const results = await joinGroup('tcp', [first, second], { secrets: ['right', 'wrong'], timeoutMs: 500 });
    const [listening, connecting] = results.map((result) => (result as PromiseRejectedResult).reason as PeerFailure);
    assert.equal(connecting?.message, 'rank 0 has another secret than rank 1');
    assert.match(listening?.message ?? '', /rank 1 did not join .*called itself rank 1 had another secret/);
  });

  test('strangers that are silent or talk nonsense disturb nobody', async () => {
    await using other = new Peer();
    const own = native().listenTcpGroup('127.0.0.1');
    const theirs = await other.ask({ kind: 'listen' });
    const strangers = Array.from({ length: 5 }, () => connect(own.port, '127.0.0.1'));
    try {
      await Promise.all(strangers.map((socket) => once(socket, 'connect')));
      strangers[0]?.write('GET / HTTP/1.1\r\nHost: localhost\r\nAccept: everything you have\r\n\r\n');
      strangers[1]?.write(Buffer.alloc(4096, 0xff));
      strangers[2]?.destroy();
      for (const socket of strangers) socket.on('error', () => {}); // being cut off is what they deserve
      const common = {
        addresses: [`127.0.0.1:${own.port}`, theirs],
        secret: 'open sesame',
        timeoutMs: 20_000,
        operationTimeoutMs: 20_000,
      };
      const joined = other.ask({ kind: 'join', sibling: 'tcp', name: '', rank: 1, size: 2, ...common });
      const group = await native().joinTcpGroup({ ...common, rank: 0, listener: own.listener });
      assert.equal(await joined, '1 of 2');
      const barrier = other.ask({ kind: 'run', operation: 'barrier', count: 0, root: 0 });
      await group.barrier();
      assert.equal(await barrier, 'passed');
      group.dispose();
    } finally {
      for (const socket of strangers) socket.destroy();
    }
  });

  test('addresses that lead nowhere are named', async () => {
    const { listener } = native().listenTcpGroup('127.0.0.1');
    const join = { rank: 1, secret: 's', timeoutMs: 200 };
    await assert.rejects(
      native().joinTcpGroup({ ...join, listener, addresses: ['127.0.0.1:1', 'unused:1'] }),
      /rank 0 did not join the group within 200 ms \(rank 0: Connection refused\)/,
    );
    const second = native().listenTcpGroup('127.0.0.1');
    await assert.rejects(
      native().joinTcpGroup({ ...join, listener: second.listener, addresses: ['nonsense', 'unused:1'] }),
      /address: expected "host:port", got "nonsense"/,
    );
    assert.throws(() => native().listenTcpGroup('192.0.2.1'), /cannot listen on 192\.0\.2\.1/);
    await assert.rejects(async () => native().joinTcpGroup({ ...join, listener, addresses: ['a:1', 'b:1'] }), /used/);
    await assert.rejects(
      async () => native().joinTcpGroup({ ...join, listener: {}, addresses: ['a:1', 'b:1'] }),
      /listener/,
    );
  });
});

describe('joining over shared memory', () => {
  const options = { rank: 0, size: 1, timeoutMs: 1000 };

  test('a group left behind by a killed process is swept away by the next of that name', async () => {
    const name = `${prefix}stale`;
    const lonely = { sibling: 'shm', name, addresses: [], secret: '', size: 2, operationTimeoutMs: 20_000 } as const;
    await using killed = new Peer();
    const joining = killed.ask({ kind: 'join', rank: 0, timeoutMs: 20_000, ...lonely }).catch(() => {});
    while (!existsSync(`/dev/shm/${name}`)) await new Promise(setImmediate);
    await killed.kill();
    await joining;
    await using first = new Peer();
    await using second = new Peer();
    const joined = await Promise.all(
      [first, second].map((peer, rank) => peer.ask({ kind: 'join', rank, timeoutMs: 20_000, ...lonely })),
    );
    assert.deepEqual(joined, ['0 of 2', '1 of 2']);
  });

  test('a rank joins once, and all must agree on the size', async () => {
    const name = `${prefix}twice`;
    const first = native().joinShmGroup({ name, rank: 0, size: 2, timeoutMs: 20_000 });
    while (!existsSync(`/dev/shm/${name}`)) await new Promise(setImmediate);
    await assert.rejects(
      native().joinShmGroup({ name, rank: 0, size: 2, timeoutMs: 1000 }),
      /rank 0 has joined already/,
    );
    await assert.rejects(native().joinShmGroup({ name, rank: 1, size: 3, timeoutMs: 1000 }), /has 2 ranks, not 3/);
    const second = await native().joinShmGroup({ name, rank: 1, size: 2, timeoutMs: 20_000 });
    (await first).dispose();
    second.dispose();
  });

  test('bad arguments are refused by name', async () => {
    const join = async (bad: object) => await native().joinShmGroup({ ...options, name: `${prefix}bad`, ...bad });
    await assert.rejects(join({ rank: 1 }), /rank: expected an integer of 0 to 0, got 1/);
    await assert.rejects(join({ size: 0 }), /size/);
    await assert.rejects(join({ timeoutMs: Number.NaN }), /timeoutMs/);
    await assert.rejects(join({ name: '../etc/x' }), /name: expected a file name without/);
    const group = await join({});
    try {
      assert.throws(() => group.allReduce(new Float64Array(1) as unknown as Float32Array, 'sum'), /Float32Array/);
      assert.throws(() => group.allReduce(new Float32Array(1), 'min' as 'max'), /op: expected "sum" or "max"/);
      assert.throws(() => group.broadcast(new Float32Array(1), 1), /root/);
    } finally {
      group.dispose();
    }
    await assert.rejects(async () => await group.barrier(), /was disposed/);
  });

  test('nothing is left in /dev/shm', () => {
    assert.deepEqual(
      readdirSync('/dev/shm').filter((name) => name.startsWith(prefix)),
      [],
    );
  });
});
