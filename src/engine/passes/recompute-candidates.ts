// What activation checkpointing may drop, in the order in which it pays: most bytes per arithmetic first (selective
// recomputation, Korthikanti et al., arXiv:2205.05198 §5, by the prices of the op rules in place of a fixed choice).
import { placed } from '../autodiff.js';
import { byteLength, type Graph, producers, type TensorId } from '../graph.js';
import { type Cost, defaultCost, type PlacedOp, ruleOf, type Shortcut } from '../ops/index.js';
import { isBackward } from './recompute.js';

/** Operations that a CPU does while it moves one byte: what makes elementwise ops cheap, but not free. */
const OPERATIONS_PER_BYTE = 8;

/** Tensors that are dropped together, because one op makes them again. */
export interface Candidate {
  readonly ids: readonly TensorId[];
  readonly bytes: number;
  /** Operations to make them again from what is kept when nothing else is dropped. */
  readonly price: number;
}

/** Everything the backward reads of the forward but the tensors between blocks; the best bargain first. */
export function candidates(graph: Graph): readonly Candidate[] {
  const madeBy = producers(graph);
  const borders = new Set(graph.borders);
  const isSaved = savedTensors(graph);
  /** Price of an op, and of the ops before it whose results nobody keeps anyway. */
  const priceOf = (index: number): number => {
    const op = placed(graph, graph.ops[index]!);
    return op.inputs.reduce((sum, { id }) => sum + priceOfInput(id), priced(costOf(op)));
  };
  const isKept = (id: TensorId): boolean => isSaved.has(id) || borders.has(id);
  const priceOfInput = (id: TensorId): number => {
    const maker = madeBy.get(id);
    if (maker === undefined || isKept(id)) return 0;
    const op = placed(graph, graph.ops[maker]!);
    const shortcut = ruleOf(op.kind).shortcut?.(op);
    const isShort = shortcut?.outputs.some((i) => op.outputs[i]!.id === id) && isKept(op.outputs[shortcut.from]!.id);
    return isShort ? priced(costOf(shortened(op, shortcut!))) : priceOf(maker);
  };

  const found: Candidate[] = [];
  for (const [index, op] of graph.ops.entries()) {
    if (isBackward(graph, op)) continue;
    const saved = op.outputs.filter((id) => isSaved.has(id) && !borders.has(id));
    const shortcut = ruleOf(op.kind).shortcut?.(placed(graph, op));
    const cheap = shortcut ? shortcut.outputs.map((i) => op.outputs[i]!).filter((id) => saved.includes(id)) : [];
    const add = (ids: readonly TensorId[], price: number) => {
      const bytes = ids.reduce((sum, id) => sum + byteLength(graph.tensors[id]!), 0);
      if (bytes > 0) found.push({ ids, bytes, price });
    };
    if (shortcut) add(cheap, priced(costOf(shortened(placed(graph, op), shortcut))));
    add(
      saved.filter((id) => !cheap.includes(id)),
      priceOf(index),
    );
  }
  return found.sort((a, b) => a.price / a.bytes - b.price / b.bytes);
}

/** The op that makes some outputs of `op` from another one. */
function shortened(op: PlacedOp, shortcut: Shortcut): PlacedOp {
  return { ...shortcut, path: op.path, outputs: shortcut.outputs.map((index) => op.outputs[index]!) };
}

const costOf = (op: PlacedOp): Cost => (ruleOf(op.kind).cost ?? defaultCost)(op);

/** What the forward makes and the backward reads. */
function savedTensors(graph: Graph): ReadonlySet<TensorId> {
  const saved = new Set<TensorId>();
  const forward = new Set<TensorId>();
  for (const op of graph.ops) {
    if (!isBackward(graph, op)) for (const id of op.outputs) forward.add(id);
    else for (const id of op.inputs) if (forward.has(id)) saved.add(id);
  }
  return saved;
}

function priced({ flops, bytes }: Cost): number {
  return flops + OPERATIONS_PER_BYTE * bytes;
}
