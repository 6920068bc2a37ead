// Texts for a model that guesses masked tokens (BERT, arXiv:1810.04805 §3.1): which tokens are hidden depends on the seed, the
// pass and the number of the sequence alone, so that any number of workers hides the same.
import { DataError, show } from '../common/index.js';
import { layOutSequences, type Minibatch } from './pack.js';
import { randomFrom, seedOf } from './random.js';
import type { Placed } from './records.js';
import { joinSequences, type SequenceOptions, type Sequences } from './tokenise.js';
import type { Tokenizer } from './tokenizer.js';

/** A text to learn from. */
export interface TextRecord {
  readonly text: string;
}

/** Sequences of which any token but the special ones may be hidden. */
export interface MaskableShard extends Sequences {
  /** 0 for special tokens. */
  readonly isMaskable: Uint8Array;
}

/** How tokens are hidden: of those chosen 80 % become the mask, 10 % any token, 10 % stay. */
export interface Masking {
  /** Share of the tokens of each sequence that is chosen. */
  readonly share: number;
  readonly maskId: number;
  readonly vocabularySize: number;
  readonly seed: number;
}

/** Decodes one parsed value; a string says what is wrong with it. */
export function decodeText(value: unknown): TextRecord | string {
  const text = typeof value === 'object' && value !== null ? (value as { readonly text?: unknown }).text : undefined;
  return typeof text === 'string' ? { text } : `text: expected text, got ${show(text)}`;
}

const BATCH = 512;

/** Tokenises `records` in their order, with special tokens. Throws {@link DataError} for one with no other tokens. */
export async function tokeniseTexts(
  records: readonly Placed<TextRecord>[],
  tokenizer: Tokenizer,
  { maxTokens, skipBad = false }: SequenceOptions,
): Promise<MaskableShard> {
  const special = new Set(Object.values(tokenizer.specialTokens).map((token) => tokenizer.tokenToId(token)));
  const sequences: (readonly number[])[] = [];
  const kept: number[] = [];
  let truncated = 0;
  for (let from = 0; from < records.length; from += BATCH) {
    const batch = records.slice(from, from + BATCH);
    const encoded = await tokenizer.encodeTexts(
      batch.map(({ record }) => [record.text, null]),
      maxTokens,
    );
    for (const [index, { ids, isCut }] of encoded.entries()) {
      if (ids.some((id) => !special.has(id))) {
        sequences.push(ids);
        kept.push(from + index);
        if (isCut) truncated += 1;
      } else if (!skipBad)
        throw new DataError({
          place: batch[index]!.place,
          detail: 'has no token to hide. Correct it, or leave such records out with skipBad',
        });
    }
  }
  const joined = joinSequences(sequences);
  const isMaskable = Uint8Array.from(joined.tokens, (id) => (special.has(id) ? 0 : 1));
  const skipped = records.length - kept.length;
  return { ...joined, isMaskable, records: Int32Array.from(kept), truncated, skipped };
}

function maskable({ isMaskable, offsets }: MaskableShard, index: number): number[] {
  const from = offsets[index]!;
  return Array.from({ length: offsets[index + 1]! - from }, (_unused, at) => at).filter(
    (at) => isMaskable[from + at] === 1,
  );
}

/** How many tokens of a sequence are chosen: the share, at least one; the same in every pass. */
export function chosenTokens(shard: MaskableShard, index: number, share: number): number {
  return countOf(maskable(shard, index), share);
}

const countOf = (places: readonly number[], share: number): number => Math.max(1, Math.round(share * places.length));

/** Lays `rows` out with tokens hidden; `epochs` is the pass over the data that each row belongs to. */
export function layOutMasked(
  rows: readonly (readonly number[])[],
  epochs: readonly number[],
  shards: readonly MaskableShard[],
  tokensPerRow: number,
  padId: number,
  { share, maskId, vocabularySize, seed }: Masking,
): Minibatch {
  return layOutSequences(rows, shards, tokensPerRow, padId, ({ ids, labels }, { shard, index, sequence, at }) => {
    const epoch = epochs[Math.floor(at / tokensPerRow)]!;
    const random = randomFrom(seedOf('mask', seed, epoch, sequence));
    const places = maskable(shard, index);
    const chosen = random.shuffle(places).slice(0, countOf(places, share));
    for (const place of chosen) {
      const row = at + place;
      labels[row] = ids[row]!;
      const kind = random.next();
      if (kind < 0.8) ids[row] = maskId;
      else if (kind < 0.9) ids[row] = random.below(vocabularySize);
    }
    return chosen.length;
  });
}
