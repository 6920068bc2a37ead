// From a model to the programs without a gradient: evaluation of packed rows, and decoding through a key-value cache.
import { ConfigError } from '../../common/index.js';
import { GraphBuilder } from '../builder.js';
import type { FloatType, Graph, Tensor } from '../graph.js';
import { layOut } from '../lay-out.js';
import { type Layout, parameterBuckets } from '../layout.js';
import { groupIndex } from '../mesh.js';
import { type AnyModel, adapted, attendCached, type LanguageModel, quantised, writeForward } from '../model.js';
import { applyHead, writeLosses } from '../objective.js';
import { movedParameters, tilingOf } from '../offload.js';
import { CHOICE_WORDS } from '../ops/index.js';
import { fuseLinearActivation } from '../passes/fuse-linear-activation.js';
import { fuseResidualNorm } from '../passes/fuse-residual-norm.js';
import { offload } from '../passes/offload.js';
import { partitionParameters } from '../passes/partition-parameters.js';
import { store } from '../passes/precision.js';
import { prune } from '../passes/prune.js';
import { assignCuts } from '../passes/tensor-cuts.js';
import { dropFanOuts, heldParameter, shardTensors, type TensorShare } from '../passes/tensor-parallel.js';
import { placeParameters } from '../passes/zero.js';
import { ZERO_TUNING } from '../passes/zero-tuning.js';
import { type Plan, plan } from '../plan/plan.js';
import type { Cut } from '../shard.js';
import { lossGraph, shelve } from './rank-forward.js';

/** What a program that measures packed rows takes and gives. */
export interface ForwardSettings {
  readonly model: AnyModel;
  readonly rows: number;
  /** Also give the whole logits [rows, V]. */
  readonly hasLogits?: boolean;
  /** Also give the hidden states [rows, D] behind embeddings and blocks. */
  readonly hasHiddenStates?: boolean;
  /** Also give the entropies [rows] of the distributions over the next token. */
  readonly hasEntropies?: boolean;
}

/** Sizes of a program that appends tokens to a cache. */
export interface DecodeSettings {
  readonly model: LanguageModel;
  /** Tokens per run. */
  readonly rows: number;
  /** Rows per run that logits are computed of, chosen by the input `index`. */
  readonly logitRows: number;
  /** Sequences that have a row in the table `blocks`. */
  readonly slots: number;
  /** Blocks that a sequence may have: its longest length in CACHE_BLOCK_TOKENS. */
  readonly slotBlocks: number;
  /** Blocks of the cache, shared by all sequences. */
  readonly blockCount: number;
  /** Positions are below this. */
  readonly positions: number;
  /** Of ranks that decode together, each with its part of the heads, of the cache and of the matrices. Default: alone. */
  readonly share?: TensorShare;
  /** Ids that each sequence can be told not to take. */
  readonly forbiddenIds: number;
}

/** What {@link compileDecode} gives of each row: padding behind the vocabulary, if any, holds negative infinity. */
export function logitColumns({ vocabularySize }: LanguageModel, ranks: number): number {
  return ranks * Math.ceil(vocabularySize / ranks);
}

/** A layout for parameters alone, as {@link ParameterStore} needs it: one partition, in the model's order, or the part of one of `ranks` that decode together. */
export function layoutOf(model: AnyModel, dtype: FloatType = 'f32', ranks = 1): Layout {
  const parameters = [...parameterGraph(model).parameters.values()];
  const cuts = decodeCuts(model, ranks);
  return layOut(
    parameters.map((parameter) => heldParameter(parameter, cuts.get(parameter.name))),
    1,
    { dtype },
  );
}

/** How ranks that decode together cut the parameters: as those that train do, whose loss reads the output matrix. */
function decodeCuts(model: AnyModel, ranks: number): ReadonlyMap<string, Cut> {
  return ranks === 1 ? new Map() : assignCuts(lossGraph(model, 1), ranks);
}

/** The model with a batch of one row: for what does not depend on the batch (names, dims, buckets, initialisers). */
export function parameterGraph(model: AnyModel): Graph {
  const graph = new GraphBuilder();
  graph.output('head', writeForward(graph, model, 1).head.weight);
  return quantised(model, adapted(model, graph.build()));
}

/** Losses per token (and what else was asked for) of packed rows. */
export function compileForward(settings: ForwardSettings, layout: Layout): Plan {
  const { model, rows, hasLogits = false, hasHiddenStates = false, hasEntropies = false } = settings;
  const graph = new GraphBuilder();
  const { values, ...outputs } = writeForward(graph, model, rows);
  const { hidden, head, hiddenStates = [] } = outputs;
  const { logits, entropies } = writeLosses(graph, model, outputs);
  if (hasLogits) graph.output('logits', logits ?? applyHead(graph, 'logits', hidden, head, true));
  if (hasEntropies) {
    if (!entropies) throw new ConfigError('hasEntropies', 'a model of cross_entropy', model.objective);
    graph.output('entropies', entropies);
  }
  if (values) graph.output('values', applyHead(graph, 'values', hidden, values, true));
  if (hasHiddenStates) {
    for (const [index, state] of hiddenStates.entries()) graph.output(`hiddenStates.${index}`, state);
  }
  return inferencePlan(quantised(model, adapted(model, graph.build())), layout);
}

