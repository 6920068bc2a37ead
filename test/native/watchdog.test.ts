// What ranks learn of each other without waiting for each other: real processes that are killed or stopped, over shared memory
// and over TCP, and groups that share nothing but a rank.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { WatchNews } from '#src/native/index.js';
import { SIBLINGS, type Sibling } from './comm-data.js';
import { failureOf, Peer as PeerProcess } from './peer-process.js';
import type { WatchRequest } from './watchdog-peer.js';

const prefix = `raylite-test-watch-${process.pid}-`;
let count = 0;

class Peer extends PeerProcess<WatchRequest> {
  constructor() {
    super(new URL('./watchdog-peer.js', import.meta.url));
  }
}

class Job implements AsyncDisposable {
  readonly peers: readonly Peer[];
  constructor(size: number) {
    this.peers = Array.from({ length: size }, () => new Peer());
  }

  /** Joins the ranks `names` of the job in a group. */
  async join(id: string, sibling: Sibling, names: readonly number[], operationTimeoutMs = 60_000): Promise<void> {
    const members = names.map((name) => this.peers[name]!);
    const listen = (peer: Peer) => (sibling === 'shm' ? '' : peer.ask({ kind: 'listen' }));
    const addresses = await Promise.all(members.map(listen));
    const name = `${prefix}${count++}`;
    const common = { kind: 'join', id, sibling, name, addresses, names, operationTimeoutMs } as const;
    await Promise.all(members.map((peer, rank) => peer.ask({ ...common, rank })));
  }

  async watch(): Promise<void> {
    await Promise.all(this.peers.map((peer) => peer.ask({ kind: 'watch' })));
  }

  /** The next that the watch of `rank` says. */
  async news(rank: number): Promise<WatchNews> {
    return JSON.parse(await this.peers[rank]!.ask({ kind: 'news' })) as WatchNews;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.peers.map((peer) => peer.kill()));
  }
}

for (const sibling of SIBLINGS) {
  describe(`watching over ${sibling}`, () => {
    test('a process that is stopped is named by who waits for it and by who computes', async () => {
      await using job = new Job(3);
      await job.join('all', sibling, [0, 1, 2]);
      await job.watch();
      const waiting = failureOf(job.peers[0]!.ask({ kind: 'wait', id: 'all', isProgram: true }));
      const computing = failureOf(job.peers[1]!.ask({ kind: 'compute', id: 'all' }));
      job.peers[2]!.process.kill('SIGSTOP');
      const failures = await Promise.all([waiting, computing]);
      for (const { code, rank, message } of failures) {
        assert.equal(code, 'COMM');
        assert.equal(rank, 2, message);
        assert.match(message, /rank 2 stands still: its process has given no sign of life for 3\.5 s$/);
      }
      assert.match(failures[0]!.message, /^instruction 1 \(barrier, h\.1\): /);
      assert.match(failures[1]!.message, /^instruction 0 \(linear, h\.0\): /);
      job.peers[2]!.process.kill('SIGCONT');
      const own = await failureOf(job.peers[2]!.ask({ kind: 'wait', id: 'all', isProgram: false }));
      assert.equal(own.rank, 2, 'the one that was stopped learns the same');
    });

    test('a process that is killed ends the run of a rank that computes', async () => {
      await using job = new Job(2);
      await job.join('all', sibling, [0, 1]);
      await job.watch();
      let computed = () => {};
      const first = new Promise<void>((resolve) => {
        computed = resolve;
      });
      const computing = failureOf(job.peers[0]!.ask({ kind: 'compute', id: 'all' }, () => computed()));
      await first;
      await job.peers[1]!.kill();
      const { code, rank, message } = await computing;
      assert.equal(code, 'COMM');
      assert.equal(rank, 1, message);
      assert.match(message, /: the process of rank 1 ended$/);
    });

    test('what ends one group ends the others of its ranks, under one message', async () => {
      await using job = new Job(3);
      await job.join('first', sibling, [0, 1]);
      await job.join('second', sibling === 'shm' ? 'tcp' : 'shm', [1, 2]);
      await job.watch();
      const waiting = failureOf(job.peers[2]!.ask({ kind: 'wait', id: 'second', isProgram: false }));
      await job.peers[0]!.kill();
      const far = await waiting;
      assert.equal(far.rank, 0, far.message);
      const near = await failureOf(job.peers[1]!.ask({ kind: 'wait', id: 'first', isProgram: false }));
      assert.deepEqual({ ...near }, { ...far });
    });

    test('a rank that lives but lets others wait is told to them by name, with the call and the instruction, and that it came', async () => {
      await using job = new Job(3);
      await job.join('all', sibling, [0, 1, 2]);
      await job.watch();
      const waiting = [0, 1].map((rank) => job.peers[rank]!.ask({ kind: 'wait', id: 'all', isProgram: true }));
      const late = await Promise.all([0, 1].map((rank) => job.news(rank)));
      for (const [rank, { kind, ranks, message }] of late.entries()) {
        assert.deepEqual([kind, ranks], ['late', [2]]);
        const expected = `^rank 2 is late: rank ${rank} has waited \\d\\.\\d s in barrier at instruction 1 \\(barrier, h\\.1\\)$`;
        assert.match(message, new RegExp(expected));
      }
      await job.peers[2]!.ask({ kind: 'wait', id: 'all', isProgram: false });
      assert.deepEqual(await Promise.all(waiting), ['passed', 'passed']);
      for (const rank of [0, 1]) assert.deepEqual(await job.news(rank), { kind: 'came', ranks: [2], message: '' });
    });

    test('who waits for a late rank itself is not blamed, by a warning or when the time is up', async () => {
      await using job = new Job(3);
      await job.join('first', sibling, [0, 1], 6000);
      await job.join('second', sibling === 'shm' ? 'tcp' : 'shm', [1, 2], 6000);
      await job.watch();
      const failures = [
        failureOf(job.peers[0]!.ask({ kind: 'wait', id: 'first', isProgram: false })),
        failureOf(job.peers[1]!.ask({ kind: 'wait', id: 'second', isProgram: false })),
      ];
      assert.deepEqual((await job.news(1)).ranks, [2]);
      for (const { code, rank, message } of await Promise.all(failures)) {
        assert.deepEqual([code, rank], ['COMM', 2], message);
        assert.match(
          message,
          /rank 2 is late: nothing came from it for 6\d{3} ms while rank 1 waited for it in barrier/,
        );
      }
      const { kind, ranks } = await job.news(0);
      assert.deepEqual([kind, ranks], ['broken', [2]], 'rank 0, which waited for rank 1, never heard a warning');
    });

    test('who leaves in order is not missed', async () => {
      await using job = new Job(3);
      await job.join('all', sibling, [0, 1, 2]);
      await job.join('pair', sibling, [0, 1]);
      await job.watch();
      await job.peers[2]!.ask({ kind: 'leave' });
      await job.peers[2]!.kill();
      const computing = job.peers[0]!.ask({ kind: 'wait', id: 'pair', isProgram: true });
      await job.peers[1]!.ask({ kind: 'wait', id: 'pair', isProgram: true });
      assert.equal(await computing, 'passed');
    });
  });
}
