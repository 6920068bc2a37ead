// What the engine asks of a model: to write its forward into a graph. How tokens see each other (packed segments or a
// key-value cache) is the program's choice, so that one model file serves training, evaluation and decoding.
import { ConfigError } from '../common/index.js';
import type { AttentionShape, GraphBuilder, Head, HeadView } from './builder.js';
import type { Graph, Tensor } from './graph.js';
import type { Objective } from './objective.js';
import { CACHE_BLOCK_TOKENS } from './ops/index.js';

/** Emits attention over q, k, v and returns [N, heads * headDim]. */
export type Attend = (path: string, q: HeadView, k: HeadView, v: HeadView, shape: AttentionShape) => Tensor;

/** What a language model reads. */
export interface TokenInputs {
  /** i32[N] token ids. */
  readonly ids: Tensor;
  /** i32[N] positions, from 0 in each sequence. */
  readonly positions: Tensor;
  /** Every position is below this: how long tables by position must be. */
  readonly positionLimit: number;
}

/** What a model makes of its inputs. */
export interface ModelOutputs {
  /** [N, D]: what the output matrix is applied to (behind the final norm). */
  readonly hidden: Tensor;
  /** Output of the embeddings, of each block but the last, and `hidden`. */
  readonly hiddenStates?: readonly Tensor[];
  readonly head: Head;
  /** A second head on `hidden`: the value of each row, for reinforcement learning. */
  readonly values?: Head;
}

/**
 * A model of tokens: facts, and a forward written as ops. Immutable; building twice gives equal graphs. A causal language model
 * labels each row with the next token, a classifier labels one row of each sequence (the first or the last) with its class.
 */
export interface LanguageModel {
  readonly vocabularySize: number;
  /** Positions that the model was made for; larger ones are refused where they are learnt. */
  readonly maxPositions: number;
  /** Labels are below this. Default: vocabularySize. */
  readonly labelCount?: number;
  /** What its outputs are held against. Default: cross_entropy. */
  readonly objective?: Objective;
  /** A pass over the forward before all others: adapters. */
  readonly adapt?: (graph: Graph, isTraining: boolean) => Graph;
  /** A pass over what one rank does of the forward, behind all that share it out: weights in 4 bits. */
  readonly quantise?: (graph: Graph) => Graph;
  build(graph: GraphBuilder, tokens: TokenInputs, attend: Attend): ModelOutputs;
}

/** A model of rows of numbers: each row of `features` [N, featureCount] gives one row of outputs. Immutable, as above. */
export interface FeatureModel {
  readonly featureCount: number;
  /** Columns of the head: classes, or numbers to predict. */
  readonly labelCount: number;
  readonly objective?: Objective;
  readonly adapt?: (graph: Graph, isTraining: boolean) => Graph;
  /** A pass over what one rank does of the forward, behind all that share it out: weights in 4 bits. */
  readonly quantise?: (graph: Graph) => Graph;
  build(graph: GraphBuilder, features: Tensor): ModelOutputs;
}

/** A model of token ids, or of rows of features. */
export type AnyModel = LanguageModel | FeatureModel;

/** Positions of packed sequences are numbered from 0, so that none reaches the number of rows. */
export function positionLimit(model: LanguageModel, rows: number): number {
  return Math.min(rows, model.maxPositions);
}

/** The forward over `rows` rows with its inputs: features f32[N, F]; or ids, positions, starts, ends i32[N], packed. */
export function writeForward(graph: GraphBuilder, model: AnyModel, rows: number): ModelOutputs {
  if (!Number.isSafeInteger(rows) || rows < 1) throw new ConfigError('rows', 'a positive number of rows', rows);
  if ('featureCount' in model) return model.build(graph, graph.input('features', 'f32', [rows, model.featureCount]));
  const integers = (name: string) => graph.input(name, 'i32', [rows]);
  const tokens = { ids: integers('ids'), positions: integers('positions'), positionLimit: positionLimit(model, rows) };
  return model.build(graph, tokens, attendPacked(graph, integers('starts'), integers('ends')));
}

/** The forward with what the model has beside its own layers. */
export function adapted(model: AnyModel, forward: Graph, isTraining = false): Graph {
  return model.adapt ? model.adapt(forward, isTraining) : forward;
}

/** What a rank runs of the forward, in the form that its weights have. */
export function quantised(model: AnyModel, forward: Graph): Graph {
  return model.quantise ? model.quantise(forward) : forward;
}

/** Attention over the packed segments of a micro-batch. */
function attendPacked(graph: GraphBuilder, starts: Tensor, ends: Tensor): Attend {
  return (path, q, k, v, shape) => {
    const { isBothWays = false, dropout = 0, ...sizes } = shape;
    const draw = graph.draw(dropout);
    const attributes = {
      ...sizes,
      causal: isBothWays ? 0 : 1,
      ...headAttributes('q', q),
      ...headAttributes('k', k),
      ...headAttributes('v', v),
      ...(draw ? { p: draw.p, stream: draw.stream } : {}),
    };
    const inputs = [q.tensor, k.tensor, v.tensor, starts, ends, ...(draw ? [draw.random] : [])];
    return graph.op('attention', path, inputs, attributes)[0]!;
  };
}

/** Where the rows of a decoding program lie in the cache. */
export interface CacheRows {
  /** i32[N] rows of `blocks`. */
  readonly slots: Tensor;
  /** i32[N] positions in their sequences. */
  readonly positions: Tensor;
  /** i32[S, M] the blocks of each slot, in order. */
  readonly blocks: Tensor;
}

/** Attention through a cache of `blockCount` blocks: the rows are appended, then read back with what their slots hold. */
export function attendCached(graph: GraphBuilder, rows: CacheRows, blockCount: number): Attend {
  const places = [rows.slots, rows.positions, rows.blocks];
  return (path, q, k, v, shape) => {
    if (shape.isBothWays) throw new ConfigError(path, 'a causal model for decoding', 'attention both ways');
    const { heads, kvHeads, headDim, scale, window } = shape;
    const width = kvHeads * headDim;
    const { dtype } = k.tensor;
    const cacheK = graph.input(`cache.k.${path}`, dtype, [blockCount, width, CACHE_BLOCK_TOKENS], 'state');
    const cacheV = graph.input(`cache.v.${path}`, dtype, [blockCount, CACHE_BLOCK_TOKENS, width], 'state');
    const append = { kvHeads, headDim, ...headAttributes('k', k), ...headAttributes('v', v) };
    const caches = graph.op('kv_append', path, [k.tensor, v.tensor, ...places, cacheK, cacheV], append);
    const read = { heads, kvHeads, headDim, scale, window, ...headAttributes('q', q) };
    return graph.op('attention_cached', path, [q.tensor, caches[0]!, caches[1]!, ...places], read)[0]!;
  };
}

function headAttributes(name: 'q' | 'k' | 'v', view: HeadView): Record<string, number> {
  return { [`${name}Offset`]: view.offset, [`${name}HeadStride`]: view.headStride };
}
