// Which parameters a tensor group cuts, found in the graph: pairs of linear layers with nothing but columns on their own between them (the
// first cut by outputs, the second by inputs: Megatron-LM, arXiv:1909.08053 §3), and matrices over the vocabulary. All others stay whole.
import { ConfigError } from '../../common/index.js';
import { placed } from '../autodiff.js';
import { type Graph, type Op, type Parameter, producers, type TensorId } from '../graph.js';
import { HEAD_PATHS } from '../objective.js';
import { ruleOf, type Split } from '../ops/index.js';
import type { Cut } from '../shard.js';

/** Throws {@link ConfigError} that names the nearest smaller number of ranks that fits. */
export function assignCuts(graph: Graph, ranks: number): ReadonlyMap<string, Cut> {
  try {
    return cutsFor(graph, ranks);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    let nearest = ranks - 1;
    while (nearest > 1 && !fits(graph, nearest)) nearest--;
    throw new ConfigError(error.path, error.expected, error.received, `The nearest that fits is ${nearest}`);
  }
}

function fits(graph: Graph, ranks: number): boolean {
  try {
    cutsFor(graph, ranks);
    return true;
  } catch (error) {
    if (error instanceof ConfigError) return false;
    throw error;
  }
}

function cutsFor(graph: Graph, ranks: number): ReadonlyMap<string, Cut> {
  const facts = factsOf(graph);
  const cuts = new Map<string, Cut>();
  for (const op of graph.ops.toReversed()) {
    if (!isLayer(facts, op) || cuts.has(weightOf(facts, op)!.name)) continue;
    const region = regionBefore(facts, op, ranks);
    if (!region || [...region.columns.keys(), ...region.rows].some((op) => cuts.has(weightOf(facts, op)!.name)))
      continue;
    for (const [first, split] of region.columns) {
      const { name, dims } = weightOf(facts, first)!;
      const dim = first.attributes.transposed ? 1 : 0;
      if (dims[dim]! % (split.blocks * split.parts) !== 0) throw misfit(name, dims[dim]! / split.blocks, ranks);
      cuts.set(name, { dims, dim, ...split, ranks });
      const bias = facts.parameters.get(first.inputs[2] ?? -1);
      if (bias) cuts.set(bias.name, { dims: bias.dims, dim: 0, ...split, ranks });
    }
    for (const second of region.rows) {
      const { name, dims } = weightOf(facts, second)!;
      cuts.set(name, { dims, dim: second.attributes.transposed ? 0 : 1, blocks: 1, parts: ranks, ranks });
    }
  }
  for (const [name, cut] of vocabularyCuts(facts, ranks)) cuts.set(name, cut);
  return cuts;
}

interface Facts {
  readonly graph: Graph;
  readonly madeBy: ReadonlyMap<TensorId, number>;
  readonly readBy: ReadonlyMap<TensorId, readonly Op[]>;
  readonly parameters: ReadonlyMap<TensorId, Parameter>;
  readonly outputs: ReadonlySet<TensorId>;
}

interface Region {
  /** Layers that make split columns, and how. */
  readonly columns: ReadonlyMap<Op, Split>;
  /** Layers that read them. */
  readonly rows: ReadonlySet<Op>;
}

function factsOf(graph: Graph): Facts {
  const readBy = new Map<TensorId, Op[]>();
  for (const op of graph.ops) for (const id of new Set(op.inputs)) readBy.set(id, [...(readBy.get(id) ?? []), op]);
  const parameters = new Map([...graph.parameters.values()].map((parameter) => [parameter.tensor, parameter]));
  return { graph, madeBy: producers(graph), readBy, parameters, outputs: new Set(graph.outputs.values()) };
}

function weightOf({ parameters }: Facts, op: Op): Parameter | undefined {
  return parameters.get(op.inputs[1] ?? -1);
}

/** A linear layer that is no output of the model, with a weight that nobody else uses. */
function isLayer(facts: Facts, op: Op): boolean {
  if (op.kind !== 'linear' || HEAD_PATHS.has(op.path) || !weightOf(facts, op)) return false;
  return facts.readBy.get(op.inputs[1]!)!.length === 1;
}

