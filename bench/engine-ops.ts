// Speed of single ops of the native engine at the shapes of GPT-2 124M (4 x 256 tokens), beside what the machine can do:
// matrix products in GFLOP/s against the measured multiply-add peak, the rest in GB/s against memcpy.
//
//   node build/tests/bench/engine-ops.js [threads] [isa] [filter]
import { availableParallelism } from 'node:os';
import { type Isa, native } from '#src/native/index.js';
import { PlanWriter, type TensorHandle } from '../test/support/native-plan.js';

const threads = Number(process.argv[2] ?? availableParallelism());
const isa = (process.argv[3] ?? native().engineInfo().isa) as Isa;
const filter = process.argv[4] ?? '';
const REPEATS = 9;

const ROWS = 1024;
const WIDTH = 768;
const VOCABULARY = 50257;
const CHUNK = 512;

interface Figure {
  readonly name: string;
  /** Floating point operations, or bytes that must move. */
  readonly work: number;
  readonly unit: 'GFLOP/s' | 'GB/s';
  readonly build: (plan: PlanWriter, values: (dims: readonly number[]) => TensorHandle) => void;
}

const starts = (length: number) => Array.from({ length: ROWS }, (_, i) => i - (i % length));
const ends = (length: number) => Array.from({ length: ROWS }, (_, i) => i - (i % length) + length);
const ATTENTION = [12, 12, 64, 0.125, 1, 0, 0, 64, WIDTH, 64, 2 * WIDTH, 64];
const attentionFlops = (length: number, products: number) => (2 * products * ROWS * WIDTH * (length + 1)) / 2;

function linears(): Figure[] {
  const shapes = [
    [WIDTH, 2304],
    [WIDTH, WIDTH],
    [WIDTH, 3072],
    [3072, WIDTH],
  ] as const;
  return shapes.flatMap(([i, o]) =>
    [0, 1].flatMap((transposed): Figure[] => {
      const w = transposed ? [i, o] : [o, i];
      const label = `${i}x${o}${transposed ? ' [I,O]' : ' [O,I]'}`;
      const work = 2 * ROWS * i * o;
      return [
        {
          name: `linear ${label} bias`,
          work,
          unit: 'GFLOP/s',
          build: (plan, t) => plan.op('linear', [t([ROWS, i]), t(w), t([o])], [t([ROWS, o])], [transposed, 0]),
        },
        {
          name: `linear_backward_input ${label}`,
          work,
          unit: 'GFLOP/s',
          build: (plan, t) => plan.op('linear_backward_input', [t([ROWS, o]), t(w)], [t([ROWS, i])], [transposed]),
        },
        {
          name: `linear_backward_weight ${label} bias`,
          work,
          unit: 'GFLOP/s',
          build: (plan, t) =>
            plan.op(
              'linear_backward_weight',
              [t([ROWS, i]), t([ROWS, o]), plan.tensor([1], [1])],
              [t(w), t([o])],
              [transposed, 0],
            ),
        },
      ];
    }),
  );
}

