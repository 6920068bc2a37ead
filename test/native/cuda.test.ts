// The CUDA device around its ops, on an emulated or a real GPU: what is captured and replayed, errors of a run, streams and
// waits, copies of the host, collectives of groups that know nothing of GPUs. Ops are tested where the CPU's are.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { type NativeCommunicator, type NativeDevice, native } from '#src/native/index.js';
import { CUDA, openCuda } from '../support/devices.js';
import { PlanWriter } from '../support/native-plan.js';
import { range } from './engine-reference.js';

async function withCuda(body: (device: NativeDevice) => Promise<void>): Promise<void> {
  const device = CUDA.open();
  try {
    await body(device);
  } finally {
    device.dispose();
  }
}

const fails = (code: string, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof Error);
  assert.equal((error as Error & { code?: string }).code, code, error.message);
  assert.match(error.message, message);
  return true;
};

test('memory is zeroed, counted, copied in and out, and refused where there is none', () =>
  withCuda(async (device) => {
    const buffer = device.allocate(1001);
    const bytes = new Uint8Array(1001).fill(1);
    device.read(buffer, 0, bytes);
    assert.ok(bytes.every((byte) => byte === 0));
    device.write(buffer, 500, Uint8Array.of(1, 2, 3));
    device.read(buffer, 499, bytes.subarray(0, 5));
    assert.deepEqual([...bytes.subarray(0, 5)], [0, 1, 2, 3, 0]);
    assert.throws(
      () => device.read(buffer, 1000, bytes),
      fails('ENGINE', /1001 bytes at 1000 end behind a buffer of 1001/),
    );
    assert.throws(() => device.allocate(2 ** 50), fails('ENGINE', /cannot allocate 1125899906842624 bytes on GPU 0/));
    device.copy(buffer, 500, buffer, 900, 3);
    device.read(buffer, 899, bytes.subarray(0, 5));
    assert.deepEqual([...bytes.subarray(0, 5)], [0, 1, 2, 3, 0]);
    assert.throws(
      () => device.copy(buffer, 500, buffer, 501, 3),
      fails('ENGINE', /3 bytes at 500 overlap those at 501/),
    );
    assert.throws(
      () => device.copy(buffer, 0, buffer, 1000, 2),
      fails('ENGINE', /2 bytes at 1000 end behind a buffer/),
    );
    device.free(buffer);
    assert.equal(device.allocatedBytes, 0);
  }));

test('a GPU that is not there is an error that says how many there are', () => {
  assert.throws(() => openCuda(100), /there is no GPU 100, this process sees \d+/);
});

test('later runs replay a graph over the same memory: what changes in it counts', () =>
  withCuda(async (device) => {
    const plan = new PlanWriter();
    const [x, y, z] = [plan.tensor([3], [1, 2, 3]), plan.tensor([3]), plan.tensor([3])];
    plan.op('scale', [x], [y], [2]);
    plan.op('add', [y, x], [z]);
    const loaded = plan.load(device);
    for (const run of range(4)) {
      loaded.write(x, [run, run + 1, run + 2]);
      await loaded.program.run();
      assert.deepEqual(loaded.read(z), [3 * run, 3 * run + 3, 3 * run + 6]);
    }
    loaded.dispose();
  }));

test('a host view and copies see the same memory', () =>
  withCuda(async (device) => {
    const plan = new PlanWriter();
    const [x, y] = [plan.tensor([2], [1, 2]), plan.tensor([2])];
    plan.op('scale', [x], [y], [3]);
    const buffer = device.allocate(plan.bytes);
    const view = new Float32Array(device.view(buffer));
    const program = device.load(plan.encode(), [buffer], []);
    device.write(buffer, x.offsetBytes, new Uint8Array(Float32Array.of(5, 7).buffer));
    assert.equal(view[x.offsetBytes / 4], 5);
    await program.run();
    assert.equal(view[y.offsetBytes / 4 + 1], 21);
    const bytes = new Uint8Array(8);
    device.read(buffer, y.offsetBytes, bytes);
    assert.deepEqual([...new Float32Array(bytes.buffer)], [15, 21]);
    program.dispose();
  }));

/** A chain that goes back and forth between the streams: each link overwrites what the one before it read. */
function chain(links: number): { plan: PlanWriter; last: ReturnType<PlanWriter['tensor']> } {
  const plan = new PlanWriter();
  const tensors = [plan.tensor([300], Array(300).fill(1)), plan.tensor([300])];
  let wait: number[] = [];
  for (const i of range(links)) {
    const at = plan.op('scale', [tensors[i % 2]!], [tensors[(i + 1) % 2]!], [i % 3 === 0 ? 2 : 0.5], {
      stream: (i % 2) as 0 | 1,
      waits: wait,
    });
    wait = [at];
  }
  return { plan, last: tensors[links % 2]! };
}

test('streams wait for each other where the plan says so: first, captured, observed and delayed', () =>
  withCuda(async (device) => {
    const { plan, last } = chain(16);
    const loaded = plan.load(device);
    const expected = 2 ** (6 - 10);
    const first = plan.load(device);
    for (const run of [
      () => first.program.run(),
      () => first.program.run(),
      () => first.program.jitter(7),
      () => first.program.check(),
      () => first.program.profile(),
    ]) {
      first.write(plan.at(64, [300]), Array(300).fill(1));
      await run();
      assert.ok(first.read(last).every((x) => x === expected));
    }
    loaded.dispose();
  }));

test('a profile has the seconds of each instruction', () =>
  withCuda(async (device) => {
    const { plan } = chain(4);
    const seconds = await plan.load(device).program.profile();
    assert.equal(seconds.length, 4);
    assert.ok(seconds.every((each) => each >= 0 && each < 10));
  }));

