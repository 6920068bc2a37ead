// Figures of what works row by row and is bound by memory: activations, norms, softmax; and of a copy, to compare them with.
import type { PlanWriter, TensorHandle } from '../../test/support/native-plan.js';
import { bytesOf, type OpFigure, type Precision, ROWS, WIDTH } from './op-figure.js';

/** More rows than the products have: the tensors must not fit the cache. */
const MANY = 16 * ROWS;

export function rowFigures(precision: Precision): readonly OpFigure[] {
  const bytes = bytesOf(precision) * MANY * WIDTH;
  /** Tensors of MANY x WIDTH are read and written. */
  const figure = (
    name: string,
    reads: number,
    writes: number,
    build: (plan: PlanWriter, rows: () => TensorHandle, column: () => TensorHandle, gain: () => TensorHandle) => void,
  ): OpFigure => ({
    name,
    work: (reads + writes) * bytes,
    unit: 'GB/s',
    streams: { reads, writes },
    build: (plan, t) =>
      build(
        plan,
        () => t([MANY, WIDTH], 'stored'),
        () => t([MANY], 'f32'),
        () => t([WIDTH], 'stored'),
      ),
  });
  const sums = (plan: PlanWriter) => plan.tensor([WIDTH]);
  const beta = (plan: PlanWriter) => plan.tensor([1], [0]);
  return [
    figure('copy', 1, 1, (plan, rows) => plan.op('copy', [rows()], [rows()])),
    figure('activation gelu_tanh', 1, 1, (plan, rows) => plan.op('activation', [rows()], [rows()], [1])),
    figure('activation_backward gelu_tanh', 2, 1, (plan, rows) =>
      plan.op('activation_backward', [rows(), rows()], [rows()], [1]),
    ),
    figure('add_layer_norm', 2, 2, (plan, rows, column, gain) =>
      plan.op('add_layer_norm', [rows(), rows(), gain(), gain()], [rows(), rows(), column(), column()], [1e-5]),
    ),
    figure('layer_norm_backward', 3, 1, (plan, rows, column, gain) =>
      plan.op(
        'layer_norm_backward',
        [rows(), rows(), gain(), column(), column(), rows(), beta(plan)],
        [rows(), sums(plan), sums(plan)],
        [0, 1],
      ),
    ),
    figure('add_rms_norm', 2, 2, (plan, rows, column, gain) =>
      plan.op('add_rms_norm', [rows(), rows(), gain()], [rows(), rows(), column()], [1e-5]),
    ),
    figure('rms_norm_backward', 3, 1, (plan, rows, column, gain) =>
      plan.op(
        'rms_norm_backward',
        [rows(), rows(), gain(), column(), rows(), beta(plan)],
        [rows(), sums(plan)],
        [0, 1],
      ),
    ),
    figure('softmax', 1, 1, (plan, rows) => plan.op('softmax', [rows()], [rows()])),
    figure('softmax_backward', 2, 1, (plan, rows) => plan.op('softmax_backward', [rows(), rows()], [rows()])),
  ];
}
