// Every differentiable op against finite differences: the op's result goes through a fixed output matrix into the loss, and
// the slope of the loss along two directions must be what the gradient says.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type Graph,
  GraphBuilder,
  type LossOptions,
  type TargetLoss,
  type Tensor,
  trainingPasses,
} from '#src/engine/index.js';
import { seededRandom } from '#src/models/index.js';
import { GraphRun, openDevice } from './device-for-tests.js';

const N = 12; // rows
const W = 16; // columns of the tensor under test
const VOCABULARY = 11;

interface Bench {
  readonly graph: GraphBuilder;
  /** A trained parameter. */
  parameter(name: string, ...dims: number[]): Tensor;
  /** Integers, one per row. */
  integers(name: string): Tensor;
}

type Build = (bench: Bench) => Tensor;

/** Two packed sequences and a row of padding. */
const STARTS = Int32Array.from({ length: N }, (_, t) => (t < 5 ? 0 : t < 11 ? 5 : 11));
const ENDS = Int32Array.from({ length: N }, (_, t) => (t < 5 ? 5 : t < 11 ? 11 : 12));
const INTEGERS: Readonly<Record<string, Int32Array>> = {
  rows: Int32Array.from({ length: N }, (_, t) => t),
  ids: Int32Array.from({ length: N }, (_, t) => (t * 5) % 7),
  positions: Int32Array.from({ length: N }, (_, t) => t - STARTS[t]!),
  starts: STARTS,
  ends: ENDS,
  random: Int32Array.of(17, 0, 3, 100),
  labels: Int32Array.from({ length: N }, (_, t) => (t === 3 || t === 11 ? -100 : (t * 3) % VOCABULARY)),
};

interface HeadChoice extends LossOptions {
  /** Check the gradients of a bias of the output matrix too, and of the matrix itself. */
  readonly trained?: 'bias' | 'weight and bias';
  /** Rows count differently. */
  readonly isWeighted?: boolean;
  /** Numbers to meet in place of classes. */
  readonly target?: TargetLoss;
}

const FLOATS: Readonly<Record<string, (i: number) => number>> = {
  weights: (i) => Math.sin(i + 1),
  targets: (i) => (i % 5 === 2 ? Number.NaN : Math.abs(Math.cos(i))),
};

function lossOf(build: Build, { trained, isWeighted, target, ...options }: HeadChoice = {}): Graph {
  const graph = new GraphBuilder();
  const random = { bucket: 'all', init: { kind: 'normal', std: 1 } } as const;
  const bench: Bench = {
    graph,
    parameter: (name, ...dims) => graph.parameter(name, dims, random),
    integers: (name) => graph.input(name, 'i32', [N]),
  };
  const result = build(bench);
  const weight = graph.parameter('readout', [VOCABULARY, result.dims[1]!], {
    ...random,
    isFrozen: trained !== 'weight and bias',
  });
  const head = { weight, isTransposed: false, ...(trained ? { bias: bench.parameter('bias', VOCABULARY) } : {}) };
  const scale = graph.input('scale', 'f32', [1]);
  if (target) {
    const x = graph.linear('readout', result, head.weight, head.bias);
    const { loss, rowLosses } = graph.targetLoss('loss', x, graph.input('targets', 'f32', x.dims), scale, target);
    graph.output('loss', loss);
    graph.output('tokenLosses', rowLosses);
    return graph.build();
  }
  const weights = isWeighted ? graph.input('weights', 'f32', [N]) : undefined;
  const labels = bench.integers('labels');
  const { loss, tokenLosses } = graph.linearCrossEntropy('loss', result, head, labels, scale, options, weights);
  graph.output('loss', loss);
  graph.output('tokenLosses', tokenLosses);
  return graph.build();
}

