// raylite's part of the training figures, on one rank or several: the tokens, the optimiser and the first weights, as the peers
// have them.
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { TokenBatch, TrainStep } from '#src/engine/index.js';
import { Checkpoint, initialise, type Model, modelFromConfig } from '#src/models/index.js';

export const LEARNING_RATE = 1e-4;
export const OPTIMIZER = {
  kind: 'adamw',
  beta1: 0.9,
  beta2: 0.999,
  eps: 1e-8,
  weightDecay: 0.01,
  maxGradientNorm: 1,
} as const;

/** The model that the config.json of `folder` describes. */
export async function modelOf(folder: string): Promise<Model> {
  return modelFromConfig(JSON.parse(await readFile(join(folder, 'config.json'), 'utf8')));
}

/** The peer's first weights where it made some in `folder`, else raylite's own. */
export async function loadWeights(folder: string, model: Model, parameters: TrainStep['parameters']): Promise<void> {
  if (!existsSync(join(folder, 'model.safetensors'))) {
    initialise(model, 0, parameters);
    return;
  }
  await using checkpoint = await Checkpoint.open(folder);
  await checkpoint.loadInto(parameters);
}

/**
 * The tokens of rank `rank`'s rows, as the peer counts them, packed: each sequence is a segment, its last token predicts
 * nothing; BERT predicts every seventh.
 */
export function batchOf(model: Model, rows: number, tokens: number, rank: number): TokenBatch {
  const each = (value: (at: number) => number) => Int32Array.from({ length: rows * tokens }, (_, at) => value(at));
  const id = (at: number) => {
    const k = rank * rows * tokens + at;
    return (k * 7919 + k * k * 31 + 13) % model.vocabularySize;
  };
  const start = (at: number) => at - (at % tokens);
  const next = (at: number) => (at % tokens === tokens - 1 ? -100 : id(at + 1));
  const masked = (at: number) => ((at % tokens) % 7 === 3 ? id(at) : -100);
  return {
    ids: each(id),
    positions: each((at) => at % tokens),
    starts: each(start),
    ends: each((at) => start(at) + tokens),
    labels: each(model.architecture === 'BertForMaskedLM' ? masked : next),
  };
}

/** Of the labels of a batch: those that count. */
export const labelCount = ({ labels }: TokenBatch): number => labels.filter((label) => label >= 0).length;
