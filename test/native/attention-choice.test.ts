// Attention by cuDNN beside our own kernels on CUDA: the same numbers, only where all segments are alike, and chosen by measured times. Emulated, cuDNN
// is plain loops that take as long as RAYLITE_EMULATED_CUDNN says (native/emulate/cudnn_attention.cpp).
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type AttentionChoice, type NativeDevice, native } from '#src/native/index.js';
import { EMULATED, HOST, IS_GPU, NO_CUDNN, openCudaWith } from '../support/devices.js';
import { type LoadedPlan, PlanWriter, type TensorHandle } from '../support/native-plan.js';
import { random, range } from './engine-reference.js';

interface Shape {
  readonly type: 'bf16' | 'f16';
  readonly rows: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly causal: boolean;
  readonly window: number;
  readonly isFused: boolean;
}

const SHAPE: Shape = {
  ...{ type: 'bf16', rows: 256, heads: 4, kvHeads: 2, headDim: 16 },
  ...{ causal: true, window: 0, isFused: true },
};

interface Attention {
  readonly plan: PlanWriter;
  readonly starts: TensorHandle;
  readonly ends: TensorHandle;
  /** What is compared, as float32. */
  readonly results: readonly TensorHandle[];
}

/** Attention and its gradient over numbers of 16 bits. */
function attentionOf({ type, rows, heads, kvHeads, headDim: C, causal, window, isFused }: Shape): Attention {
  const plan = new PlanWriter();
  const next = random(rows + C);
  const filled = (columns: number) => {
    const [wide, half] = [plan.tensor([rows, columns], next(rows * columns)), plan.tensor([rows, columns], null, type)];
    plan.op('cast', [wide], [half]);
    return half;
  };
  const [q, kv] = [heads * C, kvHeads * C];
  const widths = isFused ? [q + 2 * kv] : [q, kv, kv];
  const inputs = widths.map(filled);
  const grads = widths.map((width) => plan.tensor([rows, width], null, type));
  const three = (tensors: readonly TensorHandle[]) => (isFused ? [tensors[0]!, tensors[0]!, tensors[0]!] : tensors);
  const offsets = isFused ? [0, C, q, C, q + kv, C] : [0, C, 0, C, 0, C];
  const attributes = [heads, kvHeads, C, C ** -0.5, causal ? 1 : 0, window, ...offsets];
  const [starts, ends] = [plan.ints(range(rows)), plan.ints(range(rows))];
  const [o, lse, gradO] = [plan.tensor([rows, q], null, type), plan.tensor([rows, heads]), filled(q)];
  plan.op('attention', [...three(inputs), starts, ends], [o, lse], attributes);
  plan.op('attention_backward', [gradO, o, lse, ...three(inputs), starts, ends], three(grads), attributes);
  const results = [o, ...grads].map((tensor) => {
    const wide = plan.tensor(tensor.dims);
    plan.op('cast', [tensor], [wide]);
    return wide;
  });
  return { plan, starts, ends, results: [...results, lse] };
}

function lay(loaded: LoadedPlan, { starts, ends }: Attention, lengths: readonly number[]): void {
  const begins = lengths.map((_, s) => lengths.slice(0, s).reduce((sum, x) => sum + x, 0));
  const each = (value: (s: number) => number) => lengths.flatMap((length, s) => range(length).map(() => value(s)));
  loaded.write(
    starts,
    each((s) => begins[s]!),
  );
  loaded.write(
    ends,
    each((s) => begins[s]! + lengths[s]!),
  );
}

const EQUAL = [128, 128];
const PACKED = [100, 1, 27, 128];

/** The results of a run for each layout of the segments, and what was chosen. */
async function run(
  open: () => NativeDevice,
  shape: Shape,
  layouts: readonly (readonly number[])[],
): Promise<{ readonly results: readonly number[][][]; readonly choices: readonly string[] }> {
  const device = open();
  try {
    const attention = attentionOf(shape);
    const loaded = attention.plan.load(device);
    const results: number[][][] = [];
    for (const lengths of layouts) {
      lay(loaded, attention, lengths);
      await loaded.program.run();
      results.push(attention.results.map((tensor) => loaded.read(tensor)));
    }
    return { results, choices: device.choices() };
  } finally {
    device.dispose();
  }
}

const by = (choice: AttentionChoice) => () => openCudaWith(choice);

/** Emulated cuDNN in a manner of its own. */
function meeting(manner: string, choice: AttentionChoice = 'measured'): () => NativeDevice {
  return () => {
    process.env.RAYLITE_EMULATED_CUDNN = manner;
    return openCudaWith(choice);
  };
}

function near(found: readonly number[][], expected: readonly number[][], tolerance: number): void {
  for (const [at, values] of expected.entries()) {
    const rms = Math.sqrt(values.reduce((sum, x) => sum + x * x, 0) / values.length);
    for (const [i, x] of values.entries()) {
      const error = Math.abs(found[at]![i]! - x) / Math.max(rms, Math.abs(x));
      assert.ok(error <= tolerance, `number ${i} of result ${at} is ${found[at]![i]}, of our own kernels ${x}`);
    }
  }
}