async function checkGradients(build: Build, choice?: HeadChoice): Promise<void> {
  using opened = openDevice();
  using run = new GraphRun(opened.device, trainingPasses(lossOf(build, choice)));
  const { program, store } = run;
  for (const name of run.plan.graph.inputs.keys()) {
    if (name in INTEGERS) program.integers(name).set(INTEGERS[name]!);
  }
  for (const [name, value] of Object.entries(FLOATS)) {
    if (!run.plan.graph.inputs.has(name)) continue;
    const memory = program.floats(name);
    memory.set(memory.map((_, i) => value(i)));
  }
  program.floats('scale')[0] = 1;
  program.floats('beta')[0] = 0;
  for (const { name } of store.parameters) {
    const random = seededRandom(name);
    store.load(
      name,
      store.read(name).map(() => 1.6 * (random() - 0.5)),
    );
  }
  const loss = async () => {
    await program.run();
    const weight = choice?.isWeighted ? FLOATS.weights! : () => 1;
    return program.floats('tokenLosses').reduce((sum, value, i) => sum + weight(i) * value, 0);
  };
  const base = await loss();
  assert.ok(Math.abs(program.floats('loss')[0]! - base) < 1e-4, 'loss is the sum of the token losses');

  for (const name of run.plan.graph.gradients.keys()) {
    await loss();
    const gradient = run.gradient(name);
    const norm = Math.hypot(...gradient);
    assert.ok(norm > 1e-4, `${name} has a gradient`);
    const random = seededRandom(`direction of ${name}`);
    const noise = gradient.map(() => random() - 0.5);
    const noiseNorm = Math.hypot(...noise);
    for (const direction of [gradient.map((g) => g / norm), noise.map((d) => d / noiseNorm)]) {
      const values = store.read(name);
      const h = 4e-3;
      store.load(
        name,
        values.map((value, i) => value + h * direction[i]!),
      );
      const above = await loss();
      store.load(
        name,
        values.map((value, i) => value - h * direction[i]!),
      );
      const below = await loss();
      store.load(name, values);
      const slope = (above - below) / (2 * h);
      const expected = gradient.reduce((sum, g, i) => sum + g * direction[i]!, 0);
      assert.ok(Math.abs(slope - expected) < 5e-3 * norm + 2e-4, `${name}: slope ${slope}, gradient says ${expected}`);
    }
  }
}

/** A trained [N, width] tensor that is no parameter itself: the rows of a table, so that the op gives it a plain gradient. */
const rows = (b: Bench, name: string, width: number) =>
  b.graph.embedding(name, b.integers('rows'), b.parameter(name, N, width));
const plain = (b: Bench) => rows(b, 'x', W);

const CASES: Readonly<Record<string, Build>> = {
  'embedding with an addend': (b) =>
    b.graph.embedding('e', b.integers('ids'), b.parameter('table', 7, W), { addend: plain(b) }),
  'embedding from the third entry on': (b) =>
    b.graph.embedding('e', b.integers('ids'), b.parameter('table', 9, W), { offset: 2 }),
  linear: (b) => b.graph.linear('l', plain(b), b.parameter('w', 9, W), b.parameter('bias', 9)),
  'linear without a bias': (b) => b.graph.linear('l', plain(b), b.parameter('w', 9, W)),
  'linear, transposed': (b) => b.graph.linear('l', plain(b), b.parameter('w', W, 9), b.parameter('bias', 9), true),
  layer_norm: (b) => b.graph.layerNorm('n', plain(b), b.parameter('gain', W), b.parameter('bias', W), 1e-5),
  rms_norm: (b) => b.graph.rmsNorm('n', plain(b), b.parameter('gain', W), 1e-5),
  softmax: (b) => b.graph.softmax('s', plain(b)),
  scale: (b) => b.graph.op('scale', 's', [plain(b)], { factor: -0.7 })[0]!,
  dropout: (b) =>
    b.graph.op('dropout', 'd', [plain(b), b.graph.input('random', 'i32', [4])], { p: 0.4, stream: 3 })[0]!,
  'rms_norm of parts of a row': (b) => b.graph.rmsNorm('n', plain(b), b.parameter('gain', W / 4), 1e-5),
  'layer_norm behind a residual sum, with both read': (b) => {
    const sum = b.graph.add('sum', plain(b), rows(b, 'r', W));
    const y = b.graph.layerNorm('n', sum, b.parameter('gain', W), b.parameter('bias', W), 1e-5);
    return b.graph.add('again', sum, y);
  },
  'rms_norm behind a residual sum, with both read': (b) => {
    const sum = b.graph.add('sum', plain(b), rows(b, 'r', W));
    return b.graph.add('again', sum, b.graph.rmsNorm('n', sum, b.parameter('gain', W), 1e-5));
  },
  'a tensor read three times': (b) => {
    const x = b.graph.rmsNorm('n', plain(b), b.parameter('gain', W), 1e-5);
    const first = b.graph.linear('a', x, b.parameter('wa', W, W));
    const second = b.graph.linear('b', x, b.parameter('wb', W, W));
    return b.graph.add('sum', b.graph.add('ab', first, second), b.graph.linear('c', x, b.parameter('wc', W, W)));
  },
  'a weight used twice': (b) => {
    const w = b.parameter('w', W, W);
    return b.graph.linear('b', b.graph.linear('a', plain(b), w), w);
  },
};
for (const kind of ['gelu_tanh', 'gelu_erf', 'silu', 'tanh', 'sigmoid', 'log_sigmoid'] as const) {
  const all: Record<string, Build> = CASES as Record<string, Build>;
  all[`activation ${kind}`] = (b) => b.graph.activation('a', plain(b), kind);
  all[`linear with activation ${kind}`] = (b) =>
    b.graph.activation('a', b.graph.linear('l', plain(b), b.parameter('w', W, W), b.parameter('bias', W)), kind);
  all[`gated activation ${kind}`] = (b) => b.graph.gatedActivation('g', plain(b), rows(b, 'up', W), kind);
}

