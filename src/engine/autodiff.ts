// Reverse-mode differentiation of a graph: walks the ops backwards and lets each op's rule emit its derivative.
// Gradients of one tensor are added in the order of the walk, so that a program always adds in the same order.
import { GraphBuilder } from './builder.js';
import type { Graph, Op, Tensor, TensorId } from './graph.js';
import { ruleOf } from './ops/index.js';

/** Outputs that a gradient starts from: what is differentiated is their sum. */
const LOSS_OUTPUTS = ['loss', 'valueLoss'] as const;

/** Names of the gradients that a part of a model gets by what it made, and gives by what it was given. */
export const UPSTREAM = 'upstream';
export const DOWNSTREAM = 'downstream';

/** Where a graph that is a part of a model meets the others. */
export interface Ends {
  /** Made here and read by the part behind, which hands back its gradient: the input `upstream`. */
  readonly made: TensorId | null;
  /** Given by the part before, which wants its gradient: the output `downstream`. */
  readonly given: TensorId | null;
}

/**
 * Adds to `graph` the ops that compute the gradient of its losses by every parameter that is not frozen; of a part of a model, the
 * gradient of the whole model's losses.
 */
export function differentiate(graph: Graph, { made, given }: Ends = { made: null, given: null }): Graph {
  const roots = LOSS_OUTPUTS.flatMap((name) => graph.outputs.get(name) ?? []);
  if (roots.length === 0 && made === null) throw new Error('the graph has no output called loss');
  const builder = new GraphBuilder(graph);
  const trained = [...graph.parameters.values()].filter((parameter) => !parameter.isFrozen);
  const wants = needGradient(graph, [
    ...trained.map((parameter) => parameter.tensor),
    ...(given === null ? [] : [given]),
  ]);
  const gradients = new Map<TensorId, Tensor>();
  if (made !== null) {
    const { dtype, dims } = graph.tensors[made]!;
    gradients.set(made, builder.input(UPSTREAM, dtype, dims, 'gradient'));
  }

  for (const op of graph.ops.toReversed()) {
    const isRoot = roots.includes(op.outputs[0]!);
    if (!wants.has(op.outputs[0]!) || (!isRoot && !op.outputs.some((id) => gradients.has(id)))) continue;
    const rule = ruleOf(op.kind);
    if (!rule.backward) throw new Error(`${op.path}: ${op.kind} has no derivative`);
    const contributions = rule.backward({
      ...placed(graph, op),
      gradients: op.outputs.map((id) => gradients.get(id) ?? null),
      isRoot,
      needs: op.inputs.map((id) => wants.has(id)),
      emit: (kind, inputs, attributes) => builder.op(kind, op.path, inputs, attributes, 'gradient'),
    });
    for (const [index, contribution] of contributions.entries()) {
      const id = op.inputs[index]!;
      if (!contribution || !wants.has(id)) continue;
      const sum = gradients.get(id);
      const path = graph.tensors[id]!.path;
      gradients.set(id, sum ? builder.op('add', path, [sum, contribution], {}, 'gradient')[0]! : contribution);
    }
  }

  const downstream = given === null ? undefined : gradients.get(given);
  if (downstream) builder.output(DOWNSTREAM, downstream);
  const byName = trained.flatMap(({ name, tensor }): [string, TensorId][] => {
    const gradient = gradients.get(tensor);
    return gradient ? [[name, gradient.id]] : [];
  });
  return builder.build(new Map(byName));
}

/** Tensors through which a gradient reaches one of `ends`. */
function needGradient(graph: Graph, ends: readonly TensorId[]): ReadonlySet<TensorId> {
  const wants = new Set(ends);
  for (const op of graph.ops) {
    if (op.inputs.some((id) => wants.has(id))) for (const id of op.outputs) wants.add(id);
  }
  return wants;
}

/** An op with its tensors in place of their numbers. */
export function placed(graph: Graph, op: Op) {
  const lookUp = (id: TensorId) => graph.tensors[id]!;
  return { ...op, inputs: op.inputs.map(lookUp), outputs: op.outputs.map(lookUp) };
}