test('a value out of range is the error that the CPU gives, the lowest one of the first op, and the device runs on', () =>
  withCuda(async (device) => {
    const plan = new PlanWriter();
    const ids = plan.tensor([5], [0, 1, 9, -3, 2], 'i32');
    const y = plan.tensor([5, 4]);
    plan.op('embedding', [ids, plan.tensor([3, 4], Array(12).fill(1))], [y], [0], { path: 'transformer.wte' });
    plan.op('gather_rows', [y, plan.ints([7])], [plan.tensor([1, 4])]);
    const loaded = plan.load(device);
    for (const _ of range(3))
      await assert.rejects(
        loaded.program.run(),
        fails('ENGINE', /instruction 0 \(embedding, transformer\.wte\): ids\[2\] is 9, expected 0 <= value < 3/),
      );
    loaded.write(ids, [0, 1, 2, 0, 2]);
    await assert.rejects(loaded.program.run(), fails('ENGINE', /instruction 1 \(gather_rows\): index\[0\] is 7/));
  }));

test('segments that do not tile the rows are named as on the CPU', () =>
  withCuda(async (device) => {
    for (const [starts, ends, message] of [
      [[0, 1, 0], [3, 3, 3], /starts\[1\] is 1, expected 0 <= value < 1/],
      [[0, 0, 2], [2, 3, 3], /ends\[1\] is 3, expected 2 <= value < 3/],
      [[0, 0, 2], [2, 2, 9], /ends\[2\] is 9, expected 3 <= value < 4/],
    ] as const) {
      const plan = new PlanWriter();
      const x = plan.tensor([3, 2], Array(6).fill(1));
      const mask = [plan.ints(starts), plan.ints(ends)];
      const outputs = [plan.tensor([3, 2]), plan.tensor([3, 1])];
      plan.op('attention', [x, x, x, ...mask], outputs, [1, 1, 2, 1, 1, 0, 0, 2, 0, 2, 0, 2]);
      await assert.rejects(plan.load(device).program.run(), fails('ENGINE', message));
    }
  }));

test('a check tells the first number that is not finite, by op and path, and goes on to the end', () =>
  withCuda(async (device) => {
    const plan = new PlanWriter();
    const x = plan.tensor([4], [1, -1, 2, 3]);
    const y = plan.tensor([4], null, 'f16');
    plan.op('scale', [x], [x], [60000], { path: 'model.big' });
    plan.op('cast', [x], [y], [], { path: 'model.cast' });
    const z = plan.tensor([4], null, 'f16');
    plan.op('add', [y, y], [z], [], { path: 'model.add' });
    const loaded = plan.load(device);
    assert.deepEqual(await loaded.program.check(), {
      instruction: 1,
      message: 'instruction 1 (cast, model.cast): y[2] is not finite',
    });
    assert.equal(loaded.read(z)[2], 0x7c00, 'what comes behind has run too');
  }));

async function pair<T>(
  use: (group: NativeCommunicator, rank: number) => Promise<T>,
): Promise<PromiseSettledResult<T>[]> {
  const name = `raylite-test-${randomUUID()}`;
  return Promise.allSettled(
    range(2).map(async (rank) => {
      const group = await native().joinShmGroup({ name, rank, size: 2, timeoutMs: 60_000 });
      try {
        return await use(group, rank);
      } finally {
        group.dispose();
      }
    }),
  );
}

test('collectives in shared memory move the numbers of two GPUs, in a first run and in a replayed one', async () => {
  const results = await pair(async (group, rank) => {
    const device = openCuda(rank);
    try {
      const plan = new PlanWriter();
      const sum = plan.tensor([3], [1 + rank, 2, 3]);
      const whole = plan.tensor([4], [rank, 10, 20, 30]);
      const gathered = plan.tensor([4]);
      const mine = (tensor: typeof whole) => plan.at(tensor.offsetBytes + 8 * rank, [2]);
      const first = plan.op('all_reduce', [sum], [sum], [0, 0], { stream: 1 });
      plan.op('reduce_scatter', [whole], [mine(whole)], [0], { stream: 1 });
      plan.op('copy', [mine(whole)], [mine(gathered)], [], { stream: 1 });
      plan.op('all_gather', [mine(gathered)], [gathered], [0], { stream: 1 });
      plan.op('barrier', [], [], [0], { stream: 1 });
      plan.op('scale', [sum], [sum], [1], { waits: [first] });
      const loaded = plan.load(device, [group]);
      const seen: number[][] = [];
      for (const _ of range(3)) {
        loaded.write(sum, [1 + rank, 2, 3]);
        loaded.write(whole, [rank, 10, 20, 30]);
        await loaded.program.run();
        seen.push([...loaded.read(sum), ...loaded.read(gathered)]);
      }
      return seen;
    } finally {
      device.dispose();
    }
  });
  for (const result of results) {
    if (result.status === 'rejected') throw result.reason;
    for (const run of result.value) assert.deepEqual(run, [3, 4, 6, 1, 20, 40, 60]);
  }
});

test('a collective whose peer leaves fails the run with COMM and its rank', async () => {
  const [left, right] = await pair(async (group, rank) => {
    if (rank === 1) return;
    const device = openCuda(0);
    try {
      const plan = new PlanWriter();
      const x = plan.tensor([3], [1, 2, 3]);
      plan.op('all_reduce', [x], [x], [0, 0], { stream: 1, path: 'gradients' });
      await plan.load(device, [group]).program.run();
    } finally {
      device.dispose();
    }
  });
  assert.equal(right?.status, 'fulfilled');
  assert.ok(left?.status === 'rejected');
  assert.equal(left.reason.code, 'COMM', left.reason.message);
  assert.equal(left.reason.rank, 1);
  assert.match(left.reason.message, /instruction 0/);
});
