// Pass: g = backward(...); sum = a + g  →  sum = backward(..., addend a), for ops that can add while they write. Equal up to
// the order of one addition (a + g is commutative). Needs: the sum is g's only reader, and a exists before g is made.
import { type Graph, type Op, producers, useCounts } from '../graph.js';

const TAKES_ADDEND = new Set(['linear_backward_input', 'layer_norm_backward', 'rms_norm_backward']);

export function fuseGradientSums(graph: Graph): Graph {
  const uses = useCounts(graph);
  const madeBy = new Map(producers(graph));
  const ops: (Op | null)[] = [...graph.ops];
  for (const [index, op] of graph.ops.entries()) {
    if (op.kind !== 'add') continue;
    const [a, g] = op.inputs as [number, number];
    const maker = madeBy.get(g);
    const source = maker === undefined ? null : ops[maker];
    if (maker === undefined || !source || source.outputs[0] !== g || uses.get(g) !== 1) continue;
    if (!TAKES_ADDEND.has(source.kind) || (madeBy.get(a) ?? -1) >= maker || hasAddend(source)) continue;
    const attributes =
      source.kind === 'linear_backward_input' ? source.attributes : { ...source.attributes, hasAddend: 1 };
    const outputs = [op.outputs[0]!, ...source.outputs.slice(1)];
    ops[maker] = { ...source, inputs: [...source.inputs, a], outputs, attributes };
    madeBy.set(op.outputs[0]!, maker);
    ops[index] = null;
  }
  return { ...graph, ops: ops.filter((op) => op !== null) };
}

function hasAddend(op: Op): boolean {
  return op.kind === 'linear_backward_input' ? op.inputs.length === 3 : op.attributes.hasAddend === 1;
}