const HEADS = { heads: 4, headDim: 4 };
Object.assign(CASES, {
  rotary: (b: Bench) => rotary(b, 4),
  'rotary on half of each head': (b: Bench) => rotary(b, 2),
  'rotary of neighbours': (b: Bench) => rotary(b, 4, true),
  'attention, fused': (b: Bench) => {
    const qkv = rows(b, 'qkv', 3 * W);
    return attend(b, { tensor: qkv, offset: 0 }, { tensor: qkv, offset: W }, { tensor: qkv, offset: 2 * W }, 4, 0);
  },
  'attention, grouped': (b: Bench) => grouped(b, 0),
  'attention both ways': (b: Bench) => grouped(b, 0, 0),
  'attention, grouped, window of 3': (b: Bench) => grouped(b, 3),
  'attention that drops keys': (b: Bench) => grouped(b, 0, 1, 0.3),
  'attention both ways that drops keys': (b: Bench) => grouped(b, 0, 0, 0.3),
});

function rotary(b: Bench, rotaryDim: number, isInterleaved = false): Tensor {
  const dims = [8, rotaryDim / 2];
  const angles = Float32Array.from({ length: 8 * (rotaryDim / 2) }, (_, i) => i * 0.37);
  const table = {
    cos: b.graph.constant('cos', dims, angles.map(Math.cos)),
    sin: b.graph.constant('sin', dims, angles.map(Math.sin)),
  };
  return b.graph.rotary('r', { tensor: plain(b), offset: 0, headStride: 4 }, table, b.integers('positions'), {
    ...HEADS,
    isInterleaved,
  });
}

function grouped(b: Bench, window: number, causal = 1, p = 0): Tensor {
  const [q, k, v] = [rows(b, 'q', W), rows(b, 'k', W / 2), rows(b, 'v', W / 2)];
  return attend(b, { tensor: q, offset: 0 }, { tensor: k, offset: 0 }, { tensor: v, offset: 0 }, 2, window, causal, p);
}

interface View {
  readonly tensor: Tensor;
  readonly offset: number;
}

function attend(b: Bench, q: View, k: View, v: View, kvHeads: number, window: number, causal = 1, p = 0): Tensor {
  const attributes = {
    ...HEADS,
    kvHeads,
    scale: 0.7,
    causal,
    window,
    qOffset: q.offset,
    qHeadStride: 4,
    kOffset: k.offset,
    kHeadStride: 4,
    vOffset: v.offset,
    vHeadStride: 4,
    ...(p > 0 ? { p, stream: 2 } : {}),
  };
  const inputs = [q.tensor, k.tensor, v.tensor, b.integers('starts'), b.integers('ends')];
  if (p > 0) inputs.push(b.graph.input('random', 'i32', [4]));
  return b.graph.op('attention', 'attention', inputs, attributes)[0]!;
}

