// A micro-batch as the programs take it, and the writing of one into device memory.
import { ConfigError } from '../../common/index.js';
import { positionLimit } from '../compile/training.js';
import type { LanguageModel } from '../model.js';
import type { Program } from './program.js';

/**
 * N packed rows. `labels[t]` is the token after t (already shifted) or, in the first row of a sequence, its class; -100 where
 * there is no loss. `starts` and `ends` give
 * each row the half-open range of rows of its sequence; a row of padding is a sequence of its own.
 */
export interface TokenBatch {
  readonly ids: Int32Array;
  readonly positions: Int32Array;
  readonly starts: Int32Array;
  readonly ends: Int32Array;
  readonly labels: Int32Array;
  /** Kind of each token, for models that tell kinds apart (BERT's two sentences). Default: all 0. */
  readonly types?: Int32Array;
}

const FIELDS = ['ids', 'positions', 'starts', 'ends', 'labels'] as const;
const IGNORED = -100;

/** Copies a batch to the inputs of a program. Throws ConfigError for a wrong number of rows and for values out of range. */
export function writeBatch(program: Program, batch: TokenBatch, model: LanguageModel): void {
  for (const field of FIELDS) {
    const { length } = program.integers(field);
    if (batch[field].length !== length) throw new ConfigError(`batch.${field}`, `${length} rows`, batch[field].length);
  }
  const rows = batch.ids.length;
  const limit = positionLimit(model, rows);
  const words = model.vocabularySize;
  for (let t = 0; t < rows; t++) {
    expectRange('ids', t, batch.ids[t]!, 0, words);
    expectRange('positions', t, batch.positions[t]!, 0, limit);
    expectRange('starts', t, batch.starts[t]!, 0, t + 1);
    expectRange('ends', t, batch.ends[t]!, t + 1, rows + 1);
    if (batch.labels[t] !== IGNORED) expectRange('labels', t, batch.labels[t]!, 0, model.labelCount ?? words);
  }
  for (const field of FIELDS) program.integers(field).set(batch[field]);
  if (!program.plan.graph.inputs.has('types')) return;
  const types = batch.types ?? new Int32Array(rows);
  if (types.length !== rows) throw new ConfigError('batch.types', `${rows} rows`, types.length);
  program.integers('types').set(types);
}

function expectRange(field: string, row: number, value: number, from: number, to: number): void {
  if (value >= from && value < to) return;
  throw new ConfigError(`batch.${field}[${row}]`, `an integer from ${from} to ${to - 1}`, value);
}
