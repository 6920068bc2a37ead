// Pass: between the matrices that a tensor group cuts, each of its ranks has as many of the rows alone: residual sums, norms and dropout are done
// once in the group, not by every rank (Korthikanti et al., arXiv:2205.05198 §4.2). The sum behind a region becomes a reduce_scatter, the
// copy before one an all_gather: together the bytes of the sum. Runs on the forward, behind the passes that cut matrices and rows.
import { ConfigError } from '../../common/index.js';
import { GraphBuilder, RANDOM } from '../builder.js';
import { elementCount, type Graph, type Op, producers, type Tensor, type TensorId } from '../graph.js';
import { groupIndex } from '../mesh.js';
import { ruleOf } from '../ops/index.js';
import type { Cut } from '../shard.js';
import { heldParameter, type TensorShare } from './tensor-parallel.js';

/** Inputs that are no rows, however many elements they have. */
const NO_ROWS: ReadonlySet<string> = new Set(['scale', RANDOM]);

/** `rows`: those of the matrices of `graph`. */
export function splitRows(graph: Graph, rows: number, share: TensorShare): Graph {
  const { ranks, rank } = share;
  if (ranks === 1) return graph;
  if (rows % ranks !== 0) {
    const hint = `The nearest are ${rows - (rows % ranks)} and ${rows - (rows % ranks) + ranks}`;
    throw new ConfigError('rows', `a multiple of the ${ranks} ranks of tensorParallel`, rows, hint);
  }
  const group = groupIndex(share.group);
  const builder = new GraphBuilder({ ...graph, ops: [], borders: [] });
  const facts = factsOf(graph, rows);
  const replaced = new Map<TensorId, Tensor>();
  /** Tensors of which this rank has its rows alone, as `replaced` has them. */
  const split = new Set<TensorId>();
  /** Terms of a sum that is taken later. */
  const terms = new Map<TensorId, Tensor>();
  /** Row-split tensors as a whole, and whole ones' own rows, where somebody wants them so. */
  const converted = new Map<TensorId, Tensor>();
  const cuts = new Map<string, Cut>();
  const now = (id: TensorId): Tensor => replaced.get(id) ?? builder.tensor(id);

  /** `isAlike`: all ranks have the same share of x, which each goes on to use, and finds the whole gradient of. */
  const scatter = (path: string, x: Tensor, isAlike: boolean): Tensor => {
    const slice = elementCount(x.dims) / ranks;
    return builder.op('reduce_scatter', path, [x], { group, slice, columns: x.dims[1]!, alike: isAlike ? 1 : 0 })[0]!;
  };
  /** `isAlike`: all ranks go the same way with it, so that each finds the whole gradient. */
  const gather = (path: string, x: Tensor, isAlike: boolean): Tensor => {
    const whole = elementCount(x.dims) * ranks;
    return builder.op('all_gather', path, [x], { group, whole, columns: x.dims[1]!, alike: isAlike ? 1 : 0 })[0]!;
  };
  const wholeOf = (path: string, id: TensorId): Tensor => {
    if (!split.has(id)) return now(id);
    if (!converted.has(id)) converted.set(id, gather(path, now(id), true));
    return converted.get(id)!;
  };
  const rowsOf = (path: string, id: TensorId): Tensor => {
    if (split.has(id) || !facts.isActivation(id)) return now(id);
    // Of equal terms the sum of their parts: exact where `ranks` is a power of two.
    if (!converted.has(id))
      converted.set(id, scatter(path, builder.op('scale', path, [now(id)], { factor: 1 / ranks })[0]!, true));
    return converted.get(id)!;
  };
  const isSum = ({ kind, attributes, inputs }: Op): boolean =>
    kind === 'all_reduce' && attributes.group === group && facts.isActivation(inputs[0]!);
  /** The sum of terms, here or behind a lookup that is added to it. */
  const end = (path: string, id: TensorId, term: Tensor): void => {
    if (facts.isAddend(id)) terms.set(id, term);
    else {
      replaced.set(id, scatter(path, term, false));
      split.add(id);
    }
  };
  /** Of a parameter that is applied to rows every rank finds a term of the gradient. */
  const applyToRows = (id: TensorId): void => {
    const parameter = facts.parameters.get(id);
    if (parameter && !parameter.cut)
      cuts.set(parameter.name, { dims: parameter.dims, dim: 0, blocks: 1, parts: 1, ranks });
  };

  for (const op of graph.ops) {
    const { kind, path, inputs, outputs, attributes } = op;
    const [output] = outputs as [TensorId];
    const term = kind === 'embedding' ? terms.get(inputs[2] ?? -1) : undefined;
    if (isSum(op)) end(path, output, now(inputs[0]!));
    else if (term) {
      // One rank looks up for all.
      const [ids, table] = [now(inputs[0]!), now(inputs[1]!)];
      const entries = table.dims[0]!;
      applyToRows(inputs[1]!);
      const part = { start: rank === 0 ? 0 : entries, entries };
      end(path, output, builder.op(kind, path, [ids, table, term], { ...attributes, ...part })[0]!);
    } else if (!inputs.some((id) => split.has(id))) {
      for (const [index, made] of builder.op(kind, path, inputs.map(now), attributes).entries())
        replaced.set(outputs[index]!, made);
    } else if (kind === 'fan_out') {
      replaced.set(output, gather(path, now(inputs[0]!), false));
    } else if (kind === 'attention' || inputs.some(facts.isPerRow)) {
      const whole = inputs.map((id) => wholeOf(path, id));
      for (const [index, made] of builder.op(kind, path, whole, attributes).entries())
        replaced.set(outputs[index]!, made);
    } else {
      const own = inputs.map((id) => rowsOf(path, id));
      for (const id of inputs) applyToRows(id);
      const call = { kind, path, inputs: own, attributes };
      const cut = ruleOf(kind).shardRows?.(call, ranks, rank) ?? attributes;
      for (const [index, made] of builder.op(kind, path, own, cut).entries()) {
        replaced.set(outputs[index]!, made);
        split.add(outputs[index]!);
      }
    }
  }
  for (const id of graph.borders) builder.border(now(id));
  for (const [name, id] of graph.outputs) builder.output(name, wholeOf(name, id));

  const built = builder.build();
  const parameters = new Map(
    [...built.parameters].map(([name, parameter]) => [name, heldParameter(parameter, cuts.get(name) ?? parameter.cut)]),
  );
  return { ...built, parameters };
}

