// Pass: drops ops whose results nobody reads, and optional last outputs that nobody reads. Results are the graph's outputs,
// its gradients, and whatever is written onto bytes from outside.
import type { Graph, Op, TensorId } from '../graph.js';
import { ruleOf } from '../ops/index.js';

export function prune(graph: Graph): Graph {
  const live = new Set<TensorId>([...graph.outputs.values(), ...graph.gradients.values()]);
  const kept: Op[] = [];
  for (const op of graph.ops.toReversed()) {
    // What gives nothing is there for its effect: it sends, or waits for all.
    if (op.outputs.length > 0 && !op.outputs.some((id) => live.has(id) || updatesOutside(graph, id))) continue;
    for (const id of op.inputs) live.add(id);
    for (const id of op.outputs) {
      const { continues } = graph.tensors[id]!;
      if (continues !== null) live.add(continues); // what is added to must have been written
    }
    const optionalFrom = ruleOf(op.kind).optionalOutputsFrom ?? op.outputs.length;
    // Only from the end: ops know their outputs by position.
    const last = op.outputs.findLastIndex((id, index) => index < optionalFrom || live.has(id));
    const outputs = op.outputs.slice(0, last + 1);
    kept.push(outputs.length === op.outputs.length ? op : { ...op, outputs });
  }
  return { ...graph, ops: kept.reverse() };
}

/** Whether writing `id` changes an input of the graph. */
function updatesOutside(graph: Graph, id: TensorId): boolean {
  const { continues } = graph.tensors[id]!;
  return continues !== null && graph.tensors[continues]!.role !== 'activation';
}
