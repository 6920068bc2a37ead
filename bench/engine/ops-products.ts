// Figures of matrix products: linear and its gradients, the loss over a vocabulary, attention.
import { bytesOf, type OpFigure, type Precision, ROWS, VOCABULARY, WIDTH } from './op-figure.js';

const CHUNK = 512;
const HEADS = 12;
const ATTENTION = [HEADS, HEADS, 64, 0.125, 1, 0, 0, 64, WIDTH, 64, 2 * WIDTH, 64];

const SHAPES = [
  [WIDTH, 3 * WIDTH],
  [WIDTH, WIDTH],
  [WIDTH, 4 * WIDTH],
  [4 * WIDTH, WIDTH],
] as const;

export function productFigures(precision: Precision): readonly OpFigure[] {
  return [
    ...SHAPES.flatMap(([i, o]) => [false, true].flatMap((transposed) => linears(i, o, transposed))),
    ...[1, 4, 8, 16].flatMap((rows) => [false, true].map((transposed) => decoding(rows, transposed, precision))),
    {
      name: `linear ${WIDTH}x${4 * WIDTH} [I,O] gelu_tanh + pre`,
      work: 2 * ROWS * WIDTH * 4 * WIDTH,
      unit: 'GFLOP/s',
      build: (plan, t) => {
        const out = () => t([ROWS, 4 * WIDTH], 'stored');
        const w = t([WIDTH, 4 * WIDTH], 'stored');
        plan.op('linear', [t([ROWS, WIDTH], 'stored'), w, t([4 * WIDTH], 'stored')], [out(), out()], [1, 1]);
      },
    },
    ...[1, 4].map(loss),
    ...[256, 1024].flatMap(attentions),
  ];
}

function linears(i: number, o: number, transposed: boolean): readonly OpFigure[] {
  const w = transposed ? [i, o] : [o, i];
  const label = `${i}x${o} ${transposed ? '[I,O]' : '[O,I]'}`;
  const work = 2 * ROWS * i * o;
  const flag = Number(transposed);
  return [
    {
      name: `linear ${label} bias`,
      work,
      unit: 'GFLOP/s',
      build: (plan, t) => {
        const inputs = [t([ROWS, i], 'stored'), t(w, 'stored'), t([o], 'stored')];
        plan.op('linear', inputs, [t([ROWS, o], 'stored')], [flag, 0]);
      },
    },
    {
      name: `linear_backward_input ${label}`,
      work,
      unit: 'GFLOP/s',
      build: (plan, t) =>
        plan.op('linear_backward_input', [t([ROWS, o], 'stored'), t(w, 'stored')], [t([ROWS, i], 'stored')], [flag]),
    },
    {
      name: `linear_backward_weight ${label} bias`,
      work,
      unit: 'GFLOP/s',
      build: (plan, t) => {
        const inputs = [t([ROWS, i], 'stored'), t([ROWS, o], 'stored'), plan.tensor([1], [1])];
        plan.op('linear_backward_weight', inputs, [t(w, 'f32'), t([o], 'f32')], [flag, 0]);
      },
    },
  ];
}

/** Few rows: bound by reading the weights. */
function decoding(rows: number, transposed: boolean, precision: Precision): OpFigure {
  const w = transposed ? [WIDTH, VOCABULARY] : [VOCABULARY, WIDTH];
  return {
    name: `linear of ${rows} rows ${WIDTH}x${VOCABULARY} ${transposed ? '[I,O]' : '[O,I]'}`,
    work: bytesOf(precision) * WIDTH * VOCABULARY,
    unit: 'GB/s',
    streams: { reads: 1, writes: 0 },
    build: (plan, t) =>
      plan.op(
        'linear',
        [t([rows, WIDTH], 'stored'), t(w, 'stored')],
        [t([rows, VOCABULARY], 'stored')],
        [Number(transposed), 0],
      ),
  };
}

/** One row in `every` has a label. */
function loss(every: number): OpFigure {
  return {
    name: `linear_cross_entropy_grad ${WIDTH}x${VOCABULARY} chunk ${CHUNK}, labels 1 in ${every}`,
    work: (6 * ROWS * WIDTH * VOCABULARY) / every,
    unit: 'GFLOP/s',
    build: (plan, t) => {
      const label = (i: number) => (i % every === 0 ? (i * 37) % VOCABULARY : -100);
      const labels = plan.ints(Array.from({ length: ROWS }, (_, i) => label(i)));
      const scalars = [plan.tensor([1], [1 / ROWS]), plan.tensor([1], [1])];
      plan.op(
        'linear_cross_entropy_grad',
        [t([ROWS, WIDTH], 'stored'), t([VOCABULARY, WIDTH], 'stored'), labels, ...scalars],
        [
          t([1], 'f32'),
          t([ROWS], 'f32'),
          t([ROWS, WIDTH], 'stored'),
          plan.tensor([CHUNK, VOCABULARY]),
          plan.tensor([VOCABULARY, WIDTH]),
        ],
        [0, CHUNK, 0, 0, 0, 0],
      );
    },
  };
}

/** Causal, segments of `length` rows: what the mask hides is not counted. */
function attentions(length: number): readonly OpFigure[] {
  const flops = (products: number) => (2 * products * ROWS * WIDTH * (length + 1)) / 2;
  const start = (i: number) => i - (i % length);
  const bounds = (at: number) => Array.from({ length: ROWS }, (_, i) => start(i) + at * length);
  return [
    {
      name: `attention ${HEADS} heads, segments of ${length}, causal`,
      work: flops(2),
      unit: 'GFLOP/s',
      build: (plan, t) => {
        const qkv = t([ROWS, 3 * WIDTH], 'stored');
        const mask = [plan.ints(bounds(0)), plan.ints(bounds(1))];
        const outputs = [t([ROWS, WIDTH], 'stored'), t([ROWS, HEADS], 'f32')];
        plan.op('attention', [qkv, qkv, qkv, ...mask], outputs, ATTENTION);
      },
    },
    {
      name: `attention_backward ${HEADS} heads, segments of ${length}, causal`,
      work: flops(5),
      unit: 'GFLOP/s',
      build: (plan, t) => {
        const qkv = t([ROWS, 3 * WIDTH], 'stored');
        const mask = [plan.ints(bounds(0)), plan.ints(bounds(1))];
        const lse = plan.tensor([ROWS, HEADS], new Float32Array(ROWS * HEADS).fill(Math.log(length)));
        const out = () => t([ROWS, WIDTH], 'stored');
        const d = t([ROWS, 3 * WIDTH], 'stored');
        plan.op('attention_backward', [out(), out(), lse, qkv, qkv, qkv, ...mask], [d, d, d], ATTENTION);
      },
    },
  ];
}
