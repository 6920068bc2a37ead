// Pass: a graph of forward and backward → two, over the same tensors. Between them lies what the forward leaves for the backward: as
// much memory as a stage of a pipeline takes for each micro-batch that is on its way.
import type { Graph, Op, TensorId } from '../graph.js';
import { isBackward } from './recompute.js';

export interface Phases {
  readonly forward: Graph;
  readonly backward: Graph;
  /** What both touch: made by the forward, or received with it. */
  readonly kept: readonly TensorId[];
}

/** What the forward of a differentiated graph makes, before anything is recomputed: what tells the phases apart later. */
export function forwardTensors(graph: Graph): ReadonlySet<TensorId> {
  return new Set(graph.ops.flatMap((op) => (isBackward(graph, op) ? [] : op.outputs)));
}

/** `made` is what the forward makes, `received` what it gets from another part beside the batch. */
export function splitPhases(graph: Graph, made: ReadonlySet<TensorId>, received: TensorId | null): Phases {
  const isForward = ({ outputs }: Op) => outputs.every((id) => made.has(id));
  const forward = graph.ops.filter(isForward);
  const backward = graph.ops.filter((op) => !isForward(op));
  const written = new Set(forward.flatMap(({ outputs }) => outputs));
  if (received !== null) written.add(received);
  const kept = [...new Set(backward.flatMap(({ inputs }) => inputs))].filter((id) => written.has(id));
  return { forward: half(graph, forward), backward: half(graph, backward), kept };
}

/** The graph with these ops, and of its inputs, outputs, constants and gradients those that they touch. */
function half(graph: Graph, ops: readonly Op[]): Graph {
  const read = new Set(ops.flatMap(({ inputs }) => inputs));
  const written = new Set(ops.flatMap(({ outputs }) => outputs));
  const only = <Value>(map: ReadonlyMap<string, Value>, keep: (value: Value) => boolean) =>
    new Map([...map].filter(([, value]) => keep(value)));
  return {
    ...graph,
    ops,
    inputs: only(graph.inputs, (id) => read.has(id)),
    outputs: only(graph.outputs, (id) => written.has(id)),
    constants: new Map([...graph.constants].filter(([id]) => read.has(id))),
    gradients: only(graph.gradients, (id) => written.has(id)),
  };
}
