// What the compiler must know about an op kind: its shape rule, its derivative, its price, what may share memory.
import { ConfigError } from '../../common/index.js';
import {
  type Attributes,
  byteLength,
  type Dtype,
  elementCount,
  type FloatType,
  isFloatType,
  type Op,
  showType,
  type Tensor,
  type TensorId,
} from '../graph.js';
import type { Cut } from '../shard.js';

export interface TensorType {
  readonly dtype: Dtype;
  readonly dims: readonly number[];
}

/** One use of an op, as its rule sees it. */
export interface OpCall {
  readonly kind: string;
  readonly path: string;
  readonly inputs: readonly Tensor[];
  readonly attributes: Attributes;
}

/** A use with its outputs, for derivative and price. */
export interface PlacedOp extends OpCall {
  readonly outputs: readonly Tensor[];
}

/** Adds an op to the graph under construction and returns its outputs. */
export type Emit = (kind: string, inputs: readonly Tensor[], attributes?: Attributes) => readonly Tensor[];

export interface BackwardCall extends PlacedOp {
  /** Gradient of the loss by each output; null where nothing flows back. At the root of the walk, `'one'`. */
  readonly gradients: readonly (Tensor | null)[];
  /** The walk starts here: the gradient of output 0 is the number one. */
  readonly isRoot: boolean;
  /** Which inputs want a gradient; what the others would get need not be computed. */
  readonly needs: readonly boolean[];
  readonly emit: Emit;
}

/** What an op takes at least: floating point operations, and bytes read and written. */
export interface Cost {
  readonly flops: number;
  readonly bytes: number;
}

/** Another op that gives the outputs `outputs` of an op from its output `from` (the first of `inputs`). */
export interface Shortcut {
  readonly from: number;
  readonly outputs: readonly number[];
  readonly kind: string;
  readonly inputs: readonly Tensor[];
  readonly attributes: Attributes;
}

/**
 * How the columns of a matrix are split over the ranks of the tensor group: as `blocks` runs of equal length, each in `parts`. Fewer parts
 * than ranks: neighbours have the same columns.
 */
export type Split = Pick<Cut, 'blocks' | 'parts'>;

/** A use of an op on whole tensors, some of which are split: columns of activations, the cut dim of parameters. */
export interface ShardCall extends OpCall {
  readonly splits: readonly (Split | null)[];
  /** The cuts of inputs that are parameters. */
  readonly cuts: readonly (Cut | null)[];
  /** Size of the tensor group, and this rank's place in it. */
  readonly ranks: number;
  readonly rank: number;
}

/** What a rank does in place of such a use. */
export interface ShardedOp {
  /** Per output; `partial`: every rank has a term of a sum. */
  readonly outputs: readonly (Split | 'partial' | null)[];
  readonly attributes?: Attributes;
  /** Whole inputs of whose gradient every rank finds a term. */
  readonly shared?: readonly number[];
  /** Inputs of the program that are memory from outside, and the dims of what a rank has of it. */
  readonly state?: ReadonlyMap<number, readonly number[]>;
}

type Pairs = readonly (readonly [output: number, input: number])[];

/** All that is known of a kind of op: types, attributes, gradient, cost, how it is shared out. */
export interface OpRule {
  readonly kind: string;
  /** Names of the attributes in the order of the plan format. */
  readonly attributes: readonly string[];
  /** Attributes behind those, which a use has all or none of. */
  readonly optionalAttributes?: readonly string[];
  /** Types of all outputs. Throws ConfigError that names the model path and both dims. */
  infer(call: OpCall): readonly TensorType[];
  /** Outputs that are one tensor: equal numbers, as [0, 0, 0] for the fused gradient of attention. Default: all differ. */
  outputGroups?(call: OpCall): readonly number[];
  /** Emits the ops of the derivative; returns a gradient (or null) per input. Absent: not differentiable. */
  backward?(call: BackwardCall): readonly (Tensor | null)[];
  /** Arithmetic and memory traffic. Default: one operation per element written, every operand moved once. */
  cost?(op: PlacedOp): Cost;
  /** [output, input] pairs that may share bytes when the input dies here. */
  readonly inPlace?: Pairs;
  /** [output, input] pairs that must share bytes: the op updates its input. */
  readonly updates?: Pairs | ((call: OpCall) => Pairs);
  /** Outputs that are gradients of parameters. Such an op takes `beta` as its last input once accumulation is decided. */
  readonly accumulates?: readonly number[];
  /** Outputs from this one on may be left out when nobody reads them. */
  readonly optionalOutputsFrom?: number;
  /** Outputs that hold nothing after the op. */
  readonly workspaces?: readonly number[];
  /** How some outputs follow from another one alone, bit by bit, at less cost than the whole op; null where they do not. */
  shortcut?(op: PlacedOp): Shortcut | null;
  /** Inputs whose columns become those of output 0; absent or none where columns are mixed. */
  columnInputs?(call: OpCall): readonly number[];
  /** How the columns of input `input` must be split for those of output 0 to be split as `split`; null: they cannot be. Default: alike. */
  demand?(call: OpCall, input: number, split: Split): Split | null;
  /** How the columns of output 0 are split where those of one of `columnInputs` are split as `split`. Default: alike. */
  splitOut?(split: Split, ranks: number): Split;
  /** How splits travel through the op. Absent: no input of it can be split. */
  shard?(call: ShardCall): ShardedOp;
  /** Attributes of a use on rows that are every `ranks`-th part of those of a whole, the `rank`-th. Default: as on the whole. */
  shardRows?(call: OpCall, ranks: number, rank: number): Attributes;
  /** Attributes that differ from rank to rank of one job. */
  readonly perRank?: readonly string[];
  /** What the executor is given of the inputs. Default: all. */
  executed?(op: Pick<Op, 'inputs' | 'attributes'>): readonly TensorId[];
  /** Never reaches the executor: a pass takes it out. */
  readonly isErased?: boolean;
  /** Runs on the communication stream. */
  readonly isCollective?: boolean;
  /** Runs on the stream of copies between device and host, or on that of the disk. */
  readonly moves?: 'copy' | 'disk';
  /**
   * Of an op that works element by element over the operands that are as long as its first output: the attributes of the same op
   * over the elements from `start` on alone. Absent: the op cannot be cut into pieces.
   */
  cut?(attributes: Attributes, start: number, length: number): Attributes;
  /** Draws random numbers, so that a copy must get the same counters. */
  readonly isRandom?: boolean;
}

