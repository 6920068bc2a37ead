// Pass: activation checkpointing (Chen et al., arXiv:1604.06174). What the backward reads and was not kept is made again from
// what was: copies of forward ops, right before the first op of the backward that needs them, each at most once. Equal because
// a copy has the same operands and attributes; random ops draw from counters, so that a copy draws the same numbers.
import { ConfigError } from '../../common/index.js';
import { placed } from '../autodiff.js';
import { GraphBuilder } from '../builder.js';
import { type Graph, type Op, producers, type TensorId } from '../graph.js';
import { ruleOf } from '../ops/index.js';

/** Whether the activation is kept from the forward to the backward. Asked for what the forward makes alone. */
export type Keeps = (id: TensorId) => boolean;

/** `graph` holds forward and backward; ops of the backward are those that write a gradient. */
export function recompute(graph: Graph, keeps: Keeps): Graph {
  const madeBy = producers(graph);
  const builder = new GraphBuilder({ ...graph, ops: [] });
  const copies = new Map<TensorId, TensorId>();

  /** The tensor to read in the backward in place of `id`. */
  const again = (id: TensorId): TensorId => {
    const op = graph.ops[madeBy.get(id) ?? -1];
    if (!op || isBackward(graph, op) || keeps(id)) return id;
    const known = copies.get(id);
    if (known !== undefined) return known;
    const { inputs, outputs, path, ...call } = placed(graph, op);
    const shortcut = ruleOf(op.kind).shortcut?.({ inputs, outputs, path, ...call });
    const from = shortcut ? outputs[shortcut.from]!.id : -1;
    if (shortcut?.outputs.some((index) => outputs[index]!.id === id) && (keeps(from) || copies.has(from))) {
      const operands = shortcut.inputs.map((tensor) => builder.tensor(again(tensor.id)));
      const made = builder.op(shortcut.kind, path, operands, shortcut.attributes);
      for (const [i, index] of shortcut.outputs.entries()) copies.set(outputs[index]!.id, made[i]!.id);
    } else {
      const operands = inputs.map((tensor) => builder.tensor(again(tensor.id)));
      const made = builder.op(op.kind, path, operands, op.attributes);
      for (const [index, output] of outputs.entries()) copies.set(output.id, made[index]!.id);
    }
    return copies.get(id)!;
  };

  for (const op of graph.ops) {
    builder.keep(isBackward(graph, op) ? { ...op, inputs: op.inputs.map(again) } : op);
  }
  return builder.build(graph.gradients);
}

/** Keeps every `every`-th of the tensors between blocks, and what the head reads. */
export function keepBlocks(graph: Graph, every: number): Keeps {
  if (!Number.isSafeInteger(every) || every < 1) throw new ConfigError('recompute.every', 'a positive integer', every);
  const { borders } = graph;
  const kept = new Set(borders.filter((_, index) => index % every === 0 || index === borders.length - 1));
  return (id) => kept.has(id);
}

export function isBackward(graph: Graph, op: Op): boolean {
  return op.outputs.some((id) => graph.tensors[id]!.role === 'gradient');
}
