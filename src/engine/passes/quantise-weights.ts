// Pass: frozen weights of linear layers in 4 bits (QLoRA, arXiv:2305.14314 §3.1). The parameter keeps its name and dims; its bytes are
// those of NF4, and the layer becomes one that reads them.
import { GraphBuilder } from '../builder.js';
import type { Graph, Parameter, Tensor, TensorId } from '../graph.js';
import type { Nf4Settings } from '../nf4.js';
import { linearLayer } from './lora.js';

/** `isTarget` says which weights of linear layers; a weight that another op reads too stays as it is. */
export function quantiseWeights(
  graph: Graph,
  settings: Nf4Settings,
  isTarget: (parameter: Parameter) => boolean,
): Graph {
  const uses = new Map<TensorId, number>();
  for (const { inputs } of graph.ops) for (const id of inputs) uses.set(id, (uses.get(id) ?? 0) + 1);
  const layers = graph.ops.flatMap((op) => linearLayer(graph, op) ?? []);
  const chosen = new Map(
    layers
      .filter(({ weight }) => isTarget(weight) && uses.get(weight.tensor) === 1)
      .map(({ weight }) => [weight.tensor, weight] as const),
  );
  const names = new Set([...chosen.values()].map(({ name }) => name));
  const others = [...graph.parameters].filter(([name]) => !names.has(name));
  const builder = new GraphBuilder({ ...graph, ops: [], parameters: new Map(others) });
  const replaced = new Map<TensorId, Tensor>();
  const moved = (id: TensorId) => replaced.get(id)?.id ?? id;
  for (const op of graph.ops) {
    const weight = chosen.get(op.inputs[1] ?? -1);
    if (op.kind !== 'linear' || !weight) {
      builder.keep({ ...op, inputs: op.inputs.map(moved) });
      continue;
    }
    const { name, dims, bucket, init } = weight;
    const w = builder.parameter(name, dims, { bucket, init, isFrozen: true, nf4: settings });
    const [x, , bias] = op.inputs.map((id) => replaced.get(id) ?? builder.tensor(id));
    const y = builder.tensor(op.outputs[0]!);
    const attributes = {
      transposed: op.attributes.transposed!,
      outputs: y.dims[1]!,
      doubleQuant: settings.isDouble ? 1 : 0,
    };
    const [result] = builder.op('linear_nf4', op.path, bias ? [x!, w, bias] : [x!, w], attributes);
    replaced.set(y.id, result!);
  }
  for (const [name, id] of graph.outputs) builder.output(name, replaced.get(id) ?? builder.tensor(id));
  return builder.build();
}
