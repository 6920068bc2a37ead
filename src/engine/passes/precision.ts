// Pass: how the numbers of a forward are stored. Parameters and caches become `dtype`, and every op is inferred again, so that
// all activations follow; what the rules of the ops keep in f32 stays. Autodiff then writes a backward of the same types.
// Results are handed out in f32. Runs before all fusions.
import { GraphBuilder } from '../builder.js';
import { DTYPE_CODES, type Dtype, type FloatType, type Graph, isFloatType, type TensorId } from '../graph.js';
import { ruleOf } from '../ops/index.js';

export function store(graph: Graph, dtype: FloatType): Graph {
  if (dtype === 'f32') return graph;
  const tensors = [...graph.tensors];
  const retype = (id: TensorId, type: Dtype) => {
    tensors[id] = { ...tensors[id]!, dtype: type };
  };
  for (const { tensor } of graph.parameters.values()) if (isFloatType(tensors[tensor]!.dtype)) retype(tensor, dtype);
  for (const id of graph.inputs.values()) {
    const { role, dtype: known } = tensors[id]!;
    if (role === 'state' && isFloatType(known)) retype(id, dtype);
  }
  for (const op of graph.ops) {
    const types = ruleOf(op.kind).infer({ ...op, inputs: op.inputs.map((id) => tensors[id]!) });
    for (const [index, id] of op.outputs.entries()) retype(id, types[index]!.dtype);
  }
  const builder = new GraphBuilder({ ...graph, tensors });
  for (const [name, id] of graph.outputs) {
    if (tensors[id]!.dtype !== dtype) continue;
    builder.output(name, builder.op('cast', name, [tensors[id]!], { to: DTYPE_CODES.f32 })[0]!);
  }
  return builder.build();
}
