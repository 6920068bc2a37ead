// Figures of the optimisers over flat buffers, which are bound by memory but for Muon's products. Their numbers are float32
// in every precision; with bf16 a step also writes the rounded parameters.
import { type OpFigure, type Precision, WIDTH } from './op-figure.js';

/** The parameters of GPT-2's embedding. */
const N = 38_597_376;
const MUON = [WIDTH, 4 * WIDTH] as const;

export function optimizerFigures(precision: Precision): readonly OpFigure[] {
  return precision === 'fp32' ? [adamw(precision), ...onFloats] : [adamw(precision)];
}

function adamw(precision: Precision): OpFigure {
  const isRounded = precision === 'bf16';
  return {
    name: `adamw ${N} numbers`,
    work: (isRounded ? 30 : 28) * N,
    unit: 'GB/s',
    streams: { reads: 4, writes: 3, inPlace: true },
    build: (plan, t) => {
      const [p, m, v] = [t([N], 'f32'), plan.tensor([N]), plan.tensor([N])];
      const scalars = [1, 1e-4, 3].map((value) => plan.tensor([1], [value]));
      const outputs = isRounded ? [p, m, v, plan.tensor([N], null, 'bf16')] : [p, m, v];
      plan.op('adamw', [p, m, v, t([N], 'f32'), ...scalars], outputs, [0.9, 0.999, 1e-8, 0.01, N, 1, 1]);
    },
  };
}

const onFloats: readonly OpFigure[] = [
  {
    name: `lion ${N} numbers`,
    work: 20 * N,
    unit: 'GB/s',
    streams: { reads: 3, writes: 2, inPlace: true },
    build: (plan, t) => {
      const [p, m] = [t([N], 'f32'), plan.tensor([N])];
      const scalars = [1, 1e-4].map((value) => plan.tensor([1], [value]));
      plan.op('lion', [p, m, t([N], 'f32'), ...scalars], [p, m], [0.9, 0.99, 0.01, N]);
    },
  },
  {
    name: `sgd with momentum ${N} numbers`,
    work: 20 * N,
    unit: 'GB/s',
    streams: { reads: 3, writes: 2, inPlace: true },
    build: (plan, t) => {
      const [p, m] = [t([N], 'f32'), plan.tensor([N])];
      const scalars = [1, 1e-4, 3].map((value) => plan.tensor([1], [value]));
      plan.op('sgd', [p, m, t([N], 'f32'), ...scalars], [p, m], [0.9, 0, 0, 0.01, N]);
    },
  },
  {
    name: `adagrad ${N} numbers`,
    work: 20 * N,
    unit: 'GB/s',
    streams: { reads: 3, writes: 2, inPlace: true },
    build: (plan, t) => {
      const [p, s] = [t([N], 'f32'), plan.tensor([N])];
      const scalars = [1, 1e-4, 3].map((value) => plan.tensor([1], [value]));
      plan.op('adagrad', [p, s, t([N], 'f32'), ...scalars], [p, s], [1e-10, 0, 0.01, N]);
    },
  },
  {
    name: `muon ${MUON.join('x')}`,
    work: 5 * (4 * MUON[0] ** 2 * MUON[1] + 2 * MUON[0] ** 3),
    unit: 'GFLOP/s',
    build: (plan, t) => {
      const [rows, columns] = MUON;
      const [p, m] = [t([rows, columns], 'f32'), plan.tensor([rows, columns])];
      const scalars = [1, 1e-4].map((value) => plan.tensor([1], [value]));
      const workspace = plan.tensor([2 * rows * columns + 2 * rows * rows]);
      plan.op('muon', [p, m, t([rows, columns], 'f32'), ...scalars], [p, m, workspace], [0.95, 1, 5, 0]);
    },
  },
  {
    name: `sum_squares ${N} numbers`,
    work: 4 * N,
    unit: 'GB/s',
    streams: { reads: 1, writes: 0 },
    build: (plan, t) => plan.op('sum_squares', [t([N], 'f32')], [t([1], 'f32')], [0]),
  },
];