const TOLERANCES = { bf16: 6 * 2 ** -8, f16: 6 * 2 ** -11 } as const;

for (const shape of [
  SHAPE,
  { ...SHAPE, type: 'f16', isFused: false, kvHeads: 4, headDim: 64 },
  { ...SHAPE, causal: false, headDim: 80, heads: 2, kvHeads: 1 },
  { ...SHAPE, window: 40 },
  { ...SHAPE, type: 'f16', causal: false, window: 40 },
  { ...SHAPE, heads: 1, kvHeads: 1, headDim: 136 },
] as const) {
  const { type, heads, kvHeads, headDim, causal, window, isFused } = shape;
  const label = `${type}, ${heads}/${kvHeads} heads of ${headDim}, causal ${causal}, window ${window}, fused ${isFused}`;
  test(`cuDNN's attention on CUDA has the numbers of our own: ${label}`, { skip: NO_CUDNN }, async () => {
    const found = await run(by('cudnn'), shape, [EQUAL, EQUAL]);
    const own = await run(by('own'), shape, [EQUAL]);
    for (const results of found.results) near(results, own.results[0]!, TOLERANCES[type]);
    assert.equal(found.choices.length, 2, found.choices.join('\n'));
    for (const line of found.choices) assert.match(line, /cuDNN.*, as asked for$/);
    assert.deepEqual(own.choices, []);
  });
}

test('on CUDA cuDNN has the runs whose segments are all alike, in any order with others', {
  skip: NO_CUDNN,
}, async () => {
  const layouts = [PACKED, EQUAL, PACKED, [256], EQUAL, PACKED, [256], EQUAL];
  const own = await run(by('own'), SHAPE, layouts);
  const found = await run(by('cudnn'), SHAPE, layouts);
  for (const [at, lengths] of layouts.entries()) {
    if (lengths === PACKED) assert.deepEqual(found.results[at], own.results[at]);
    else near(found.results[at]!, own.results[at]!, TOLERANCES.bf16);
  }
  // Forward and gradient, of two segments and of one.
  assert.equal(found.choices.length, 4, found.choices.join('\n'));
});

test('on CUDA segments of other lengths than multiples of 128, and heads that cuDNN has not, are our own', async () => {
  const rows = { ...SHAPE, rows: 192 };
  const wide = { ...SHAPE, heads: 1, kvHeads: 1, headDim: 264 };
  assert.deepEqual((await run(by('cudnn'), rows, [[192]])).choices, []);
  assert.deepEqual((await run(by('cudnn'), wide, [EQUAL])).choices, []);
});

test('measured on CUDA, each direction has a line that says who makes it and why', { skip: NO_CUDNN }, async () => {
  const { choices, results } = await run(by('measured'), SHAPE, [EQUAL, EQUAL]);
  const own = await run(by('own'), SHAPE, [EQUAL]);
  for (const found of results) near(found, own.results[0]!, TOLERANCES.bf16);
  assert.equal(choices.length, 2);
  assert.match(choices[0]!, /^attention, bf16, 2 x 128 rows, 4\/2 heads of 16, causal: .*TFLOP\/s/);
  assert.match(choices[1]!, /^gradient of attention, .*TFLOP\/s/);
});

if (!IS_GPU) {
  for (const [manner, expected] of [
    ['fast', /: emulated cuDNN \S+ ms \(\S+ TFLOP\/s\), not own kernels/],
    ['slow', /: own kernels \S+ ms \(\S+ TFLOP\/s\), not emulated cuDNN/],
    ['wrong', /: own kernels: the numbers of emulated cuDNN differ from theirs by 0\.[45]/],
    ['refuses', /: own kernels: cuDNN: no plan for this/],
  ] as const) {
    test(`an emulated cuDNN that is ${manner} is measured before the first run`, async () => {
      const { choices, results } = await run(meeting(manner), SHAPE, [EQUAL, EQUAL]);
      assert.equal(choices.length, 2);
      for (const line of choices) assert.match(line, expected);
      const own = await run(meeting(manner, 'own'), SHAPE, [EQUAL]);
      for (const found of results) {
        if (manner === 'fast') near(found, own.results[0]!, TOLERANCES.bf16);
        else assert.deepEqual(found, own.results[0]);
      }
    });
  }

  test('without cuDNN attention is our own, and a line says what is missing', async () => {
    const nothing = { nccl: null, cudnn: null, cudart: null, nvrtc: null, nvrtcBuiltins: null };
    const open = () =>
      native().createCudaDevice(
        { library: EMULATED, index: 0, cublasLt: EMULATED, attention: 'measured', ...nothing },
        HOST,
      );
    const { choices } = await run(open, SHAPE, [EQUAL]);
    assert.deepEqual(choices, ['attention: own kernels: cuDNN (libcudnn.so.9) was not found']);
  });
}
