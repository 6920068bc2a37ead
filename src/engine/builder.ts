// Builds graphs: what model files, autodiff and passes use to add tensors and ops. Shapes are checked as ops arrive.
import { ConfigError } from '../common/index.js';
import type {
  Attributes,
  Dtype,
  FloatType,
  Graph,
  Initialiser,
  Op,
  Parameter,
  Role,
  Tensor,
  TensorId,
} from './graph.js';
import { DTYPE_CODES, elementCount } from './graph.js';
import { type Nf4Settings, nf4Bytes } from './nf4.js';
import { ACTIVATIONS, type Activation, lossChunkRows, ruleOf, TARGET_LOSSES, type TargetLoss } from './ops/index.js';

/** What is known of a parameter beside its name and dims. */
export interface ParameterOptions {
  /** The flat buffer it lives in: `embeddings`, one per block, `head`. */
  readonly bucket: string;
  readonly init: Initialiser;
  readonly isFrozen?: boolean;
  /** Stored in 4 bits, frozen. */
  readonly nf4?: Nf4Settings;
}

/** Where head h begins in a row of a tensor: `offset + h * headStride`. */
export interface HeadView {
  readonly tensor: Tensor;
  readonly offset: number;
  readonly headStride: number;
}

/** What a look-up adds, and which entry is padding. */
export interface EmbeddingOptions {
  /** Added to the result, [N, D]. */
  readonly addend?: Tensor;
  readonly offset?: number;
  readonly paddingId?: number | null;
}

/** The output matrix [V, D] (or [D, V] when transposed), the embedding table itself when tied; and its bias [V], if any. */
export interface Head {
  readonly weight: Tensor;
  readonly isTransposed: boolean;
  readonly bias?: Tensor;
}

/** What is added to cross-entropy. */
export interface LossOptions {
  /** Share of the target spread evenly over all classes, from 0 to 1. */
  readonly labelSmoothing?: number;
  /** Weight of the square of log sum exp(logits), which keeps logits near 0 (PaLM, arXiv:2204.02311 §5). */
  readonly zLoss?: number;
}

/** How rows attend to rows: heads, their width, and who sees whom. */
export interface AttentionShape {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly scale: number;
  /** Tokens a row sees, itself included; 0 for all. */
  readonly window: number;
  /** Whether rows see later rows of their sequence too. */
  readonly isBothWays?: boolean;
  /** Share of the keys of each row that training drops. Default 0. */
  readonly dropout?: number;
}

/**
 * What a forward graph drops: nothing (null), what the model's configuration says, or this share wherever the model can drop.
 */
export type Dropout = 'model' | number | null;

/** The counters of random ops: an input that a program has only where something draws. */
export const RANDOM = 'random';

export interface RotaryShape {
  readonly heads: number;
  readonly headDim: number;
  /** Pairs of neighbours turn (GPT-J) in place of a column and the one half the rotated width further on. */
  readonly isInterleaved?: boolean;
}

/** A graph in the making: parameters, inputs and ops are added in order, `build` gives what there is. */
export class GraphBuilder {
  readonly #dropout: Dropout;
  #streams = 0; // random ops so far: each draws from a stream of its own
  readonly #tensors: Tensor[];
  readonly #ops: Op[];
  readonly #inputs: Map<string, TensorId>;
  readonly #outputs: Map<string, TensorId>;
  readonly #parameters: Map<string, Parameter>;
  readonly #constants: Map<TensorId, Float32Array>;
  readonly #borders: TensorId[];

  /** Starts empty, or from a copy of `graph`. What is built for evaluation or decoding drops nothing. */
  constructor(graph?: Graph, dropout: Dropout = graph?.inputs.has(RANDOM) ? 'model' : null) {
    if (typeof dropout === 'number' && !(dropout >= 0 && dropout < 1)) {
      throw new ConfigError('dropout', 'a share from 0 to less than 1', dropout);
    }
    this.#dropout = dropout === 0 ? null : dropout;
    this.#tensors = [...(graph?.tensors ?? [])];
    this.#ops = [...(graph?.ops ?? [])];
    this.#inputs = new Map(graph?.inputs);
    this.#outputs = new Map(graph?.outputs);
    this.#parameters = new Map(graph?.parameters);
    this.#constants = new Map(graph?.constants);
    this.#borders = [...(graph?.borders ?? [])];
    for (const op of this.#ops) {
      if (ruleOf(op.kind).isRandom) this.#streams = Math.max(this.#streams, (op.attributes.stream ?? -1) + 1);
    }
  }

  /** A tensor that is bound to memory from outside. */
  input(name: string, dtype: Dtype, dims: readonly number[], role: Role = 'input'): Tensor {
    const known = this.#inputs.get(name);
    if (known !== undefined) return this.#tensors[known]!;
    const tensor = this.#tensor(name, dtype, dims, role);
    this.#inputs.set(name, tensor.id);
    return tensor;
  }

