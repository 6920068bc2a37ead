// Single ops by the device's own clock: products, copies, AdamW, norms, attention.
import type { NativeDevice } from '#src/native/index.js';
import { PlanWriter, type TensorHandle } from '../../test/support/native-plan.js';
import { nameOf, type Shapes, show } from './shapes.js';

const REPEATS = 10;

/** What the machine reached: the fastest product, and the bytes that a copy reads and writes. */
export interface Ceilings {
  readonly flopsPerSecond: number;
  readonly bytesPerSecond: number;
}

/** Median seconds of the instructions after the first of `build`'s op, repeated on memory that holds noise. */
async function secondsOf(device: NativeDevice, build: (plan: PlanWriter) => void): Promise<number> {
  const plan = new PlanWriter();
  build(plan);
  const buffer = device.allocate(plan.bytes);
  const noise = new Uint8Array(Math.min(16 << 20, plan.bytes));
  // Exponents of small numbers: what is multiplied costs as much power as in training.
  for (let i = 0; i + 1 < noise.length; i += 2) {
    noise[i] = (i * 2654435761) >>> 24;
    noise[i + 1] = 0x3c | ((i * 40503) & 0x80);
  }
  for (let at = 0; at < plan.bytes; at += noise.length)
    device.write(buffer, at, noise.subarray(0, Math.min(noise.length, plan.bytes - at)));
  plan.writeValues(device, buffer);
  const program = device.load(plan.encode(), [buffer], []);
  await program.profile();
  const seconds = [...(await program.profile())].sort((a, b) => a - b);
  program.dispose();
  device.free(buffer);
  return seconds[seconds.length >> 1]!;
}

const times = (count: number, body: () => void): void => {
  for (let i = 0; i < count; i++) body();
};

/** Devices whose attention is by our own kernels alone, and by cuDNN alone: what the choice between the two is made of. */
export interface ByKernels {
  readonly own: NativeDevice;
  readonly cudnn: NativeDevice;
}

export async function measureOps(device: NativeDevice, by: ByKernels, shapes: Shapes): Promise<Ceilings> {
  const flopsPerSecond = await products(device, shapes);
  const bytesPerSecond = await copies(device, shapes);
  await adamw(device, shapes, bytesPerSecond);
  await norms(device, shapes, bytesPerSecond);
  await attention(device, by, shapes);
  return { flopsPerSecond, bytesPerSecond };
}

async function products(device: NativeDevice, shapes: Shapes): Promise<number> {
  let best = 0;
  for (const shape of shapes.products) {
    const [n, i, o] = shape;
    const seconds = await secondsOf(device, (plan) => {
      const x = plan.tensor([n, i], null, 'bf16');
      const w = plan.tensor([o, i], null, 'bf16');
      const y = plan.tensor([n, o], null, 'bf16');
      times(REPEATS, () => plan.op('linear', [x, w], [y], [0, 0]));
    });
    const flops = (2 * n * i * o) / seconds;
    best = Math.max(best, flops);
    show(nameOf.product(shape), { seconds, teraflops: flops / 1e12 });
  }
  return best;
}

async function copies(device: NativeDevice, { copied }: Shapes): Promise<number> {
  const seconds = await secondsOf(device, (plan) => {
    const [x, y] = [plan.tensor([copied], null, 'bf16'), plan.tensor([copied], null, 'bf16')];
    times(REPEATS, () => plan.op('copy', [x], [y]));
  });
  const bytes = (copied * 4) / seconds;
  show(nameOf.copy, { seconds, terabytesPerSecond: bytes / 1e12 });
  return bytes;
}

async function adamw(device: NativeDevice, { stepped: n }: Shapes, ceiling: number): Promise<void> {
  const seconds = await secondsOf(device, (plan) => {
    const [p, m, v, g] = [plan.tensor([n]), plan.tensor([n]), plan.tensor([n]), plan.tensor([n])];
    const scalars = [plan.tensor([1]), plan.tensor([1]), plan.tensor([1])];
    const rounded = plan.tensor([n], null, 'bf16');
    times(REPEATS, () =>
      plan.op('adamw', [p, m, v, g, ...scalars], [p, m, v, rounded], [0.9, 0.95, 1e-8, 0.1, n, 1, 1]),
    );
  });
  const bytes = (n * (4 * 7 + 2)) / seconds;
  show(nameOf.adamw, { seconds, terabytesPerSecond: bytes / 1e12, ofCopy: bytes / ceiling });
}

async function norms(device: NativeDevice, shapes: Shapes, ceiling: number): Promise<void> {
  for (const shape of shapes.norms) {
    const [n, d] = shape;
    const seconds = await secondsOf(device, (plan) => {
      const [x, y] = [plan.tensor([n, d], null, 'bf16'), plan.tensor([n, d], null, 'bf16')];
      const [gain, rstd] = [plan.tensor([d], null, 'bf16'), plan.tensor([n])];
      times(REPEATS, () => plan.op('rms_norm', [x, gain], [y, rstd], [1e-6]));
    });
    const bytes = (n * d * 4) / seconds;
    show(nameOf.norm(shape), { seconds, terabytesPerSecond: bytes / 1e12, ofCopy: bytes / ceiling });
  }
}

async function attention(device: NativeDevice, by: ByKernels, shapes: Shapes): Promise<void> {
  for (const shape of shapes.attention) {
    const [batch, tokens, heads, c] = shape;
    const n = batch * tokens;
    const attributes = [heads, heads, c, 1 / Math.sqrt(c), 1, 0, 0, c, 0, c, 0, c];
    const mask = (plan: PlanWriter) => {
      const at = (value: (row: number) => number) => plan.ints(Array.from({ length: n }, (_, row) => value(row)));
      return [at((row) => row - (row % tokens)), at((row) => row - (row % tokens) + tokens)];
    };
    const operand = (plan: PlanWriter): TensorHandle => plan.tensor([n, heads * c], null, 'bf16');
    const forward = (plan: PlanWriter): void => {
      const [q, k, v, o, lse] = [operand(plan), operand(plan), operand(plan), operand(plan), plan.tensor([n, heads])];
      const segments = mask(plan);
      times(3, () => plan.op('attention', [q, k, v, ...segments], [o, lse], attributes));
    };
    const backward = (plan: PlanWriter): void => {
      const [q, k, v, o, dO] = [operand(plan), operand(plan), operand(plan), operand(plan), operand(plan)];
      const outputs = [operand(plan), operand(plan), operand(plan)];
      const lse = plan.tensor([n, heads]);
      const segments = mask(plan);
      times(3, () => plan.op('attention_backward', [dO, o, lse, q, k, v, ...segments], outputs, attributes));
    };
    const flops = (2 * 2 * batch * heads * tokens * tokens * c) / 2; // causal
    const figuresOn = async (on: NativeDevice) => {
      const [forwardSeconds, backwardSeconds] = [await secondsOf(on, forward), await secondsOf(on, backward)];
      const forwardTeraflops = flops / forwardSeconds / 1e12;
      return {
        forwardSeconds,
        forwardTeraflops,
        backwardSeconds,
        backwardTeraflops: (2.5 * flops) / backwardSeconds / 1e12,
      };
    };
    const [own, cudnn] = [await figuresOn(by.own), await figuresOn(by.cudnn)];
    show(nameOf.attention(shape), {
      ...(await figuresOn(device)),
      ownForwardTeraflops: own.forwardTeraflops,
      ownBackwardTeraflops: own.backwardTeraflops,
      cudnnForwardTeraflops: cudnn.forwardTeraflops,
      cudnnBackwardTeraflops: cudnn.backwardTeraflops,
    });
  }
}
