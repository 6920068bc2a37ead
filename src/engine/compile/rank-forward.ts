// From a model to the forward with its loss that one rank does, and the places of what goes in and comes out.
import { type Dropout, GraphBuilder } from '../builder.js';
import { byteLength, type Graph, type TensorId } from '../graph.js';
import { type AnyModel, adapted, quantised, writeForward } from '../model.js';
import { type ObjectiveOptions, writeLosses } from '../objective.js';
import { store } from '../passes/precision.js';
import { shardRows } from '../passes/sequence-parallel.js';
import { shardTensors, tensorShare } from '../passes/tensor-parallel.js';
import { splitRows } from '../passes/tensor-rows.js';
import { Shelf } from '../plan/placement.js';
import type { TrainingSettings } from './settings.js';

/**
 * Forward with loss, as the model and its adapters write it; inputs those of the forward, labels i32[N] and scale [1],
 * and random i32[4] where something is dropped.
 */
export function lossGraph(model: AnyModel, rows: number, options?: ObjectiveOptions, dropout: Dropout = null): Graph {
  const graph = new GraphBuilder(undefined, dropout);
  const outputs = writeForward(graph, model, rows);
  for (const state of outputs.hiddenStates ?? []) graph.border(state);
  writeLosses(graph, model, outputs, options);
  return adapted(model, graph.build(), dropout !== null);
}

/** What one rank does of the forward with its loss, in the types that it is stored in. */
export function rankForward(settings: TrainingSettings): Graph {
  const { model, rows, strategy, loss, dropout, dtype = 'f32', sequenceParallelNorms = false } = settings;
  const { mesh, rank } = strategy;
  const share = tensorShare(mesh, rank);
  const own = shardRows(shardTensors(lossGraph(model, rows, loss, dropout), share), rows, mesh, rank);
  return store(quantised(model, sequenceParallelNorms ? splitRows(own, rows / mesh.sequence, share) : own), dtype);
}

/**
 * Gives inputs, constants and results their places, in buffers whose names begin with `prefix`; parameters and gradients get theirs from the
 * layout. What `apart` names gets buffers of its own: of what is viewed in the others, a GPU's runs take all along to the host.
 */
export function shelve(
  graph: Graph,
  { apart = new Set(), prefix = '' }: { readonly apart?: ReadonlySet<string>; readonly prefix?: string } = {},
): Shelf {
  const shelf = new Shelf();
  for (const [name, id] of graph.inputs) {
    const tensor = graph.tensors[id]!;
    const buffer = apart.has(name) ? name : tensor.role === 'state' ? 'cache' : 'batch';
    shelf.put(`${prefix}${buffer}`, id, byteLength(tensor));
  }
  for (const id of graph.constants.keys()) shelf.put(`${prefix}constants`, id, byteLength(graph.tensors[id]!));
  const buffers = new Map<TensorId, string>();
  for (const [name, id] of graph.outputs) buffers.set(id, `${prefix}${apart.has(name) ? name : 'results'}`);
  for (const [id, buffer] of buffers) shelf.put(buffer, id, byteLength(graph.tensors[id]!));
  return shelf;
}
