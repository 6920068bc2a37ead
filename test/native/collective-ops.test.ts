// The collectives as instructions: what each leaves, for the types that it takes, and what it refuses before anything runs. On CPUs,
// on GPUs through the host, and on GPUs by NCCL.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { narrow } from '#src/engine/index.js';
import { type NativeCommunicator, type NativeDevice, native } from '#src/native/index.js';
import { IS_GPU, openCuda } from '../support/devices.js';
import { type LoadedPlan, PlanWriter, type TensorHandle } from '../support/native-plan.js';

const RANKS = 3;
const ranks = Array.from({ length: RANKS }, (_, rank) => rank);
const COMMUNICATES = { stream: 1, path: 'here' } as const;

const CARRIERS = [
  { name: 'CPUs', open: () => native().createDevice({ threads: 1, isa: null, pin: false }), isByDevice: false },
  { name: 'GPUs through the host', open: openCuda, isByDevice: false },
  { name: 'GPUs by NCCL', open: openCuda, isByDevice: true },
];

for (const { name: carrier, open, isByDevice } of CARRIERS) {
  describe(`collective instructions of three ranks on ${carrier}`, () => {
    let groups: NativeCommunicator[] = [];
    let devices: NativeDevice[] = [];
    before(async () => {
      const name = `rlt-${randomUUID()}`;
      const join = (rank: number) => native().joinShmGroup({ name, rank, size: RANKS, timeoutMs: 60_000 });
      groups = await Promise.all(ranks.map(join));
      devices = ranks.map(open);
      if (!isByDevice) return;
      const reasons = await Promise.all(ranks.map((rank) => devices[rank]!.join(groups[rank]!, 60_000)));
      assert.deepEqual(reasons, [null, null, null]);
    });
    after(() => {
      for (const device of devices) device.dispose();
      for (const group of groups) group.dispose();
    });

    /** Runs the plan that `write` makes for each rank; what the tensor that it returns holds afterwards. */
    async function run(write: (plan: PlanWriter, rank: number) => TensorHandle): Promise<number[][]> {
      const loaded = ranks.map((rank): readonly [LoadedPlan, TensorHandle] => {
        const plan = new PlanWriter();
        const result = write(plan, rank);
        return [plan.load(devices[rank]!, [groups[rank]!]), result];
      });
      try {
        await Promise.all(loaded.map(([{ program }]) => program.run()));
        return loaded.map(([plan, result]) => [...plan.read(result)]);
      } finally {
        for (const [plan] of loaded) plan.dispose();
      }
    }

    // NCCL rounds at every rank.
    test('all_reduce sums matrices of 16-bit numbers in f32 and rounds once', {
      skip: isByDevice && IS_GPU,
    }, async () => {
      // 1 + 2^-9 + 2^-9: in bf16 each addition by itself would round back to 1.
      const values = [1, 2 ** -8, 2 ** -8];
      const sums = await run((plan, rank) => {
        const x = plan.tensor([2, 2], narrow(new Float32Array(4).fill(values[rank]!), 'bf16'), 'bf16');
        plan.op('all_reduce', [x], [x], [0, 0], COMMUNICATES);
        return x;
      });
      const expected = Array.from(narrow(new Float32Array(4).fill(1 + 2 ** -7), 'bf16'));
      assert.deepEqual(sums, [expected, expected, expected]);
    });

    test('reduce_scatter leaves the sum of its slice, in f16 too', async () => {
      const sums = await run((plan, rank) => {
        const x = plan.tensor(
          [6],
          narrow(
            Float32Array.from({ length: 6 }, (_, i) => i + rank),
            'f16',
          ),
          'f16',
        );
        const slice = plan.at(x.offsetBytes + 4 * rank, [2], 'f16');
        plan.op('reduce_scatter', [x], [slice], [0], COMMUNICATES);
        return slice;
      });
      assert.deepEqual(
        sums,
        ranks.map((rank) => Array.from(narrow(Float32Array.of(6 * rank + 3, 6 * rank + 6), 'f16'))),
      );
    });

    test('reduce_scatter leaves it elsewhere where all of what it sums is scratch', async () => {
      const sums = await run((plan, rank) => {
        const x = plan.tensor(
          [3, 2],
          Float32Array.from({ length: 6 }, (_, i) => i + rank),
        );
        const slice = plan.tensor([1, 2]);
        plan.op('reduce_scatter', [x], [slice, x], [0], COMMUNICATES);
        return slice;
      });
      assert.deepEqual(
        sums,
        ranks.map((rank) => [6 * rank + 3, 6 * rank + 6]),
      );
    });

    test('all_gather, all_to_all and broadcast move bytes as they are', async () => {
      const gathered = await run((plan, rank) => {
        const y = plan.tensor([6], null, 'u8');
        const slice = plan.tensor([2], [10 * rank, 255 - rank], 'u8');
        const own = plan.at(y.offsetBytes + 2 * rank, [2], 'u8');
        // Slices are put into place by a transfer of bytes to itself: a sum would round them.
        plan.op(
          'all_to_all',
          [plan.tensor([6], [...ranks.flatMap(() => [10 * rank, 255 - rank])], 'u8')],
          [y],
          [0],
          COMMUNICATES,
        );
        plan.op('all_gather', [own], [y], [0], COMMUNICATES);
        plan.op('broadcast', [slice], [slice], [0, 2], COMMUNICATES);
        return y;
      });
      for (const bytes of gathered) assert.deepEqual(bytes, [0, 255, 10, 254, 20, 253]);
      const dealt = await run((plan, rank) => {
        const [x, y] = [plan.tensor([3, 1], [rank, 10 + rank, 20 + rank]), plan.tensor([3, 1])];
        plan.op('all_to_all', [x], [y], [0], COMMUNICATES);
        plan.op('broadcast', [x], [x], [0, 1], COMMUNICATES);
        return y;
      });
      assert.deepEqual(
        dealt,
        ranks.map((rank) => [10 * rank, 10 * rank + 1, 10 * rank + 2]),
      );
      const told = await run((plan, rank) => {
        const x = plan.tensor([1], [rank], 'i32');
        plan.op('broadcast', [x], [x], [0, 2], COMMUNICATES);
        return x;
      });
      assert.deepEqual(told, [[2], [2], [2]]);
    });

    test('send and recv concern two ranks alone, and send_recv does both at once', async () => {
      const passed = await run((plan, rank) => {
        const x = plan.tensor([2], [rank + 1, 7]);
        const y = plan.tensor([2]);
        // Down the line, and back: nobody but neighbours takes part.
        if (rank > 0) plan.op('recv', [y], [y], [0, rank - 1], COMMUNICATES);
        if (rank < RANKS - 1) plan.op('send', [x], [], [0, rank + 1], COMMUNICATES);
        if (rank < RANKS - 1) plan.op('recv', [y], [y], [0, rank + 1], COMMUNICATES);
        if (rank > 0) plan.op('send', [x], [], [0, rank - 1], COMMUNICATES);
        return y;
      });
      assert.deepEqual(passed, [
        [2, 7],
        [3, 7],
        [2, 7],
      ]);
      const turned = await run((plan, rank) => {
        const elements = 500_000; // more than can be under way
        const x = plan.tensor([elements], new Float32Array(elements).fill(rank));
        const y = plan.tensor([elements]);
        plan.op('send_recv', [x, y], [y], [0, (rank + 1) % RANKS, (rank + 2) % RANKS], COMMUNICATES);
        return y;
      });
      for (const rank of ranks) assert.ok(turned[rank]!.every((value) => value === (rank + 2) % RANKS));
    });

    test('transfers and collectives may follow each other in any order', async () => {
      const sums = await run((plan, rank) => {
        const [x, y] = [plan.tensor([70_000], new Float32Array(70_000).fill(rank + 1)), plan.tensor([70_000])];
        for (let turn = 0; turn < 5; turn++) {
          if (rank === turn % RANKS) plan.op('send', [x], [], [0, (rank + 1) % RANKS], COMMUNICATES);
          if (rank === (turn + 1) % RANKS) plan.op('recv', [y], [y], [0, turn % RANKS], COMMUNICATES);
          plan.op('all_reduce', [x], [x], [0, 0], COMMUNICATES);
        }
        return x;
      });
      for (const values of sums) assert.ok(values.every((value) => value === 6 * 3 ** 4));
    });

    test('what does not fit the group is refused when the program is loaded', () => {
      const rejects = (message: RegExp, write: (plan: PlanWriter) => void) => {
        const plan = new PlanWriter();
        write(plan);
        assert.throws(() => plan.load(devices[0]!, [groups[0]!]), message);
      };
      rejects(/instruction 0 \(all_to_all, here\): 4 elements are not 3 equal slices/, (plan) =>
        plan.op('all_to_all', [plan.tensor([4])], [plan.tensor([4])], [0], COMMUNICATES),
      );
      rejects(/output "y" is bf16, expected f32/, (plan) =>
        plan.op('all_to_all', [plan.tensor([3])], [plan.tensor([3], null, 'bf16')], [0], COMMUNICATES),
      );
      rejects(/attribute "to" is this rank, 0/, (plan) =>
        plan.op('send', [plan.tensor([4])], [], [0, 0], COMMUNICATES),
      );
      rejects(/attribute "from" is 3, expected an integer from 0 to 2/, (plan) => {
        const y = plan.tensor([4]);
        plan.op('recv', [y], [y], [0, 3], COMMUNICATES);
      });
      rejects(/output "x" must lie on the bytes of input "x"/, (plan) =>
        plan.op('all_reduce', [plan.tensor([3])], [plan.tensor([3])], [0, 0], COMMUNICATES),
      );
      rejects(/input "x" is i32, expected f32/, (plan) => {
        const x = plan.ints([1, 2, 3]);
        plan.op('all_reduce', [x], [x], [0, 0], COMMUNICATES);
      });
    });
  });
}
