// Pass: sequence parallelism (DeepSpeed-Ulysses, arXiv:2309.14509). Every rank of the sequence group has as many of the rows of a
// micro-batch. All ops work on rows of their own but attention, around which rows are exchanged for heads: each rank sees all rows of its
// heads, so that packed sequences may lie across the borders of ranks. Runs on the forward, behind tensor parallelism.
import { ConfigError } from '../../common/index.js';
import { GraphBuilder, RANDOM } from '../builder.js';
import type { Attributes, Graph, Op, Tensor, TensorId } from '../graph.js';
import { groupIndex, groupOf, type Mesh } from '../mesh.js';
import { expectHeadsCut, ruleOf } from '../ops/index.js';

/** Inputs that every rank has whole: the segments that attention sees, and what does not belong to rows. */
const WHOLE: ReadonlySet<string> = new Set(['starts', 'ends', 'scale', RANDOM]);

export function shardRows(graph: Graph, rows: number, mesh: Mesh, rank: number): Graph {
  const { size: ranks, index } = groupOf(mesh, rank, 'sequence');
  if (ranks === 1) return graph;
  if (rows % ranks !== 0) {
    const hint = `The nearest are ${rows - (rows % ranks)} and ${rows - (rows % ranks) + ranks}`;
    throw new ConfigError('rows', `a multiple of the ${ranks} ranks of sequenceParallel`, rows, hint);
  }
  const tensors = [...graph.tensors];
  for (const [name, id] of graph.inputs) {
    const { dims } = tensors[id]!;
    if (!WHOLE.has(name) && dims[0] === rows) tensors[id] = { ...tensors[id]!, dims: [rows / ranks, ...dims.slice(1)] };
  }
  const builder = new GraphBuilder({ ...graph, tensors, ops: [], borders: [] });
  const replaced = new Map<TensorId, Tensor>();
  const now = (id: TensorId) => replaced.get(id) ?? builder.tensor(id);
  for (const op of graph.ops) {
    const inputs = op.inputs.map(now);
    const outputs =
      op.kind === 'attention'
        ? attendByHeads(builder, op, inputs, ranks, index)
        : builder.op(op.kind, op.path, inputs, attributesOf(op, inputs, ranks, index));
    for (const [position, id] of op.outputs.entries()) {
      const made = outputs[position];
      if (made) replaced.set(id, made);
    }
  }
  for (const id of graph.borders) builder.border(now(id));
  for (const [name, id] of graph.outputs) builder.output(name, now(id));
  return builder.build();
}

function attributesOf(op: Op, inputs: readonly Tensor[], ranks: number, rank: number): Attributes {
  const { kind, path, attributes } = op;
  return ruleOf(kind).shardRows?.({ kind, path, inputs, attributes }, ranks, rank) ?? attributes;
}

/** Rows for heads, attention over all rows, and back. */
function attendByHeads(
  builder: GraphBuilder,
  op: Op,
  inputs: readonly Tensor[],
  ranks: number,
  rank: number,
): readonly Tensor[] {
  const { path } = op;
  const attributes = op.attributes as Record<string, number>;
  const { heads, kvHeads, headDim } = attributes as { heads: number; kvHeads: number; headDim: number };
  expectHeadsCut('sequenceParallel', path, heads, kvHeads, ranks);
  const [q, k, v, ...rest] = inputs as [Tensor, Tensor, Tensor, ...Tensor[]];
  const group = { group: groupIndex('sequence') };
  const places = ['qOffset', 'qHeadStride', 'kOffset', 'kHeadStride', 'vOffset', 'vHeadStride'];
  const dealt = {
    parts: ranks,
    heads,
    kvHeads,
    headDim,
    ...Object.fromEntries(places.map((name) => [name, attributes[name]!])),
  };
  const [sent] = builder.op('heads_to_parts', path, [q, k, v], dealt);
  const [rows] = builder.op('all_to_all', path, [sent!], group);

  const own = heads / ranks;
  const ownKv = Math.max(1, kvHeads / ranks);
  const seen: Attributes = {
    ...attributes,
    heads: own,
    kvHeads: ownKv,
    ...{ qOffset: 0, kOffset: own * headDim, vOffset: (own + ownKv) * headDim },
    ...{ qHeadStride: headDim, kHeadStride: headDim, vHeadStride: headDim },
    ...(attributes.p === undefined ? {} : { firstHead: (attributes.firstHead ?? 0) + rank * own }),
  };
  const [mixed] = builder.op('attention', path, [rows!, rows!, rows!, ...rest], seen);
  const [back] = builder.op('all_to_all', path, [mixed!], group);
  const none = { kvHeads: 0, qOffset: 0, qHeadStride: headDim, kOffset: 0, kHeadStride: 0, vOffset: 0, vHeadStride: 0 };
  return builder.op('parts_to_heads', path, [back!], {
    parts: ranks,
    heads,
    headDim,
    ...none,
    qWidth: heads * headDim,
  });
}