const figures: Figure[] = [
  ...linears(),
  ...[1, 4, 8, 16].flatMap((rows) =>
    [0, 1].map(
      (transposed): Figure => ({
        name: `linear of ${rows} rows 768x50257${transposed ? ' [I,O]' : ' [O,I]'} (decoding)`,
        work: 4 * WIDTH * VOCABULARY,
        unit: 'GB/s',
        build: (plan, t) =>
          plan.op(
            'linear',
            [t([rows, WIDTH]), t(transposed ? [WIDTH, VOCABULARY] : [VOCABULARY, WIDTH])],
            [t([rows, VOCABULARY])],
            [transposed, 0],
          ),
      }),
    ),
  ),
  {
    name: 'linear 768x3072 gelu_tanh + pre',
    work: 2 * ROWS * WIDTH * 3072,
    unit: 'GFLOP/s',
    build: (plan, t) =>
      plan.op('linear', [t([ROWS, WIDTH]), t([WIDTH, 3072]), t([3072])], [t([ROWS, 3072]), t([ROWS, 3072])], [1, 1]),
  },
  ...[1, 4].map(
    (every): Figure => ({
      name: `linear_cross_entropy_grad 768x50257 chunk ${CHUNK}, labels 1 in ${every}`,
      work: (6 * ROWS * WIDTH * VOCABULARY) / every,
      unit: 'GFLOP/s',
      build: (plan, t) => {
        const label = (i: number) => (i % every === 0 ? (i * 37) % VOCABULARY : -100);
        const labels = plan.ints(Array.from({ length: ROWS }, (_, i) => label(i)));
        const w = t([VOCABULARY, WIDTH]);
        plan.op(
          'linear_cross_entropy_grad',
          [t([ROWS, WIDTH]), w, labels, plan.tensor([1], [1 / ROWS]), plan.tensor([1], [1])],
          [
            t([1]),
            t([ROWS]),
            plan.tensor([ROWS, WIDTH]),
            plan.tensor([CHUNK, VOCABULARY]),
            plan.tensor([VOCABULARY, WIDTH]),
          ],
          [0, CHUNK, 0, 0, 0, 0],
        );
      },
    }),
  ),
  ...[256, 1024].flatMap((length): Figure[] => [
    {
      name: `attention 12 heads, segments of ${length}, causal`,
      work: attentionFlops(length, 2),
      unit: 'GFLOP/s',
      build: (plan, t) => {
        const qkv = t([ROWS, 3 * WIDTH]);
        const mask = [plan.ints(starts(length)), plan.ints(ends(length))];
        plan.op('attention', [qkv, qkv, qkv, ...mask], [t([ROWS, WIDTH]), t([ROWS, 12])], ATTENTION);
      },
    },
    {
      name: `attention_backward 12 heads, segments of ${length}, causal`,
      work: attentionFlops(length, 5),
      unit: 'GFLOP/s',
      build: (plan, t) => {
        const qkv = t([ROWS, 3 * WIDTH]);
        const mask = [plan.ints(starts(length)), plan.ints(ends(length))];
        const lse = plan.tensor([ROWS, 12], new Float32Array(ROWS * 12).fill(Math.log(length)));
        const d = t([ROWS, 3 * WIDTH]);
        plan.op(
          'attention_backward',
          [t([ROWS, WIDTH]), t([ROWS, WIDTH]), lse, qkv, qkv, qkv, ...mask],
          [d, d, d],
          ATTENTION,
        );
      },
    },
  ]),
  {
    name: 'activation gelu_tanh',
    work: 8 * ROWS * 3072,
    unit: 'GB/s',
    build: (plan, t) => plan.op('activation', [t([ROWS, 3072])], [t([ROWS, 3072])], [1]),
  },
  {
    name: 'activation_backward gelu_tanh',
    work: 12 * ROWS * 3072,
    unit: 'GB/s',
    build: (plan, t) => plan.op('activation_backward', [t([ROWS, 3072]), t([ROWS, 3072])], [t([ROWS, 3072])], [1]),
  },
  {
    name: 'add_layer_norm',
    work: 16 * ROWS * WIDTH,
    unit: 'GB/s',
    build: (plan, t) => {
      const rows = () => t([ROWS, WIDTH]);
      plan.op(
        'add_layer_norm',
        [rows(), rows(), t([WIDTH]), t([WIDTH])],
        [rows(), rows(), t([ROWS]), t([ROWS])],
        [1e-5],
      );
    },
  },
  {
    name: 'layer_norm_backward',
    work: 16 * ROWS * WIDTH,
    unit: 'GB/s',
    build: (plan, t) => {
      const rows = () => t([ROWS, WIDTH]);
      plan.op(
        'layer_norm_backward',
        [rows(), rows(), t([WIDTH]), t([ROWS]), t([ROWS]), rows(), plan.tensor([1], [0])],
        [rows(), t([WIDTH]), t([WIDTH])],
        [0, 1],
      );
    },
  },
  {
    name: 'adamw 38M',
    work: 28 * 38_597_376,
    unit: 'GB/s',
    build: (plan, t) => {
      const n = 38_597_376;
      const [p, m, v] = [t([n]), plan.tensor([n]), plan.tensor([n])];
      const scalars = [1, 1e-4, 3].map((value) => plan.tensor([1], [value]));
      plan.op('adamw', [p, m, v, t([n]), ...scalars], [p, m, v], [0.9, 0.999, 1e-8, 0.01, n, 1, 1]);
    },
  },
  {
    name: 'lion 38M',
    work: 20 * 38_597_376,
    unit: 'GB/s',
    build: (plan, t) => {
      const n = 38_597_376;
      const [p, m] = [t([n]), plan.tensor([n])];
      const scalars = [1, 1e-4].map((value) => plan.tensor([1], [value]));
      plan.op('lion', [p, m, t([n]), ...scalars], [p, m], [0.9, 0.99, 0.01, n]);
    },
  },
  {
    name: 'sgd with momentum 38M',
    work: 20 * 38_597_376,
    unit: 'GB/s',
    build: (plan, t) => {
      const n = 38_597_376;
      const [p, m] = [t([n]), plan.tensor([n])];
      const scalars = [1, 1e-4, 3].map((value) => plan.tensor([1], [value]));
      plan.op('sgd', [p, m, t([n]), ...scalars], [p, m], [0.9, 0, 0, 0.01, n]);
    },
  },
  {
    name: 'adagrad 38M',
    work: 20 * 38_597_376,
    unit: 'GB/s',
    build: (plan, t) => {
      const n = 38_597_376;
      const [p, s] = [t([n]), plan.tensor([n])];
      const scalars = [1, 1e-4, 3].map((value) => plan.tensor([1], [value]));
      plan.op('adagrad', [p, s, t([n]), ...scalars], [p, s], [1e-10, 0, 0.01, n]);
    },
  },
  {
    name: 'muon 768x3072',
    work: 5 * (4 * 768 * 768 * 3072 + 2 * 768 ** 3),
    unit: 'GFLOP/s',
    build: (plan, t) => {
      const [rows, columns] = [768, 3072];
      const [p, m] = [t([rows, columns]), plan.tensor([rows, columns])];
      const scalars = [1, 1e-4].map((value) => plan.tensor([1], [value]));
      const workspace = plan.tensor([2 * rows * columns + 2 * rows * rows]);
      plan.op('muon', [p, m, t([rows, columns]), ...scalars], [p, m, workspace], [0.95, 1, 5, 0]);
    },
  },
  {
    name: 'sum_squares 38M',
    work: 4 * 38_597_376,
    unit: 'GB/s',
    build: (plan, t) => plan.op('sum_squares', [t([38_597_376])], [t([1])], [0]),
  },
  {
    name: 'copy 38M (memcpy)',
    work: 8 * 38_597_376,
    unit: 'GB/s',
    build: (plan, t) => plan.op('copy', [t([38_597_376])], [t([38_597_376])]),
  },
];