  /** Of an input from outside this program has a part alone. Before any op reads it. */
  resize(id: TensorId, dims: readonly number[]): void {
    this.#tensors[id] = { ...this.#tensors[id]!, dims };
  }

  /** The parameter `name`; asking again for a tied one gives the same tensor. */
  parameter(name: string, dims: readonly number[], options: ParameterOptions): Tensor {
    const known = this.#parameters.get(name);
    if (known) {
      if (known.dims.join() !== dims.join()) throw new ConfigError(name, `dims ${known.dims.join(', ')}`, dims);
      return this.#tensors[known.tensor]!;
    }
    const { bucket, init, isFrozen = false, nf4 } = options;
    const tensor = nf4
      ? this.#tensor(name, 'u8', [nf4Bytes(elementCount(dims), nf4)], 'parameter')
      : this.#tensor(name, 'f32', dims, 'parameter');
    const parameter = { name, tensor: tensor.id, dims, bucket, init, isFrozen };
    this.#parameters.set(name, nf4 ? { ...parameter, nf4 } : parameter);
    return tensor;
  }

  /** Numbers known when the graph is built. */
  constant(path: string, dims: readonly number[], data: Float32Array): Tensor {
    if (data.length !== elementCount(dims)) throw new ConfigError(path, `${elementCount(dims)} values`, data.length);
    const tensor = this.#tensor(path, 'f32', dims, 'constant');
    this.#constants.set(tensor.id, data);
    return tensor;
  }

  /** Names a result that outlives the program. */
  output(name: string, tensor: Tensor): void {
    this.#outputs.set(name, tensor.id);
  }

  /** Says that one block ends and the next begins with this tensor. */
  border(tensor: Tensor): void {
    this.#borders.push(tensor.id);
  }

