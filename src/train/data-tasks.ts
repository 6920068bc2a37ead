// The tasks that workers run on data: tokenise a part of the records, lay out the micro-batches of one rank's step.
// Called by name from the driver; they know nothing of the cluster.
import {
  type LabelledLayout,
  type LabelledShard,
  layOutLabelled,
  layOutMasked,
  layOutRows,
  type MaskableShard,
  type Masking,
  type Minibatch,
  type Placed,
  type PlacedRecord,
  type SequenceOptions,
  type TargetRecord,
  type TextRecord,
  type TokeniseOptions,
  Tokenizer,
  type TokenizerFiles,
  type TokenShard,
  tokenise,
  tokeniseLabelled,
  tokeniseTexts,
} from '../data/index.js';
import type { RowPlan } from './feed.js';

type Micros = readonly (readonly RowPlan[])[];
const sequencesOf = (micro: readonly RowPlan[]) => micro.map(({ sequences }) => sequences);

export type AnswerOptions = TokeniseOptions;
export type LabelledOptions = SequenceOptions & LabelledLayout;
export type MaskedOptions = SequenceOptions & Masking;

export function tokeniseAnswers(
  records: readonly PlacedRecord[],
  tokenizer: TokenizerFiles,
  options: AnswerOptions,
): Promise<TokenShard> {
  return tokenise(records, new Tokenizer(tokenizer), options);
}

export function layOutAnswers(
  micros: Micros,
  padId: number,
  { maxTokens }: AnswerOptions,
  ...shards: readonly TokenShard[]
): Minibatch[] {
  return micros.map((micro) => layOutRows(sequencesOf(micro), shards, maxTokens, padId));
}

export function tokeniseLabels(
  records: readonly Placed<TargetRecord>[],
  tokenizer: TokenizerFiles,
  options: LabelledOptions,
): Promise<LabelledShard> {
  return tokeniseLabelled(records, new Tokenizer(tokenizer), options);
}

export function layOutLabels(
  micros: Micros,
  padId: number,
  options: LabelledOptions,
  ...shards: readonly LabelledShard[]
): Minibatch[] {
  return micros.map((micro) => layOutLabelled(sequencesOf(micro), shards, options.maxTokens, padId, options));
}

export function tokeniseMaskable(
  records: readonly Placed<TextRecord>[],
  tokenizer: TokenizerFiles,
  options: MaskedOptions,
): Promise<MaskableShard> {
  return tokeniseTexts(records, new Tokenizer(tokenizer), options);
}

export function layOutMasks(
  micros: Micros,
  padId: number,
  options: MaskedOptions,
  ...shards: readonly MaskableShard[]
): Minibatch[] {
  return micros.map((micro) => {
    const epochs = micro.map(({ epoch }) => epoch);
    return layOutMasked(sequencesOf(micro), epochs, shards, options.maxTokens, padId, options);
  });
}
