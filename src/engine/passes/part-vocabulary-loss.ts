// Pass: a loss over a parted vocabulary becomes, for each chunk of rows, this rank's logits, a sum over the tensor group of a few numbers
// per row, and the loss or its gradients. All chunks write the same tensors in turn, so that this is the last pass before places are given.
import { GraphBuilder } from '../builder.js';
import type { Attributes, Graph, Op, TensorId } from '../graph.js';
import { groupIndex } from '../mesh.js';

export function partVocabularyLoss(graph: Graph): Graph {
  if (!graph.ops.some(isParted)) return graph;
  const builder = new GraphBuilder({ ...graph, ops: [] });
  for (const op of graph.ops) {
    if (!isParted(op)) builder.keep(op);
    else {
      const chunks = Math.ceil(graph.tensors[op.inputs[0]!]!.dims[0]! / op.attributes.chunkRows!);
      for (let chunk = 0; chunk < chunks; chunk++) writeChunk(builder, op, chunk);
    }
  }
  return builder.build(graph.gradients);
}

function isParted({ kind, attributes }: Op): boolean {
  return kind.startsWith('linear_cross_entropy') && attributes.ranks !== undefined;
}

function writeChunk(builder: GraphBuilder, op: Op, chunk: number): void {
  const { path, attributes } = op;
  const { hasBias, weighted } = attributes as { hasBias: number; weighted: number };
  const [x, w, labels, scale] = op.inputs as [TensorId, TensorId, TensorId, TensorId];
  const bias = hasBias ? [op.inputs[4]!] : [];
  const weights = weighted ? [op.inputs[4 + hasBias]!] : [];
  const isGradient = op.kind === 'linear_cross_entropy_grad';
  const [loss, tokenLosses, ...rest] = op.outputs as [TensorId, TensorId, ...TensorId[]];
  const shared: Attributes = { ...attributes, chunk };

  const operands = [x, w, labels, ...bias].map((id) => builder.tensor(id));
  const spread = !isGradient && rest.length > 1 ? 1 : 0;
  const role = isGradient ? 'gradient' : 'activation';
  const [logits, stats] = builder.op('vocabulary_logits', path, operands, { ...shared, spread }, role);
  const [sums] = builder.op('all_reduce', path, [stats!], { group: groupIndex('tensor'), op: 0 });
  if (!isGradient) {
    const outputs = [loss, tokenLosses, ...rest.slice(1)];
    const inputs = [sums!.id, labels, scale, ...weights];
    builder.keep({ kind: 'vocabulary_loss', path, inputs, outputs, attributes: shared });
    return;
  }
  const [dx, , ...gradients] = rest as [TensorId, TensorId, ...TensorId[]];
  const beta = op.inputs.at(-1)!;
  const inputs = [x, w, labels, scale, ...weights, logits!.id, sums!.id, beta];
  const outputs = [loss, tokenLosses, dx, logits!.id, ...gradients];
  builder.keep({ kind: 'vocabulary_loss_grad', path, inputs, outputs, attributes: shared });
}