for (const [name, build] of Object.entries(CASES)) {
  test(`the gradient of ${name} is the slope of the loss`, () => checkGradients(build));
}

for (const [name, options] of Object.entries({
  'with a bias': {},
  'with a frozen weight and a bias': { trained: 'bias' as const },
  'with smoothed labels': { labelSmoothing: 0.3 },
  'with z-loss': { zLoss: 0.05 },
  'with weights of the rows, smoothed labels and z-loss': { isWeighted: true, labelSmoothing: 0.2, zLoss: 0.05 },
})) {
  test(`the gradient of linear_cross_entropy ${name} is the slope of the loss`, () =>
    checkGradients(plain, { trained: 'weight and bias', ...options }));
}

test('the gradient of a cast is cast back', async () => {
  const gradientOf = async (build: Build) => {
    using opened = openDevice();
    using run = new GraphRun(opened.device, trainingPasses(lossOf(build)));
    const { program, store } = run;
    for (const name of ['rows', 'labels']) program.integers(name).set(INTEGERS[name]!);
    program.floats('scale')[0] = 1;
    program.floats('beta')[0] = 0;
    const random = seededRandom('cast');
    for (const { name } of store.parameters) {
      store.load(
        name,
        store.read(name).map(() => random() - 0.5),
      );
    }
    await program.run();
    return run.gradient('x');
  };
  const exact = await gradientOf(plain);
  const cast = await gradientOf((b) => b.graph.cast('back', b.graph.cast('there', plain(b), 'bf16'), 'f32'));
  const norm = Math.hypot(...exact);
  assert.notDeepEqual(cast, exact);
  assert.ok(Math.hypot(...cast.map((g, i) => g - exact[i]!)) < 2 ** -7 * norm);
});

for (const target of ['squared_error', 'binary_cross_entropy', 'upstream'] as const) {
  test(`the gradient of target_loss ${target} is the slope of the loss`, () =>
    checkGradients(plain, { trained: 'weight and bias', target }));
}

test('a parameter that no op can accumulate into is refused by name', () => {
  const build = (b: Bench) => b.graph.activation('a', b.parameter('naked', N, W), 'silu');
  assert.throws(() => trainingPasses(lossOf(build)), /naked: expected a gradient made by an op that can accumulate/);
});

test('the gradient of a table tied to the output matrix is the sum of both uses', async () => {
  using opened = openDevice();
  const graph = new GraphBuilder();
  const table = graph.parameter('table', [VOCABULARY, W], { bucket: 'all', init: { kind: 'zeros' } });
  const integers = (name: string) => graph.input(name, 'i32', [N]);
  const x = graph.embedding('e', integers('ids'), table);
  const scale = graph.input('scale', 'f32', [1]);
  const loss = graph.linearCrossEntropy('loss', x, { weight: table, isTransposed: false }, integers('labels'), scale);
  graph.output('loss', loss.loss);
  graph.output('tokenLosses', loss.tokenLosses);
  using run = new GraphRun(opened.device, trainingPasses(graph.build()));
  for (const name of ['ids', 'labels']) run.program.integers(name).set(INTEGERS[name]!);
  run.program.floats('scale')[0] = 0.5;
  const random = seededRandom('table');
  run.store.load(
    'table',
    new Float32Array(VOCABULARY * W).map(() => random() - 0.5),
  );
  await run.program.run();
  const gradient = run.gradient('table');
  // With beta 1 a second run adds the same again.
  run.program.floats('beta')[0] = 1;
  await run.program.run();
  const twice = run.gradient('table');
  for (const [i, value] of gradient.entries()) assert.ok(Math.abs(twice[i]! - 2 * value) < 1e-6);
  const values = run.store.read('table');
  const norm = Math.hypot(...gradient);
  const h = 4e-3;
  const at = async (sign: number) => {
    run.store.load(
      'table',
      values.map((value, i) => value + (sign * h * gradient[i]!) / norm),
    );
    await run.program.run();
    return run.program.floats('tokenLosses').reduce((sum, value) => sum + value, 0) / 2;
  };
  const slope = ((await at(1)) - (await at(-1))) / (2 * h);
  assert.ok(Math.abs(slope - norm) < 5e-3 * norm, `slope ${slope}, gradient says ${norm}`);
});
