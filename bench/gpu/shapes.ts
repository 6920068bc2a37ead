// What the figures on a GPU are of, from the file that both sides read (shapes.json; tests have a tiny one).
import { readFileSync } from 'node:fs';

export interface TrainingShape {
  readonly name: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly sequences: number;
  readonly tokens: number;
  /** Parameters, gradients' sums and state in bf16, with no masters. */
  readonly isBare?: boolean;
  /** Of the adapter that is trained in place of the model. */
  readonly loraRank?: number;
  /** State of the optimizer in the memory of the host, and activations made again. */
  readonly isOffloaded?: boolean;
}

export interface DecodingShape {
  readonly name: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly sequences: readonly number[];
  readonly steps: number;
}

export interface Shapes {
  /** Rows, inputs, outputs. */
  readonly products: readonly (readonly [n: number, i: number, o: number])[];
  /** Elements in bf16 that are copied: what memory gives and takes at most. */
  readonly copied: number;
  /** Elements that AdamW steps. */
  readonly stepped: number;
  readonly norms: readonly (readonly [rows: number, columns: number])[];
  readonly attention: readonly (readonly [batch: number, tokens: number, heads: number, headDim: number])[];
  readonly training: readonly TrainingShape[];
  readonly decoding: DecodingShape;
}

export const readShapes = (path: string): Shapes => JSON.parse(readFileSync(path, 'utf8'));

/** Names of figures. */
export const nameOf = {
  product: ([n, i, o]: Shapes['products'][number]) => `linear ${n}x${i}x${o} bf16`,
  copy: 'copy',
  adamw: 'adamw',
  norm: ([n, d]: Shapes['norms'][number]) => `rms_norm ${n}x${d} bf16`,
  attention: ([batch, tokens, heads, c]: Shapes['attention'][number]) =>
    `attention ${batch}x${tokens} of ${heads}x${c} bf16`,
  decoding: ({ name }: DecodingShape, sequences: number) => `${name}, ${sequences} at a time`,
};

export type Fields = Readonly<Record<string, number | string>>;

export function show(figure: string, fields: Fields): void {
  console.log(JSON.stringify({ side: 'raylite', figure, ...fields }));
}
