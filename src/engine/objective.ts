// What a model's outputs are held against: writes the losses of a program, and the inputs they need, into its graph.
import { ConfigError } from '../common/index.js';
import type { GraphBuilder, Head, LossOptions } from './builder.js';
import type { Tensor } from './graph.js';
import type { AnyModel, ModelOutputs } from './model.js';
import { ACTIVATIONS, type TargetLoss } from './ops/index.js';

/**
 * `cross_entropy`: one class per row, from `labels`. The others take `targets` [N, labelCount]: numbers (`squared_error`, the
 * mean over the columns), classes that exclude nothing (`binary_cross_entropy` with logits, the mean over the columns), or
 * gradients of a loss that the caller took of the outputs (`upstream`).
 */
export type Objective = 'cross_entropy' | TargetLoss;

/** What is minimised, where it is not what the model says. */
export interface ObjectiveOptions extends LossOptions {
  /** Default: the model's. */
  readonly objective?: Objective;
  /** The input `weights` [N] multiplies the losses of the rows (cross_entropy alone). */
  readonly isWeighted?: boolean;
}

export interface Losses {
  readonly loss: Tensor;
  /** One per row, without scale and weights. */
  readonly tokenLosses: Tensor;
  /** [N, labelCount], where the objective needs them whole. */
  readonly logits: Tensor | null;
  /** [N], of cross_entropy. */
  readonly entropies: Tensor | null;
}

/** Paths of linear layers that are outputs of a model, not parts of it: no adapter goes there. */
export const HEAD_PATHS: ReadonlySet<string> = new Set(['logits', 'values']);

/** Writes the loss of `outputs`; names it (and that of a value head) as outputs of the graph. */
export function writeLosses(
  graph: GraphBuilder,
  model: AnyModel,
  outputs: ModelOutputs,
  options: ObjectiveOptions = {},
): Losses {
  const { hidden, values } = outputs;
  const rows = hidden.dims[0]!;
  const scale = graph.input('scale', 'f32', [1]);
  const losses = primaryLoss(graph, model, outputs, scale, options);
  graph.output('loss', losses.loss);
  graph.output('tokenLosses', losses.tokenLosses);
  if (values) {
    const upstream = graph.input('valueGradients', 'f32', [rows, values.weight.dims[0]!]);
    const predicted = applyHead(graph, 'values', hidden, values);
    // Not times `scale`: the gradient is the caller's, whole.
    const one = graph.constant('one', [1], Float32Array.of(1));
    graph.output('valueLoss', graph.targetLoss('valueLoss', predicted, upstream, one, 'upstream').loss);
  }
  return losses;
}

function primaryLoss(
  graph: GraphBuilder,
  model: AnyModel,
  { hidden, head }: ModelOutputs,
  scale: Tensor,
  { objective = model.objective ?? 'cross_entropy', isWeighted = false, ...options }: ObjectiveOptions,
): Losses {
  const rows = hidden.dims[0]!;
  if (objective === 'cross_entropy') {
    const labels = graph.input('labels', 'i32', [rows]);
    const weights = isWeighted ? graph.input('weights', 'f32', [rows]) : undefined;
    return { ...graph.linearCrossEntropy('loss', hidden, head, labels, scale, options, weights), logits: null };
  }
  if (isWeighted || options.labelSmoothing || options.zLoss)
    throw new ConfigError('loss', 'weights, label smoothing and z-loss with cross_entropy alone', objective);
  const logits = applyHead(graph, 'logits', hidden, head);
  const targets = graph.input('targets', 'f32', logits.dims);
  const { loss, rowLosses } = graph.targetLoss('loss', logits, targets, scale, objective);
  return { loss, tokenLosses: rowLosses, logits, entropies: null };
}

/** hidden w (+ bias), [N, columns of the head]; in f32 whatever the storage type where `isWide`, for what is handed out. */
export function applyHead(
  graph: GraphBuilder,
  path: string,
  hidden: Tensor,
  { weight, bias, isTransposed }: Head,
  isWide = false,
): Tensor {
  const attributes = { transposed: isTransposed ? 1 : 0, activation: ACTIVATIONS.none, wide: isWide ? 1 : 0 };
  return graph.op('linear', path, bias ? [hidden, weight, bias] : [hidden, weight], attributes)[0]!;
}
