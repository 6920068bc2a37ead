// Pass: linear_cross_entropy + linear_cross_entropy_grad of the same operands → the second alone, which gives loss and
// gradients from one set of logits. Equal because the loss outputs of both ops are the same function of the same operands.
import type { Graph, Op } from '../graph.js';

export function fuseHeadLoss(graph: Graph): Graph {
  const gradOf = new Map<string, Op>();
  for (const op of graph.ops) if (op.kind === 'linear_cross_entropy_grad') gradOf.set(op.inputs.join(), op);
  const moved = new Set<Op>();
  const replaced = new Map<Op, Op>();
  for (const op of graph.ops) {
    const grad = op.kind === 'linear_cross_entropy' ? gradOf.get(op.inputs.join()) : undefined;
    if (!grad || moved.has(grad)) continue;
    moved.add(grad);
    replaced.set(op, { ...grad, outputs: [op.outputs[0]!, op.outputs[1]!, ...grad.outputs.slice(2)] });
  }
  return { ...graph, ops: graph.ops.flatMap((op) => (moved.has(op) ? [] : [replaced.get(op) ?? op])) };
}