  /** Adds an op after checking its shapes; returns its outputs. */
  op(
    kind: string,
    path: string,
    inputs: readonly Tensor[],
    attributes: Attributes = {},
    role: Role = 'activation',
  ): readonly Tensor[] {
    const rule = ruleOf(kind);
    const call = { kind, path, inputs, attributes };
    const types = rule.infer(call);
    const groups = rule.outputGroups?.(call) ?? types.map((_, index) => index);
    const updates = typeof rule.updates === 'function' ? rule.updates(call) : rule.updates;
    const outputs: Tensor[] = [];
    for (const [index, type] of types.entries()) {
      const first = groups.indexOf(groups[index]!);
      if (first < index) {
        outputs.push(outputs[first]!);
        continue;
      }
      const update = updates?.find(([output]) => output === index);
      const continues = update ? inputs[update[1]]! : null;
      outputs.push(this.#tensor(path, type.dtype, type.dims, continues?.role ?? role, continues?.id ?? null));
    }
    this.#ops.push({ kind, path, inputs: inputs.map(idOf), outputs: outputs.map(idOf), attributes });
    return outputs;
  }

  /** Adds an op of the graph that this one started from, as it is. */
  keep(op: Op): void {
    this.#ops.push(op);
  }

  /** table[ids + offset] (+ addend). The entry of `paddingId` learns nothing from being looked up. */
  embedding(path: string, ids: Tensor, table: Tensor, options: EmbeddingOptions = {}): Tensor {
    const { addend, offset = 0, paddingId } = options;
    const attributes = { offset, paddingId: paddingId ?? -1 };
    return this.op('embedding', path, addend ? [ids, table, addend] : [ids, table], attributes)[0]!;
  }

  /** x w (+ bias); `weight` is [outputs, inputs], or [inputs, outputs] when transposed. */
  linear(path: string, x: Tensor, weight: Tensor, bias?: Tensor | null, transposed = false): Tensor {
    const attributes = { transposed: transposed ? 1 : 0, activation: ACTIVATIONS.none };
    return this.op('linear', path, bias ? [x, weight, bias] : [x, weight], attributes)[0]!;
  }

  layerNorm(path: string, x: Tensor, gain: Tensor, bias: Tensor, eps: number): Tensor {
    return this.op('layer_norm', path, [x, gain, bias], { eps })[0]!;
  }

  rmsNorm(path: string, x: Tensor, gain: Tensor, eps: number): Tensor {
    return this.op('rms_norm', path, [x, gain], { eps })[0]!;
  }

  activation(path: string, x: Tensor, kind: Activation): Tensor {
    return this.op('activation', path, [x], { kind: ACTIVATIONS[kind] })[0]!;
  }

  /** Over the columns of each row. */
  softmax(path: string, x: Tensor): Tensor {
    return this.op('softmax', path, [x])[0]!;
  }

  /** activation(gate) * up. */
  gatedActivation(path: string, gate: Tensor, up: Tensor, kind: Activation): Tensor {
    return this.op('gated_activation', path, [gate, up], { kind: ACTIVATIONS[kind] })[0]!;
  }

  /** In training: a share `p` of the elements becomes 0, the others grow by 1 / (1 - p). Else x itself. */
  dropout(path: string, x: Tensor, p: number): Tensor {
    const draw = this.draw(p);
    return draw ? this.op('dropout', path, [x, draw.random], { p: draw.p, stream: draw.stream })[0]! : x;
  }

  /** What a random op takes: the share to drop, its stream, and the counters i32[4]. Null where nothing is dropped. */
  draw(p: number): { readonly p: number; readonly stream: number; readonly random: Tensor } | null {
    if (this.#dropout === null) return null;
    const share = this.#dropout === 'model' ? p : this.#dropout;
    return share === 0 ? null : { p: share, stream: this.#streams++, random: this.input(RANDOM, 'i32', [4]) };
  }

  add(path: string, a: Tensor, b: Tensor): Tensor {
    return this.op('add', path, [a, b])[0]!;
  }

  /** x in another storage type. */
  cast(path: string, x: Tensor, to: FloatType): Tensor {
    return this.op('cast', path, [x], { to: DTYPE_CODES[to] })[0]!;
  }

  /** Turns the first 2 * cos.dims[1] columns of every head by the angles of the row's position; interleaved: in pairs of neighbours. */
  rotary(
    path: string,
    x: HeadView,
    table: { readonly cos: Tensor; readonly sin: Tensor },
    positions: Tensor,
    { heads, headDim, isInterleaved = false }: RotaryShape,
  ): Tensor {
    const { offset, headStride } = x;
    const rotaryDim = 2 * table.cos.dims[1]!;
    const interleaved = isInterleaved ? 1 : 0;
    const attributes = { heads, headDim, rotaryDim, offset, headStride, inverse: 0, interleaved };
    return this.op('rotary', path, [x.tensor, table.cos, table.sin, positions], attributes)[0]!;
  }

  /**
   * Loss scale * sum over labelled rows, each times its entry of `weights` [N], if given. `tokenLosses` (without the weights)
   * and `entropies` of the distributions have a value per row, 0 where the label is -100.
   */
  linearCrossEntropy(
    path: string,
    x: Tensor,
    head: Head,
    labels: Tensor,
    scale: Tensor,
    { labelSmoothing = 0, zLoss = 0 }: LossOptions = {},
    weights?: Tensor,
  ): { readonly loss: Tensor; readonly tokenLosses: Tensor; readonly entropies: Tensor } {
    const { weight, bias, isTransposed } = head;
    const vocabulary = weight.dims[isTransposed ? 1 : 0]!;
    const attributes = {
      transposed: isTransposed ? 1 : 0,
      chunkRows: lossChunkRows(x.dims[0]!, vocabulary),
      hasBias: bias ? 1 : 0,
      labelSmoothing,
      zLoss,
      weighted: weights ? 1 : 0,
    };
    const inputs = [x, weight, labels, scale, ...(bias ? [bias] : []), ...(weights ? [weights] : [])];
    const [loss, tokenLosses, , entropies] = this.op('linear_cross_entropy', path, inputs, attributes);
    return { loss: loss!, tokenLosses: tokenLosses!, entropies: entropies! };
  }

  /** Loss of x [N, L] against `targets` [N, L]; a target that is NaN counts for nothing. `rowLosses` [N] are without the scale. */
  targetLoss(
    path: string,
    x: Tensor,
    targets: Tensor,
    scale: Tensor,
    kind: TargetLoss,
  ): { readonly loss: Tensor; readonly rowLosses: Tensor } {
    const [loss, rowLosses] = this.op('target_loss', path, [x, targets, scale], { kind: TARGET_LOSSES[kind] });
    return { loss: loss!, rowLosses: rowLosses! };
  }

  /** Ops so far. */
  get opCount(): number {
    return this.#ops.length;
  }

  tensor(id: TensorId): Tensor {
    return this.#tensors[id]!;
  }

  /** The graph as built so far. Later additions do not change it. */
  build(gradients: ReadonlyMap<string, TensorId> = new Map()): Graph {
    return {
      tensors: [...this.#tensors],
      ops: [...this.#ops],
      inputs: new Map(this.#inputs),
      outputs: new Map(this.#outputs),
      parameters: new Map(this.#parameters),
      constants: new Map(this.#constants),
      borders: [...this.#borders],
      gradients,
    };
  }

  #tensor(path: string, dtype: Dtype, dims: readonly number[], role: Role, continues: TensorId | null = null): Tensor {
    if (dims.length > 4 || dims.some((dim) => !Number.isSafeInteger(dim) || dim < 1)) {
      throw new ConfigError(path, 'one to four dims, each a positive integer', dims);
    }
    const tensor: Tensor = { id: this.#tensors.length, dtype, dims: [...dims], role, path, continues };
    this.#tensors.push(tensor);
    return tensor;
  }
}

function idOf(tensor: Tensor): TensorId {
  return tensor.id;
}