/** All that is split when the input of `last` is; null where something on the way cannot be. */
function regionBefore(facts: Facts, last: Op, ranks: number): Region | null {
  const { graph, madeBy, readBy, outputs } = facts;
  const whole: Split = { blocks: 1, parts: ranks };
  const splits = new Map<TensorId, Split>([[last.inputs[0]!, whole]]);
  const columns = new Map<Op, Split>();
  const rows = new Set<Op>();
  const claim = (id: TensorId, split: Split, open: TensorId[]): boolean => {
    const known = splits.get(id);
    if (known) return known.blocks === split.blocks && known.parts === split.parts;
    splits.set(id, split);
    open.push(id);
    return true;
  };
  const open = [last.inputs[0]!];
  for (let id = open.pop(); id !== undefined; id = open.pop()) {
    const split = splits.get(id)!;
    const maker = graph.ops[madeBy.get(id) ?? -1];
    if (!maker || maker.outputs[0] !== id || outputs.has(id)) return null;
    if (isLayer(facts, maker)) columns.set(maker, split);
    else {
      const call = placed(graph, maker);
      const rule = ruleOf(maker.kind);
      const inputs = rule.columnInputs?.(call) ?? [];
      if (inputs.length === 0) return null;
      for (const input of inputs) {
        const demand = rule.demand ? rule.demand(call, input, split) : split;
        if (!demand || !claim(maker.inputs[input]!, demand, open)) return null;
      }
    }
    for (const reader of readBy.get(id) ?? []) {
      if (isLayer(facts, reader) && reader.inputs[0] === id) {
        if (split.blocks !== 1 || split.parts !== ranks) return null;
        rows.add(reader);
        continue;
      }
      const { columnInputs, splitOut } = ruleOf(reader.kind);
      if (!columnInputs?.(placed(graph, reader)).some((input) => reader.inputs[input] === id)) return null;
      if (!claim(reader.outputs[0]!, splitOut?.(split, ranks) ?? split, open)) return null;
    }
  }
  return [...columns.keys()].some((op) => splits.has(op.inputs[0]!)) ? null : { columns, rows };
}

/** The table that `ids` look up and the output matrix over the same entries, where nothing but a lookup and the loss reads them. */
function vocabularyCuts({ graph, readBy, parameters }: Facts, ranks: number): ReadonlyMap<string, Cut> {
  const cuts = new Map<string, Cut>();
  const ids = graph.inputs.get('ids');
  const lookups = graph.ops.filter(({ kind, inputs }) => kind === 'embedding' && inputs[0] === ids);
  const entries = graph.tensors[lookups[0]?.inputs[1] ?? -1]?.dims[0];
  const isLookup = (op: Op) => lookups.includes(op) && op.inputs.length === 2;
  const isLoss = ({ kind }: Op) => kind === 'linear_cross_entropy';
  for (const [tensor, { name, dims }] of parameters) {
    const readers = readBy.get(tensor) ?? [];
    if (readers.length === 0 || !readers.every((op) => isLookup(op) || isLoss(op))) continue;
    const dim = dims.length === 2 && readers.some((op) => isLoss(op) && op.attributes.transposed) ? 1 : 0;
    if (dims[dim] === entries) cuts.set(name, { dims, dim, blocks: 1, parts: ranks, ranks });
  }
  // A loss has its matrix and its bias cut, or neither.
  for (const op of graph.ops.filter(isLoss)) {
    const [weight, bias] = [op.inputs[1]!, op.attributes.hasBias ? op.inputs[4]! : null].map((id) =>
      parameters.get(id ?? -1),
    );
    if (bias && !cuts.has(weight!.name)) cuts.delete(bias.name);
  }
  return cuts;
}

function misfit(name: string, width: number, ranks: number): ConfigError {
  return new ConfigError('tensorParallel', `a divisor of the ${width} columns of ${name}`, ranks);
}
