// Groups whose GPUs exchange by NCCL, real or emulated: which can, and what becomes of the others when a rank ends, stands still, is
// late or gives up. What the collectives leave is tested with those of CPUs. As many GPUs as ranks.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { WatchNews } from '#src/native/index.js';
import { openCuda, openEmulated } from '../support/devices.js';
import { PlanWriter } from '../support/native-plan.js';
import { range } from './engine-reference.js';
import { type Member, together } from './members.js';
import { failureOf } from './peer-process.js';
import { alone, Ranks } from './program-ranks.js';

const reasonOf = async ({ reason }: Member) => reason ?? '';

test('ranks that share a GPU are named with it', async () => {
  const reasons = await together(
    [0, 1, 0].map((index) => () => openCuda(index)),
    reasonOf,
  );
  for (const reason of reasons)
    assert.match(reason, /^rank 10 and rank 12 share the GPU 0000:..:00.0, which NCCL refuses$/);
});

test('a rank without NCCL is named to all, and they exchange through the host', async () => {
  const sums = await together([() => openCuda(0), () => openEmulated(1, null)], async ({ device, group, reason }) => {
    assert.match(reason ?? '', /^rank 11 has no NCCL: NCCL was not found: /);
    const plan = new PlanWriter();
    const x = plan.tensor([1], [group.rank + 1]);
    plan.op('all_reduce', [x], [x], [0, 0], { stream: 1 });
    const loaded = plan.load(device, [group]);
    await loaded.program.run();
    return loaded.read(x)[0];
  });
  assert.deepEqual(sums, [3, 3]);
  const nowhere = () => openEmulated(1, '/nowhere/libnccl.so.2');
  for (const reason of await together([() => openCuda(0), nowhere], reasonOf))
    assert.match(reason, /^rank 11 has no NCCL: NCCL cannot be opened: \/nowhere/);
});

const GPUS = { gpus: [0, 1, 2] };

test('two and three processes on GPUs get what one on a CPU gets, run after run', async () => {
  for (const size of [2, 3]) {
    await using ranks = await Ranks.start('shm', size, GPUS);
    const expected = await alone(size);
    for (const _ of range(4)) {
      const results = await Promise.all(ranks.peers.map((peer) => peer.ask({ kind: 'run' })));
      assert.deepEqual(results, Array(size).fill(expected));
    }
  }
});

test('a rank that is killed is named by the others, which go on in a new group without it', async () => {
  await using ranks = await Ranks.start('shm', 3, GPUS);
  const others = await ranks.repeat(1);
  await ranks.peers[1]!.kill('SIGKILL');
  for (const failure of await Promise.all(others)) {
    assert.equal(failure.code, 'COMM');
    assert.equal(failure.rank, 1, failure.message);
    assert.match(failure.message, /rank 1/);
  }
  const again = await failureOf(ranks.peers[0]!.ask({ kind: 'run' }));
  assert.equal(again.rank, 1, 'later runs say the same');
  const left = [ranks.peers[0]!, ranks.peers[2]!];
  await ranks.rejoin(left, 'shm', GPUS);
  const results = await Promise.all(left.map((peer) => peer.ask({ kind: 'run' })));
  assert.deepEqual(results, Array(2).fill(await alone(2)));
});

test('a rank that stands still is named by who waits for it, with collective and instruction', async () => {
  await using ranks = await Ranks.start('shm', 2, GPUS);
  const [other] = await ranks.repeat(0);
  ranks.peers[0]!.process.kill('SIGSTOP');
  const failure = await other!;
  assert.equal(failure.code, 'COMM');
  assert.equal(failure.rank, 0, failure.message);
  assert.match(
    failure.message,
    /^instruction \d \((reduce_scatter|all_gather|all_reduce|barrier).*rank 0 stands still/,
  );
});

test('a rank that lives but does not come ends the wait of the others when the time is up', async () => {
  await using ranks = await Ranks.start('shm', 2, { ...GPUS, operationTimeoutMs: 500 });
  const failure = await failureOf(ranks.peers[0]!.ask({ kind: 'run' }));
  assert.equal(failure.code, 'COMM');
  assert.match(
    failure.message,
    /^instruction 0 \(reduce_scatter, gradients\): rank 1 is late: nothing came from it for 500 ms while rank 0 waited for it$/,
  );
  assert.equal(failure.rank, 1);
});

test('a rank that lets the others wait is told to them by name, with the instruction that their GPUs are at', async () => {
  await using ranks = await Ranks.start('shm', 3, GPUS);
  const waiting = [0, 2].map((rank) => ranks.peers[rank]!.ask({ kind: 'run' }));
  for (const rank of [0, 2]) {
    const { kind, ranks: late, message }: WatchNews = JSON.parse(await ranks.peers[rank]!.ask({ kind: 'news' }));
    assert.deepEqual([kind, late], ['late', [1]]);
    const expected = `^rank 1 is late: rank ${rank} has waited \\d\\.\\d s at instruction 0 \\(reduce_scatter, gradients\\)$`;
    assert.match(message, new RegExp(expected));
  }
  const result = await ranks.peers[1]!.ask({ kind: 'run' });
  assert.deepEqual(await Promise.all(waiting), [result, result], 'which then go on');
});

test('abort and a device that is disposed in the midst of a run end it for all, with the reason', async () => {
  await using ranks = await Ranks.start('shm', 2, GPUS);
  const [other] = await ranks.repeat(0);
  await ranks.peers[0]!.ask({ kind: 'abort', reason: 'the loss is not a number' });
  const failure = await other!;
  assert.equal(failure.rank, 0, failure.message);
  assert.match(failure.message, /rank 0 aborted the group: the loss is not a number$/);

  await ranks.rejoin(ranks.peers, 'shm', GPUS);
  const stuck = failureOf(ranks.peers[0]!.ask({ kind: 'run' })); // waits for rank 1, which never comes
  await ranks.peers[0]!.ask({ kind: 'dispose' });
  assert.match((await stuck).message, /the device was disposed/);
  const late = await failureOf(ranks.peers[1]!.ask({ kind: 'run' }));
  assert.equal(late.rank, 0, late.message);
});
