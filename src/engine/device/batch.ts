// A micro-batch as the programs take it, and the writing of one into device memory.
import { ConfigError } from '../../common/index.js';
import { type AnyModel, type LanguageModel, positionLimit } from '../model.js';
import type { Program } from './program.js';

/** What the outputs of N rows are held against; which of these a program takes is its objective's choice. */
export interface LossInputs {
  /** Class of each row; -100 where there is no loss. */
  readonly labels?: Int32Array;
  /** [N, labelCount] numbers, shares of 0 to 1, or gradients; NaN where there is no loss. Default: all NaN. */
  readonly targets?: Float32Array;
  /** What the loss of each row is multiplied by. Default: all 1. */
  readonly weights?: Float32Array;
  /** Gradient of the caller's loss by each row's value. Default: all 0. */
  readonly valueGradients?: Float32Array;
}

/**
 * N packed rows. `labels[t]` is the token after t (already shifted) or, in one row of a sequence, its class; -100 where
 * there is no loss. `starts` and `ends` give each row the half-open range of rows of its sequence; a row of padding is a
 * sequence of its own.
 */
export interface TokenBatch extends LossInputs {
  readonly ids: Int32Array;
  readonly positions: Int32Array;
  readonly starts: Int32Array;
  readonly ends: Int32Array;
  readonly labels: Int32Array;
  /** Kind of each token, for models that tell kinds apart (BERT's two sentences). Default: all 0. */
  readonly types?: Int32Array;
}

/** N rows of numbers, [N, featureCount]. */
export interface FeatureBatch extends LossInputs {
  readonly features: Float32Array;
}

/** Rows of token ids, or of features, with what is to be predicted of them. */
export type Batch = TokenBatch | FeatureBatch;

const INTEGERS = ['ids', 'positions', 'starts', 'ends', 'labels', 'types'] as const;
const FLOATS = ['features', 'targets', 'weights', 'valueGradients'] as const;
/** What stands for a field that a batch leaves out; others are required. */
const DEFAULTS: Readonly<Partial<Record<string, number>>> = {
  types: 0,
  targets: Number.NaN,
  weights: 1,
  valueGradients: 0,
};
const IGNORED = -100;
/** What every rank has of all rows. */
const SEGMENTS: readonly string[] = ['starts', 'ends'];
/** The `rank`-th of as many equal parts of the rows. */
export interface RowShare {
  readonly ranks: number;
  readonly rank: number;
}
const ALL_ROWS: RowShare = { ranks: 1, rank: 0 };

type Fields = Readonly<Partial<Record<string, Int32Array | Float32Array>>>;

/**
 * Copies a batch to the inputs of a program; where that is one of `ranks` that have a part of the rows, those of the `rank`-th. Throws ConfigError for
 * a wrong number of rows and for values out of range.
 */
export function writeBatch(
  program: Program,
  batch: Batch,
  model: AnyModel,
  { ranks, rank }: RowShare = ALL_ROWS,
): void {
  const fields = batch as unknown as Fields;
  const { inputs } = program.plan.graph;
  const partsOf = (field: string) => (SEGMENTS.includes(field) ? 1 : ranks);
  const write = (field: string, memory: Int32Array | Float32Array) => {
    const values = fields[field];
    const fallback = DEFAULTS[field];
    if (values === undefined && fallback !== undefined) memory.fill(fallback);
    else if (values?.length !== memory.length * partsOf(field))
      throw new ConfigError(`batch.${field}`, `${memory.length * partsOf(field)} values`, values?.length);
    else
      memory.set(
        values.length === memory.length ? values : values.subarray(rank * memory.length, (rank + 1) * memory.length),
      );
  };
  const integers = INTEGERS.filter((field) => inputs.has(field));
  for (const field of integers) {
    const length = program.integers(field).length * partsOf(field);
    const found = fields[field]?.length;
    if (found !== length && !(found === undefined && field in DEFAULTS))
      throw new ConfigError(`batch.${field}`, `${length} rows`, found);
  }
  if (!('featureCount' in model)) checkTokens(batch as TokenBatch, model);
  const labels = inputs.has('labels') ? fields.labels : undefined;
  const classes = 'featureCount' in model ? model.labelCount : (model.labelCount ?? model.vocabularySize);
  labels?.forEach((label, row) => {
    if (label !== IGNORED) expectRange('labels', row, label, 0, classes);
  });
  for (const field of integers) write(field, program.integers(field));
  for (const field of FLOATS) if (inputs.has(field)) write(field, program.floats(field));
}

function checkTokens(batch: TokenBatch, model: LanguageModel): void {
  const rows = batch.ids.length;
  const limit = positionLimit(model, rows);
  for (let t = 0; t < rows; t++) {
    expectRange('ids', t, batch.ids[t]!, 0, model.vocabularySize);
    expectRange('positions', t, batch.positions[t]!, 0, limit);
    expectRange('starts', t, batch.starts[t]!, 0, t + 1);
    expectRange('ends', t, batch.ends[t]!, t + 1, rows + 1);
  }
}

function expectRange(field: string, row: number, value: number, from: number, to: number): void {
  if (value >= from && value < to) return;
  throw new ConfigError(`batch.${field}[${row}]`, `an integer from ${from} to ${to - 1}`, value);
}