function factsOf(graph: Graph, rows: number) {
  const madeBy = producers(graph);
  const parameters = new Map([...graph.parameters.values()].map((parameter) => [parameter.tensor, parameter]));
  const perRow = new Set(
    [...graph.inputs].flatMap(([name, id]) => (!NO_ROWS.has(name) && graph.tensors[id]!.dims[0] === rows ? [id] : [])),
  );
  const ends = new Set([...graph.borders, ...graph.outputs.values()]);
  const readBy = new Map<TensorId, Op[]>();
  for (const op of graph.ops) for (const id of op.inputs) readBy.set(id, [...(readBy.get(id) ?? []), op]);
  return {
    parameters,
    /** A matrix of rows that an op makes. */
    isActivation: (id: TensorId): boolean => {
      const { dims } = graph.tensors[id]!;
      return madeBy.has(id) && dims.length === 2 && dims[0] === rows;
    },
    /** An input of the program with a number, or several, for each row. */
    isPerRow: (id: TensorId): boolean => perRow.has(id),
    /** Nobody reads it but one lookup, which is added to it. */
    isAddend: (id: TensorId): boolean => {
      const [reader, ...others] = readBy.get(id) ?? [];
      return reader?.kind === 'embedding' && reader.inputs[2] === id && others.length === 0 && !ends.has(id);
    },
  };
}