/** The legend of activation kinds shared with the executor. */
export const ACTIVATIONS = {
  none: 0,
  gelu_tanh: 1,
  gelu_erf: 2,
  relu: 3,
  silu: 4,
  tanh: 5,
  sigmoid: 6,
  log_sigmoid: 7,
} as const;
/** The name of an activation function. */
export type Activation = keyof typeof ACTIVATIONS;

export function totalBytes(op: PlacedOp): number {
  let bytes = 0;
  for (const tensor of op.inputs) bytes += byteLength(tensor);
  for (const tensor of op.outputs) bytes += byteLength(tensor);
  return bytes;
}

export function defaultCost(op: PlacedOp): Cost {
  let flops = 0;
  for (const tensor of op.outputs) flops += elementCount(tensor.dims);
  return { flops, bytes: totalBytes(op) };
}

export function f32(...dims: number[]): TensorType {
  return { dtype: 'f32', dims };
}

/** A tensor of the op's storage type. */
export function stored(dtype: FloatType, ...dims: number[]): TensorType {
  return { dtype, dims };
}

/**
 * The storage type of this use of an op, read off input `index`: all activations, their gradients and parameters that the op
 * touches share it. Statistics, losses and gradients of parameters are f32 whatever it is.
 */
export function storageType(call: OpCall, index: number, name: string): FloatType {
  const tensor = operand(call, index, name);
  if (isFloatType(tensor.dtype)) return tensor.dtype;
  throw new ConfigError(
    `${call.path} (${call.kind})`,
    `${name} to hold f32, bf16 or f16`,
    `${showType(tensor)} from ${tensor.path}`,
  );
}

/** Input `index`, or an error that says which operand of which place is missing. */
export function operand(call: OpCall, index: number, name: string): Tensor {
  const tensor = call.inputs[index];
  if (!tensor) throw new ConfigError(`${call.path} (${call.kind})`, `an input ${name}`, undefined);
  return tensor;
}

/** Checks that an operand has exactly this type. */
export function expectType(call: OpCall, name: string, tensor: Tensor, dims: readonly number[], dtype: Dtype = 'f32') {
  if (tensor.dtype === dtype && tensor.dims.length === dims.length && tensor.dims.every((dim, i) => dim === dims[i]))
    return;
  throw new ConfigError(
    `${call.path} (${call.kind})`,
    `${name} to be ${showType({ dtype, dims })}`,
    `${showType(tensor)} from ${tensor.path}`,
  );
}

/** An operand with two dims, as [rows, columns]. */
export function matrix(call: OpCall, index: number, name: string, dtype: Dtype = 'f32'): readonly [number, number] {
  const tensor = operand(call, index, name);
  const [rows, columns] = tensor.dims;
  if (tensor.dtype !== dtype || tensor.dims.length !== 2 || rows === undefined || columns === undefined) {
    throw new ConfigError(
      `${call.path} (${call.kind})`,
      `${name} to be a matrix of ${dtype}`,
      `${showType(tensor)} from ${tensor.path}`,
    );
  }
  return [rows, columns];
}

/** An operand with one dim, as its length. */
export function vector(call: OpCall, index: number, name: string, dtype: Dtype = 'f32'): number {
  const tensor = operand(call, index, name);
  const [length] = tensor.dims;
  if (tensor.dtype !== dtype || tensor.dims.length !== 1 || length === undefined) {
    throw new ConfigError(
      `${call.path} (${call.kind})`,
      `${name} to be a vector of ${dtype}`,
      `${showType(tensor)} from ${tensor.path}`,
    );
  }
  return length;
}

export function attribute(call: OpCall, name: string): number {
  const value = call.attributes[name];
  if (value === undefined) throw new ConfigError(`${call.path} (${call.kind})`, `an attribute ${name}`, undefined);
  return value;
}

/** Checks the number of inputs; ops that accumulate may have `beta` [1] behind them. */
export function expectInputs(call: OpCall, counts: readonly number[], accumulates = false): void {
  const { length } = call.inputs;
  if (counts.includes(length)) return;
  if (accumulates && counts.includes(length - 1)) {
    expectType(call, 'beta', operand(call, length - 1, 'beta'), [1]);
    return;
  }
  throw new ConfigError(`${call.path} (${call.kind})`, `${counts.join(' or ')} inputs`, length);
}

/** Of ops that treat every column alike: what comes in split goes out so. */
export function alike(call: ShardCall): ShardedOp {
  return { outputs: [call.splits.find((split) => split !== null) ?? null] };
}

/** Where a column of the first part of a block lies in rows of `width` columns that are split. */
export function columnOf({ blocks, parts }: Split, width: number, column: number): number {
  const block = width / blocks;
  return Math.floor(column / block) * (block / parts) + (column % block);
}
