// Collectives inside programs: real processes run one plan together, and what happens to the others when one of them dies,
// stalls, gives up or leaves in the midst of it. Over every carrier.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { describe, test } from 'node:test';
import { SIBLINGS } from './comm-data.js';
import { failureOf } from './peer-process.js';
import { alone, prefix, Ranks } from './program-ranks.js';

for (const sibling of SIBLINGS) {
  describe(`programs with collectives over ${sibling}`, () => {
    test('two and three ranks get what one rank gets, run after run', async () => {
      for (const size of [2, 3]) {
        await using ranks = await Ranks.start(sibling, size);
        const expected = await alone(size);
        for (let round = 0; round < 5; round++) {
          const results = await Promise.all(ranks.peers.map((peer) => peer.ask({ kind: 'run' })));
          assert.deepEqual(results, Array(size).fill(expected));
        }
        await Promise.all(ranks.peers.map((peer) => peer.ask({ kind: 'dispose' })));
      }
    });

    test('a rank that is killed in the midst of a run fails the run of the others, which name it', async () => {
      await using ranks = await Ranks.start(sibling, 3);
      const others = await ranks.repeat(1);
      await ranks.peers[1]!.kill('SIGKILL');
      for (const failure of await Promise.all(others)) {
        assert.equal(failure.code, 'COMM');
        assert.equal(failure.rank, 1, failure.message);
        assert.match(failure.message, /instruction \d \((reduce_scatter|all_gather|all_reduce|barrier)/);
        assert.match(failure.message, /rank 1/);
      }
      const again = await failureOf(ranks.peers[0]!.ask({ kind: 'run' }));
      assert.equal(again.rank, 1, 'later runs say the same');
    });

    test('a rank that stalls in the midst of a run is named when the time is up', async () => {
      await using ranks = await Ranks.start(sibling, 2, { operationTimeoutMs: 500 });
      const [other] = await ranks.repeat(0);
      ranks.peers[0]!.process.kill('SIGSTOP');
      const failure = await other!;
      assert.equal(failure.code, 'COMM');
      assert.equal(failure.rank, 0, failure.message);
      assert.match(failure.message, /rank 0 is late: nothing came from it for \d+ ms/);
    });

    test('abort ends the run of every rank with its reason', async () => {
      await using ranks = await Ranks.start(sibling, 2);
      const [other] = await ranks.repeat(0);
      await ranks.peers[0]!.ask({ kind: 'abort', reason: 'the loss is not a number' });
      const failure = await other!;
      assert.equal(failure.code, 'COMM');
      assert.equal(failure.rank, 0);
      assert.match(failure.message, /: rank 0 aborted the group: the loss is not a number$/);
    });

    test('a device that is disposed in the midst of a run ends it for all', async () => {
      await using ranks = await Ranks.start(sibling, 2);
      const stuck = failureOf(ranks.peers[0]!.ask({ kind: 'run' })); // waits for rank 1, which never comes
      await ranks.peers[0]!.ask({ kind: 'dispose' });
      assert.match((await stuck).message, /the device was disposed/);
      const failure = await failureOf(ranks.peers[1]!.ask({ kind: 'run' }));
      assert.equal(failure.rank, 0, failure.message);
      assert.match(failure.message, /rank 0 aborted the group: the device was disposed/);
    });

    test('a process may end in the midst of a run', async () => {
      await using ranks = await Ranks.start(sibling, 2);
      const ended = once(ranks.peers[1]!.process, 'exit');
      ranks.peers[1]!.ask({ kind: 'exit' }).catch(() => {}); // its process ends before it can answer
      assert.equal((await ended)[0], 7);
      const failure = await failureOf(ranks.peers[0]!.ask({ kind: 'run' }));
      assert.equal(failure.rank, 1, failure.message);
    });
  });
}

test('nothing is left in /dev/shm', () => {
  assert.deepEqual(
    readdirSync('/dev/shm').filter((name) => name.startsWith(prefix)),
    [],
  );
});
