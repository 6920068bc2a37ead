// Pass: frozen weights of linear layers in 4 bits (QLoRA, arXiv:2305.14314 §3.1). The parameter keeps its name and dims; its bytes are
// those of NF4, and the layer becomes one that reads them. Of what a tensor group cuts each rank rounds its part: blocks of numbers with one
// scale are those of the whole where they divide what a rank has of a row.
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
  const builder = new GraphBuilder({ ...graph, ops: [], borders: [], parameters: new Map(others) });
  const replaced = new Map<TensorId, Tensor>();
  const now = (id: TensorId): Tensor => replaced.get(id) ?? builder.tensor(id);
  for (const op of graph.ops) {
    const weight = chosen.get(op.inputs[1] ?? -1);
    if (op.kind !== 'linear' || !weight) {
      const made = builder.op(op.kind, op.path, op.inputs.map(now), op.attributes);
      for (const [index, id] of op.outputs.entries()) replaced.set(id, made[index]!);
      continue;
    }
    const { name, dims, bucket, init } = weight;
    const w = builder.parameter(name, dims, { bucket, init, isFrozen: true, nf4: settings });
    const [x, bias] = [now(op.inputs[0]!), op.inputs[2] === undefined ? null : now(op.inputs[2])];
    const y = builder.tensor(op.outputs[0]!);
    const { transposed, leavesBias } = op.attributes;
    const attributes = {
      transposed: transposed!,
      outputs: y.dims[1]!,
      doubleQuant: settings.isDouble ? 1 : 0,
      ...(leavesBias === undefined ? {} : { leavesBias }),
    };
    const [result] = builder.op('linear_nf4', op.path, bias ? [x, w, bias] : [x, w], attributes);
    replaced.set(y.id, result!);
  }
  for (const id of graph.borders) builder.border(now(id));
  for (const [name, id] of graph.outputs) builder.output(name, now(id));
  const built = builder.build();
  const cuts = new Map([...chosen.values()].map(({ name, cut }) => [name, cut]));
  const parameters = new Map(
    [...built.parameters].map(([name, parameter]) => {
      const cut = cuts.get(name);
      return [name, cut ? { ...parameter, cut } : parameter];
    }),
  );
  return { ...built, parameters };
}
