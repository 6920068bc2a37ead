// What a step is made of: tensors and ops as plain data, in SSA form. Nothing here computes.
import type { Nf4Settings } from './nf4.js';
import type { Cut } from './shard.js';

/** How a number is stored; arithmetic is f32 whatever it is. */
export type FloatType = 'f32' | 'bf16' | 'f16';
/** How elements are stored. */
export type Dtype = FloatType | 'i32' | 'u8';
/** What a tensor is in its program. */
export type Role = 'parameter' | 'input' | 'activation' | 'gradient' | 'state' | 'constant';
/** A tensor's index in {@link Graph.tensors}. */
export type TensorId = number;

/** A symbol: a dense, row-major array that some op writes once or that comes from outside. */
export interface Tensor {
  readonly id: TensorId;
  readonly dtype: Dtype;
  readonly dims: readonly number[];
  readonly role: Role;
  /** The place in the model that made it: `transformer.h.3.attn.c_attn`. Used by every message about it. */
  readonly path: string;
  /** The tensor on whose bytes this one is written (an update in place), or null for bytes of its own. */
  readonly continues: TensorId | null;
}

/** Numbers of an op that are known when it is built, by name. */
export type Attributes = Readonly<Record<string, number>>;

/** One row of a program. `kind` is a name of the op catalogue in ARCHITECTURE.md. */
export interface Op {
  readonly kind: string;
  readonly path: string;
  readonly inputs: readonly TensorId[];
  readonly outputs: readonly TensorId[];
  readonly attributes: Attributes;
}

/** How a parameter starts when no checkpoint gives it. */
export type Initialiser = { readonly kind: 'normal'; readonly std: number } | { readonly kind: 'zeros' | 'ones' };

/** A trainable (or frozen) tensor, under the name that checkpoints give it. */
export interface Parameter {
  readonly name: string;
  readonly tensor: TensorId;
  readonly dims: readonly number[];
  /** The flat buffer it lives in: embeddings, one block, or head. */
  readonly bucket: string;
  readonly init: Initialiser;
  readonly isFrozen: boolean;
  /** Stored in 4 bits: its tensor is bytes, its dims are those of the values. */
  readonly nf4?: Nf4Settings;
  /** Cut over the ranks of the tensor group: its dims are those of what a rank holds. Where ranks hold the same, gradients are parts of a sum. */
  readonly cut?: Cut;
}

/** Ops in order of execution. `tensors[i].id === i`; tensors that no op mentions any more are harmless. */
export interface Graph {
  readonly tensors: readonly Tensor[];
  readonly ops: readonly Op[];
  readonly inputs: ReadonlyMap<string, TensorId>;
  readonly outputs: ReadonlyMap<string, TensorId>;
  readonly parameters: ReadonlyMap<string, Parameter>;
  readonly constants: ReadonlyMap<TensorId, Float32Array>;
  /** The tensors between blocks, in order: what recomputation may start from. */
  readonly borders: readonly TensorId[];
  /** Gradient of each trained parameter, once autodiff has run. */
  readonly gradients: ReadonlyMap<string, TensorId>;
}

/** Bytes of an element. */
export const DTYPE_BYTES: Readonly<Record<Dtype, number>> = { f32: 4, i32: 4, u8: 1, bf16: 2, f16: 2 };

/** Types in the plan format. */
export const DTYPE_CODES: Readonly<Record<Dtype, number>> = { f32: 0, i32: 1, u8: 2, bf16: 3, f16: 4 };

/** The storage type with this code. */
export function floatTypeOf(code: number): FloatType {
  const type = (['f32', 'bf16', 'f16'] as const).find((dtype) => DTYPE_CODES[dtype] === code);
  if (!type) throw new Error(`no storage type has the code ${code}`);
  return type;
}

/** Whether elements are floating point numbers. */
export function isFloatType(dtype: Dtype): dtype is FloatType {
  return dtype === 'f32' || dtype === 'bf16' || dtype === 'f16';
}

/** The product of `dims`. */
export function elementCount(dims: readonly number[]): number {
  return dims.reduce((product, dim) => product * dim, 1);
}

/** Bytes of a dense tensor. */
export function byteLength(tensor: { readonly dtype: Dtype; readonly dims: readonly number[] }): number {
  return elementCount(tensor.dims) * DTYPE_BYTES[tensor.dtype];
}

/** `f32 [16, 64]`: how a tensor's type is written in messages and tables. */
export function showType(tensor: { readonly dtype: Dtype; readonly dims: readonly number[] }): string {
  return `${tensor.dtype} [${tensor.dims.join(', ')}]`;
}

/** 1234567 → "1.23 MB". */
export function showBytes(bytes: number): string {
  return showAmount(bytes, 'B');
}

/** 1234567 B → "1.23 MB". */
export function showAmount(value: number, unit: string): string {
  const scale = ['', 'k', 'M', 'G', 'T', 'P'];
  let power = 0;
  let rest = value;
  while (rest >= 1000 && power < scale.length - 1) {
    rest /= 1000;
    power++;
  }
  return `${power === 0 ? rest : rest.toFixed(2)} ${scale[power]}${unit}`;
}

/** The storage type that all parameters of a graph share. */
export function parameterType(graph: Graph): FloatType {
  for (const { tensor } of graph.parameters.values()) {
    const { dtype } = graph.tensors[tensor]!;
    if (isFloatType(dtype)) return dtype;
  }
  return 'f32';
}

/** Number of trainable and frozen elements of a graph, whole; a tied matrix counts once. */
export function parameterCount(graph: Graph): number {
  let count = 0;
  for (const { dims, cut } of graph.parameters.values()) count += elementCount(cut?.dims ?? dims);
  return count;
}

/** The op that writes each tensor: its index in `graph.ops`. */
export function producers(graph: Graph): ReadonlyMap<TensorId, number> {
  const result = new Map<TensorId, number>();
  for (const [index, op] of graph.ops.entries()) for (const output of op.outputs) result.set(output, index);
  return result;
}

/** How often each tensor is read, a named output of the graph or a gradient counting as one more use. */
export function useCounts(graph: Graph): ReadonlyMap<TensorId, number> {
  const result = new Map<TensorId, number>();
  const use = (id: TensorId) => result.set(id, (result.get(id) ?? 0) + 1);
  for (const op of graph.ops) op.inputs.forEach(use);
  for (const id of graph.outputs.values()) use(id);
  for (const id of graph.gradients.values()) use(id);
  for (const tensor of graph.tensors) if (tensor.continues !== null) use(tensor.continues);
  return result;
}