async function measure(figure: Figure): Promise<number> {
  const plan = new PlanWriter();
  const inputs: TensorHandle[] = [];
  figure.build(plan, (dims) => {
    const tensor = plan.tensor(dims);
    inputs.push(tensor);
    return tensor;
  });
  const device = native().createDevice({ threads, isa, pin: false });
  try {
    const loaded = plan.load(device);
    for (const tensor of inputs) {
      const view = loaded.view(tensor);
      for (let i = 0; i < view.length; i++) view[i] = Math.sin(i) * 0.1;
    }
    const seconds: number[] = [];
    for (let i = 0; i < REPEATS; i++) seconds.push((await loaded.program.profile())[0]!);
    return figure.work / Math.min(...seconds.slice(1)) / 1e9;
  } finally {
    device.dispose();
  }
}

const peak = native().measurePeak(isa, 0.5, 'f32') * threads;
console.log(`${isa}, ${threads} threads, multiply-add peak ${peak.toFixed(0)} GFLOP/s; best of ${REPEATS - 1}`);
for (const figure of figures.filter(({ name }) => name.includes(filter))) {
  const speed = await measure(figure);
  const share = figure.unit === 'GFLOP/s' ? ` ${((100 * speed) / peak).toFixed(0)} % of peak` : '';
  console.log(`${figure.name.padEnd(52)} ${speed.toFixed(1).padStart(7)} ${figure.unit}${share}`);
}
