// What a figure of one op is, and the shapes that all of them share.
import type { PlanWriter, TensorHandle } from '../../test/support/native-plan.js';
import type { Streams } from '../limits/index.js';

export type Precision = 'fp32' | 'bf16';

/** A tensor with values: in the figure's precision (`stored`), or always float32 (statistics, gradients of parameters). */
export type Values = (dims: readonly number[], dtype: 'stored' | 'f32') => TensorHandle;

/** What is counted: floating point operations, or bytes of tensors that are streamed through. */
type Bound = { readonly unit: 'GFLOP/s' } | { readonly unit: 'GB/s'; readonly streams: Streams };

export type OpFigure = Bound & {
  readonly name: string;
  /** Floating point operations, or bytes that must move. */
  readonly work: number;
  readonly build: (plan: PlanWriter, values: Values) => void;
};

export const ROWS = 1024;
export const WIDTH = 768;
export const VOCABULARY = 50257;

/** Bytes of a number in the figure's precision. */
export const bytesOf = (precision: Precision): number => (precision === 'bf16' ? 2 : 4);
