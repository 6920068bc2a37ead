// Figures of what works row by row and is bound by memory: activations, norms, softmax.
import type { PlanWriter, TensorHandle } from '../../test/support/native-plan.js';
import { bytesOf, type OpFigure, type Precision, ROWS, WIDTH } from './op-figure.js';

/** More rows than the products have: the tensors must not fit the cache. */
const MANY = 16 * ROWS;

export function rowFigures(precision: Precision): readonly OpFigure[] {
  const bytes = bytesOf(precision) * MANY * WIDTH;
  /** `moved` tensors of MANY x WIDTH are read or written. */
  const figure = (
    name: string,
    moved: number,
    build: (plan: PlanWriter, rows: () => TensorHandle, column: () => TensorHandle, gain: () => TensorHandle) => void,
  ): OpFigure => ({
    name,
    work: moved * bytes,
    unit: 'GB/s',
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
    figure('activation gelu_tanh', 2, (plan, rows) => plan.op('activation', [rows()], [rows()], [1])),
    figure('activation_backward gelu_tanh', 3, (plan, rows) =>
      plan.op('activation_backward', [rows(), rows()], [rows()], [1]),
    ),
    figure('add_layer_norm', 4, (plan, rows, column, gain) =>
      plan.op('add_layer_norm', [rows(), rows(), gain(), gain()], [rows(), rows(), column(), column()], [1e-5]),
    ),
    figure('layer_norm_backward', 4, (plan, rows, column, gain) =>
      plan.op(
        'layer_norm_backward',
        [rows(), rows(), gain(), column(), column(), rows(), beta(plan)],
        [rows(), sums(plan), sums(plan)],
        [0, 1],
      ),
    ),
    figure('add_rms_norm', 4, (plan, rows, column, gain) =>
      plan.op('add_rms_norm', [rows(), rows(), gain()], [rows(), rows(), column()], [1e-5]),
    ),
    figure('rms_norm_backward', 4, (plan, rows, column, gain) =>
      plan.op(
        'rms_norm_backward',
        [rows(), rows(), gain(), column(), rows(), beta(plan)],
        [rows(), sums(plan)],
        [0, 1],
      ),
    ),
    figure('softmax', 2, (plan, rows) => plan.op('softmax', [rows()], [rows()])),
    figure('softmax_backward', 3, (plan, rows) => plan.op('softmax_backward', [rows(), rows()], [rows()])),
  ];
}
