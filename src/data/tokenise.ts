// Turns records into token sequences with the trainable tokens known by construction: prompt and answer are encoded apart.
import { DataError } from '../common/index.js';
import { type PromptTemplate, promptAndAnswer } from './prompt.js';
import type { PlacedRecord } from './records.js';
import type { Tokenizer } from './tokenizer.js';

/**
 * Many sequences in flat arrays, which travel between processes without a copy. Sequence i is
 * `tokens[offsets[i] .. offsets[i + 1])`.
 */
export interface Sequences {
  readonly tokens: Int32Array;
  readonly offsets: Int32Array;
  /** Which of the records each sequence is of. */
  readonly records: Int32Array;
  /** Sequences cut at `maxTokens`. */
  readonly truncated: number;
  /** Records left out because no trainable token was left (only with `skipBad`). */
  readonly skipped: number;
}

/** Sequences of which tokens are to be predicted from those before them. */
export interface TokenShard extends Sequences {
  /** 1 where the model learns to predict that token. */
  readonly isTrained: Uint8Array;
}

/** How records become sequences of tokens. */
export interface SequenceOptions {
  /** Longer sequences are cut at the end. */
  readonly maxTokens: number;
  /** Leave out records with nothing to train on, counting them, in place of refusing them. */
  readonly skipBad?: boolean;
}

/** How instructions are worded and become tokens. */
export interface TokeniseOptions extends SequenceOptions {
  readonly template: PromptTemplate;
}

const BATCH = 512; // texts per crossing into the tokenizer

/** Tokenises `records` in their order. Throws {@link DataError} naming the first record that has nothing to train on. */
export async function tokenise(
  records: readonly PlacedRecord[],
  tokenizer: Tokenizer,
  options: TokeniseOptions,
): Promise<TokenShard> {
  const sequences: { readonly ids: readonly number[]; readonly mask: readonly number[] }[] = [];
  const kept: number[] = []; // records
  let truncated = 0;
  let skipped = 0;
  for (let from = 0; from < records.length; from += BATCH) {
    const batch = records.slice(from, from + BATCH);
    const encoded = await encodeAll(batch, tokenizer, options.template);
    for (const [index, { ids, mask }] of encoded.entries()) {
      const cut = ids.length > options.maxTokens;
      const trained = cut ? mask.slice(0, options.maxTokens) : mask;
      // The first token has nothing before it to be predicted from.
      if (!trained.some((isTrained, at) => isTrained === 1 && at > 0)) {
        if (!options.skipBad) throw nothingToTrain(batch[index]!, ids.length, options.maxTokens);
        skipped += 1;
        continue;
      }
      if (cut) truncated += 1;
      sequences.push({ ids: cut ? ids.slice(0, options.maxTokens) : ids, mask: trained });
      kept.push(from + index);
    }
  }
  const joined = joinSequences(sequences.map(({ ids }) => ids));
  const isTrained = new Uint8Array(joined.tokens.length);
  for (const [index, { mask }] of sequences.entries()) isTrained.set(mask, joined.offsets[index]!);
  return { ...joined, isTrained, records: Int32Array.from(kept), truncated, skipped };
}

/** Lists of ids one after the other. */
export function joinSequences(sequences: readonly (readonly number[])[]): Pick<Sequences, 'tokens' | 'offsets'> {
  const offsets = new Int32Array(sequences.length + 1);
  sequences.forEach((ids, index) => {
    offsets[index + 1] = offsets[index]! + ids.length;
  });
  const tokens = new Int32Array(offsets[sequences.length]!);
  for (const [index, ids] of sequences.entries()) tokens.set(ids, offsets[index]!);
  return { tokens, offsets };
}

async function encodeAll(
  batch: readonly PlacedRecord[],
  tokenizer: Tokenizer,
  template: PromptTemplate,
): Promise<{ readonly ids: readonly number[]; readonly mask: readonly number[] }[]> {
  const texts = batch.map(({ record }) => (record.kind === 'chat' ? null : promptAndAnswer(record, template)));
  const encoded = await tokenizer.encodeBatch(texts.flatMap((text) => (text ? [text.prompt, text.answer] : [])));
  let next = 0;
  const all: { ids: readonly number[]; mask: readonly number[] }[] = [];
  for (const { place, record } of batch) {
    if (record.kind === 'chat') {
      const chat = await tokenizer.encodeChat(record.messages).catch((cause: unknown) => {
        throw cause instanceof DataError ? new DataError({ place, detail: cause.message }, { cause }) : cause;
      });
      all.push({ ids: chat.ids, mask: chat.assistantMask });
      continue;
    }
    const prompt = encoded[next]!;
    const answer = encoded[next + 1]!;
    next += 2;
    if (answer.length > 0 && tokenizer.eosId !== null) answer.push(tokenizer.eosId); // an empty answer teaches nothing
    const bos = tokenizer.bosId !== null && prompt.length === 0 ? [tokenizer.bosId] : [];
    const start = bos.length + prompt.length;
    all.push({
      ids: [...bos, ...prompt, ...answer],
      mask: Array.from({ length: start + answer.length }, (_unused, at) => (at < start ? 0 : 1)),
    });
  }
  return all;
}

function nothingToTrain({ place, record }: PlacedRecord, length: number, maxTokens: number): DataError {
  const beginning =
    record.kind === 'chat'
      ? record.messages[0]?.content
      : record.kind === 'alpaca'
        ? record.instruction
        : record.prompt;
  const reason =
    length > maxTokens
      ? `the prompt alone fills the ${maxTokens} tokens of a sequence (the record has ${length}). Raise the sequence length`
      : 'the answer is empty. Give it one';
  return new DataError({
    place,
    detail: `has no token to train on: ${reason}, or leave such records out with --skip-bad (skipBad). It begins ${JSON.stringify((beginning ?? '').slice(0, 60))}`,
  });
}
