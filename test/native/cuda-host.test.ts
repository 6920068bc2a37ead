// The host beside a GPU, real or emulated: instructions over its memory are made by the CPU's kernels on threads of the host, to the bits of
// a CPU device, whether they are put on streams, captured or replayed.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type HostOptions, type NativeDevice, native } from '#src/native/index.js';
import { EMULATED, IS_GPU, ISAS, openCuda, openEmulated } from '../support/devices.js';
import { PlanWriter, type TensorHandle } from '../support/native-plan.js';
import { random, range } from './engine-reference.js';

const HOST = 4;

/** Sums gradients, takes their norm and steps AdamW, on one stream. */
function step(stream: 0 | 4): { plan: PlanWriter; left: readonly TensorHandle[] } {
  const n = 9001;
  const plan = new PlanWriter();
  const next = random(3);
  const [p, m, g, more] = range(4).map(() => plan.tensor([n], next(n)));
  const v = plan.tensor([n], next(n).map(Math.abs));
  const [norm, factor, lr, count] = [[0], [0.5], [0.01], [3]].map((values) => plan.tensor([1], values));
  const summed = plan.tensor([n]);
  plan.op('add', [g!, more!], [summed], [], { stream });
  plan.op('sum_squares', [summed], [norm!], [0], { stream });
  const state = [p!, m!, v];
  plan.op('adamw', [...state, summed, factor!, lr!, count!], state, [0.9, 0.99, 1e-6, 0.1, 5003, 1, 1], { stream });
  return { plan, left: [...state, norm!] };
}

function bitsOf(device: NativeDevice, buffer: number, tensors: readonly TensorHandle[]): readonly Uint32Array[] {
  return tensors.map(({ offsetBytes, dims }) => {
    const bits = new Uint32Array(dims[0]!);
    device.read(buffer, offsetBytes, new Uint8Array(bits.buffer));
    return bits;
  });
}

/** What runs of the step leave. */
async function run(device: NativeDevice, stream: 0 | 4, runs: number): Promise<readonly (readonly Uint32Array[])[]> {
  try {
    const { plan, left } = step(stream);
    const buffer = device.allocate(plan.bytes, stream === HOST);
    const program = device.load(plan.encode(), [buffer], []);
    plan.writeValues(device, buffer);
    const found: (readonly Uint32Array[])[] = [];
    for (let i = 0; i < runs; i++) {
      await program.run();
      found.push(bitsOf(device, buffer, left));
    }
    program.dispose();
    return found;
  } finally {
    device.dispose();
  }
}

const open = (host: HostOptions) => (IS_GPU ? openCuda() : openEmulated(0, EMULATED, 'own', host));

for (const isa of IS_GPU ? ISAS.slice(-1) : ISAS)
  for (const threads of IS_GPU ? [2] : [1, 3])
    test(`what lies on the host is stepped there by ${isa}, ${threads} threads, to the bits of that CPU`, async () => {
      const expected = await run(native().createDevice({ threads, isa, pin: false }), HOST, 4);
      assert.deepEqual(await run(open({ threads, isa }), HOST, 4), expected);
      // The emulated GPU rounds every product, these kernels do not: it was not the GPU.
      if (!IS_GPU && isa !== 'scalar') assert.notDeepEqual(await run(openCuda(), 0, 4), expected);
    });

async function onHost(
  build: (plan: PlanWriter) => void,
  isOnHost: boolean,
  use: (program: ReturnType<NativeDevice['load']>) => Promise<void>,
): Promise<void> {
  const device = openCuda();
  try {
    const plan = new PlanWriter();
    build(plan);
    const buffer = device.allocate(plan.bytes, isOnHost);
    plan.writeValues(device, buffer);
    const program = device.load(plan.encode(), [buffer], []);
    await use(program);
    program.dispose();
  } finally {
    device.dispose();
  }
}

test('the device makes nothing over memory of the host, and the host nothing over that of the device', async () => {
  for (const [stream, isOnHost, message] of [
    [0, true, /instruction 0 \(scale\): is made by the device, but buffer 0 "memory" lies on the host/],
    [4, false, /instruction 0 \(scale\): is made by the host, but buffer 0 "memory" lies on the device/],
  ] as const) {
    const scale = (plan: PlanWriter) => {
      plan.op('scale', [plan.tensor([3])], [plan.tensor([3])], [2], { stream });
    };
    await assert.rejects(
      onHost(scale, isOnHost, async () => {}),
      message,
    );
  }
});

test('a value that the host may not take ends the run, the next one too, and what is not finite there is found', async () => {
  const lookUp = (plan: PlanWriter) => {
    const [table, ids] = [plan.tensor([4, 2]), plan.ints([1, 9, 3])];
    plan.op('gather_rows', [table, ids], [plan.tensor([3, 2])], [], { stream: HOST });
  };
  await onHost(lookUp, true, async (program) => {
    for (let i = 0; i < 3; i++)
      await assert.rejects(program.run(), /gather_rows\): .*\[1\] is 9, expected 0 <= value < 4/);
  });
  const overflow = (plan: PlanWriter) => {
    plan.op('scale', [plan.tensor([3], [1, 3e38, 1])], [plan.tensor([3])], [2], { stream: HOST });
  };
  await onHost(overflow, true, async (program) => {
    assert.match((await program.check())!.message, /instruction 0 \(scale\): .*\[1\] is not finite/);
    assert.ok((await program.profile())[0]! >= 0);
  });
});
