// Pass: pre = linear(x); y = act(pre)  →  y, pre = linear(x; activation). The same arithmetic in one sweep over memory; `pre`
// stays an output for the derivative, and is dropped by `prune` where nobody reads it. Needs: the activation is pre's only reader.
import { type Graph, type Op, useCounts } from '../graph.js';

export function fuseLinearActivation(graph: Graph): Graph {
  const uses = useCounts(graph);
  const linears = new Set(
    graph.ops
      .filter((op) => op.kind === 'linear' && op.attributes.activation === 0 && uses.get(op.outputs[0]!) === 1)
      .map((op) => op.outputs[0]!),
  );
  const activationOf = new Map<number, Op>();
  for (const op of graph.ops) {
    if (op.kind === 'activation' && linears.has(op.inputs[0]!)) activationOf.set(op.inputs[0]!, op);
  }
  const fused = new Set(activationOf.values());
  const ops = graph.ops.flatMap((op): Op[] => {
    if (fused.has(op)) return [];
    const pre = op.outputs[0];
    const activation = op.kind === 'linear' && pre !== undefined ? activationOf.get(pre) : undefined;
    if (!activation || pre === undefined) return [op];
    const attributes = { ...op.attributes, activation: activation.attributes.kind! };
    return [{ ...op, attributes, outputs: [activation.outputs[0]!, pre] }];
  });
  return { ...graph, ops };
}
