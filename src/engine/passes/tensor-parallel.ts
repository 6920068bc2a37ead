// Pass: tensor parallelism (Megatron-LM, arXiv:1909.08053 §3). Every rank of the tensor group has a part of the large matrices and does
// its part of their products. Splits of columns travel through the ops by their `shard` rules; where ranks find terms of a sum, an
// all_reduce appears, behind the op or, for the gradient of what they all read (fan_out), in the backward. Runs on the forward.
import { GraphBuilder } from '../builder.js';
import type { Graph, Op, Parameter, Tensor, TensorId } from '../graph.js';
import { groupIndex, groupOf, type Mesh } from '../mesh.js';
import { ruleOf, type ShardedOp, type Split } from '../ops/index.js';
import { type Cut, heldDims } from '../shard.js';
import { assignCuts } from './tensor-cuts.js';

/** One of the ranks that have parts of the matrices. */
export interface TensorShare {
  readonly ranks: number;
  readonly rank: number;
  /** Where they exchange. */
  readonly group: 'tensor' | 'generation';
}

/** The part of `rank` in each matrix, beside those of its group. */
export function tensorShare(mesh: Mesh, rank: number, group: TensorShare['group'] = 'tensor'): TensorShare {
  const { size, index } = groupOf(mesh, rank, group);
  return { ranks: size, rank: index, group };
}

/** What a rank does of `graph`. `assigned`: which parameters are cut and how; default: what the graph itself shows. */
export function shardTensors(graph: Graph, share: TensorShare, assigned?: ReadonlyMap<string, Cut>): Graph {
  const { ranks, rank: index } = share;
  if (ranks === 1) return graph;
  const cuts = new Map(assigned ?? assignCuts(graph, ranks));
  const nameOf = new Map([...graph.parameters.values()].map(({ name, tensor }) => [tensor, name]));
  const tensors = [...graph.tensors];
  for (const { name, tensor } of graph.parameters.values()) {
    const cut = cuts.get(name);
    if (cut) tensors[tensor] = { ...tensors[tensor]!, dims: heldDims(cut) };
  }
  const builder = new GraphBuilder({ ...graph, tensors, ops: [], borders: [] });
  const group = groupIndex(share.group);
  const replaced = new Map<TensorId, Tensor>();
  const splits = new Map<TensorId, Split>(); // of activations, by their ids in `graph`
  const fans = new Map<TensorId, Tensor>();
  const now = (id: TensorId) => replaced.get(id) ?? builder.tensor(id);

  for (const op of graph.ops) {
    const sharded = shardOp(graph, op, splits, nameOf, cuts, ranks, index);
    for (const [position, dims] of sharded?.state ?? []) builder.resize(op.inputs[position]!, dims);
    const inputs = op.inputs.map((id, position) => {
      if (!sharded?.shared?.includes(position)) return now(id);
      const name = nameOf.get(id);
      if (name === undefined) return fans.get(id) ?? fan(id, op.path);
      const { dims } = graph.parameters.get(name)!;
      cuts.set(name, { dims, dim: 0, blocks: 1, parts: 1, ranks }); // whole everywhere, its gradient a sum
      return now(id);
    });
    const outputs = builder.op(op.kind, op.path, inputs, sharded?.attributes ?? op.attributes);
    for (const [position, id] of op.outputs.entries()) {
      const made = outputs[position]!;
      const how = sharded?.outputs[position] ?? null;
      if (how === 'partial') replaced.set(id, builder.op('all_reduce', op.path, [made], { group, op: 0 })[0]!);
      else replaced.set(id, made);
      if (how !== null && how !== 'partial') splits.set(id, how);
    }
  }
  for (const id of graph.borders) builder.border(now(id));
  for (const [name, id] of graph.outputs) builder.output(name, now(id));

  const built = builder.build();
  const parameters = new Map(
    [...built.parameters].map(([name, parameter]) => [name, heldParameter(parameter, cuts.get(name))]),
  );
  return { ...built, parameters };

  function fan(id: TensorId, path: string): Tensor {
    const made = builder.op('fan_out', path, [now(id)], { group })[0]!;
    fans.set(id, made);
    return made;
  }
}

/** What a rank has of a parameter. */
export function heldParameter(parameter: Parameter, cut: Cut | undefined): Parameter {
  return cut ? { ...parameter, dims: heldDims(cut), cut } : parameter;
}

/** What a rank does in place of an op of `graph`; null where nothing is split. */
function shardOp(
  graph: Graph,
  op: Op,
  splits: ReadonlyMap<TensorId, Split>,
  nameOf: ReadonlyMap<TensorId, string>,
  byName: ReadonlyMap<string, Cut>,
  ranks: number,
  rank: number,
): ShardedOp | null {
  const cuts = op.inputs.map((id) => byName.get(nameOf.get(id) ?? '') ?? null);
  const inputSplits = op.inputs.map((id) => splits.get(id) ?? null);
  if (cuts.every((cut) => cut === null) && inputSplits.every((split) => split === null)) return null;
  const { shard } = ruleOf(op.kind);
  if (!shard) throw new Error(`${op.path}: ${op.kind} does not say how splits travel through it`);
  const inputs = op.inputs.map((id) => graph.tensors[id]!);
  return shard({
    kind: op.kind,
    path: op.path,
    inputs,
    attributes: op.attributes,
    splits: inputSplits,
    cuts,
    ranks,
    rank,
  });
}

/** After the backward is written: x in the place of fan_out(x). */
export function dropFanOuts(graph: Graph): Graph {
  const original = new Map<TensorId, TensorId>();
  const ops: Op[] = [];
  for (const op of graph.ops) {
    if (op.kind === 'fan_out') original.set(op.outputs[0]!, op.inputs[0]!);
    else ops.push({ ...op, inputs: op.inputs.map((id) => original.get(id) ?? id) });
  }
  return original.size === 0 ? graph : { ...graph, ops };
}