/**
 * Appends `rows` tokens to the cache and gives the logits [logitRows, {@link logitColumns}] of the rows named by `index`, with what choosing needs:
 * `likeliest` i32[logitRows], `top` and `logSum` [logitRows] (log p(j) = logit - top - logSum). The logits lie at the beginning of a
 * buffer of that name. Beside it what is asked for each slot by `settings` and `forbidden` (the op choose_token): `chosen` i32[slots] with its
 * logit `chosenLogit`, under a penalty on what is in `history` i32[slots, positions], a buffer too.
 */
export function compileDecode(settings: DecodeSettings, layout: Layout): Plan {
  const { model, rows, logitRows, slots, slotBlocks, blockCount, positions, share, forbiddenIds } = settings;
  if (positions > model.maxPositions) {
    throw new ConfigError('positions', `at most ${model.maxPositions}, the positions of the model`, positions);
  }
  const graph = new GraphBuilder();
  const [ids, at, slot] = integerInputs(graph, ['ids', 'positions', 'slots'], rows);
  const [index] = integerInputs(graph, ['index'], logitRows);
  const blocks = graph.input('blocks', 'i32', [slots, slotBlocks]);
  const attend = attendCached(graph, { slots: slot!, positions: at!, blocks }, blockCount);
  const { hidden, head } = model.build(graph, { ids: ids!, positions: at!, positionLimit: positions }, attend);
  const chosen = graph.op('gather_rows', 'logits', [hidden, index!])[0]!;
  graph.output('logits', applyHead(graph, 'logits', chosen, head, true));
  const whole = adapted(model, graph.build());
  const own = share ? dropFanOuts(shardTensors(whole, share, decodeCuts(model, share.ranks))) : whole;
  const end = new GraphBuilder(own);
  const part = end.tensor(own.outputs.get('logits')!);
  const logits = share && part.dims[1] !== model.vocabularySize ? unite(end, part, model, share) : part;
  const [likeliest, top, logSum] = end.op('log_sum_exp', 'logits', [logits]);
  const history = end.input('history', 'i32', [slots, positions], 'state');
  const asked = end.input('settings', 'i32', [slots, CHOICE_WORDS]);
  const forbidden = end.input('forbidden', 'i32', [slots, forbiddenIds]);
  const [, id, chosenLogit] = end.op('choose_token', 'logits', [logits, history, asked, forbidden]);
  const outputs = { logits, likeliest, top, logSum, chosen: id, chosenLogit };
  for (const [name, tensor] of Object.entries(outputs)) end.output(name, tensor!);
  return inferencePlan(quantised(model, end.build()), layout, new Set(['logits', 'history']));
}

/** The logits of all entries, of which every rank has made a part: the last parts may be padded. */
function unite(graph: GraphBuilder, part: Tensor, model: LanguageModel, { ranks, rank, group }: TensorShare): Tensor {
  const [rows, columns] = part.dims as readonly [number, number];
  const real = Math.max(0, Math.min(columns, model.vocabularySize - rank * columns));
  let own = part;
  if (ranks * columns > model.vocabularySize) {
    const never = Float32Array.from({ length: rows * columns }, (_, i) => (i % columns < real ? 0 : -Infinity));
    own = graph.add('logits', part, graph.constant('logits', [rows, columns], never));
  }
  const whole = { whole: ranks * rows * columns, columns };
  const [parts] = graph.op('all_gather', 'logits', [own], { group: groupIndex(group), ...whole });
  return graph.op('parts_to_heads', 'logits', [parts!], {
    ...{ parts: ranks, heads: ranks, headDim: columns, qOffset: 0, qHeadStride: columns, qWidth: ranks * columns },
    ...{ kvHeads: 0, kOffset: 0, kHeadStride: 0, vOffset: 0, vHeadStride: 0 },
  })[0]!;
}

/** @param apart inputs and outputs with buffers of their own */
function inferencePlan(graph: Graph, layout: Layout, apart: ReadonlySet<string> = new Set()): Plan {
  const optimised = prune(fuseLinearActivation(fuseResidualNorm(store(graph, layout.dtype))));
  const placed = placeParameters(optimised, layout, shelve(optimised, { apart }));
  const isSliced = parameterBuckets(layout).some((bucket) => bucket.isSliced);
  const gathered = isSliced ? partitionParameters(placed, layout, ZERO_TUNING) : placed;
  return plan(offload(gathered, movedParameters(layout), tilingOf(layout, null, null)));
}

function integerInputs(graph: GraphBuilder, names: readonly string[], rows: number): readonly Tensor[] {
  return names.map((name) => graph.input(name, 'i32', [rows]));
}
