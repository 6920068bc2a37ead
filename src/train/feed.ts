// The driver's side of the data: tokenises in tasks, plans rows from sizes alone, has tasks lay out each rank's micro-batches.
// Tokens and micro-batches stay in the object store; only sizes are looked at here.
import { createHash } from 'node:crypto';
import { type ObjectRef, put, task } from '../client/index.js';
import { DataError, TaskError } from '../common/index.js';
import {
  type Minibatch,
  type PlacedRecord,
  RowStream,
  sizesOf,
  type TokeniseOptions,
  type Tokenizer,
  type TokenizerFiles,
  type TokenShard,
} from '../data/index.js';
import { layOutStep, tokeniseRecords } from './data-tasks.js';
import type { BatchSizes } from './ds-config.js';

const RECORDS_PER_TASK = 4096;

export interface FeedFacts {
  readonly sequences: number;
  readonly tokens: number;
  readonly rowsPerEpoch: number;
  readonly truncated: number;
  /** Records left out because they had nothing to train on. */
  readonly skipped: number;
}

export class Feed {
  readonly facts: FeedFacts;
  readonly rows: RowStream;
  readonly #records: readonly (readonly PlacedRecord[])[];
  readonly #tokenizer: ObjectRef<TokenizerFiles>;
  readonly #options: TokeniseOptions;
  readonly #padId: number;
  readonly #shards: ObjectRef<TokenShard>[];
  readonly #places: readonly string[]; // of each sequence's record

  private constructor(
    parts: {
      readonly records: readonly (readonly PlacedRecord[])[];
      readonly tokenizer: ObjectRef<TokenizerFiles>;
      readonly options: TokeniseOptions;
      readonly padId: number;
    },
    shards: ObjectRef<TokenShard>[],
    contents: readonly TokenShard[],
    seed: number,
  ) {
    this.#records = parts.records;
    this.#tokenizer = parts.tokenizer;
    this.#options = parts.options;
    this.#padId = parts.padId;
    this.#shards = shards;
    this.#places = contents.flatMap((shard, part) =>
      Array.from(shard.records, (record) => parts.records[part]![record]!.place),
    );
    this.rows = new RowStream(sizesOf(contents), parts.options.maxTokens, seed);
    const sum = (pick: (shard: TokenShard) => number): number =>
      contents.reduce((total, shard) => total + pick(shard), 0);
    this.facts = {
      sequences: sum((shard) => shard.offsets.length - 1),
      tokens: sum((shard) => shard.tokens.length),
      rowsPerEpoch: this.rows.rowsPerEpoch,
      truncated: sum((shard) => shard.truncated),
      skipped: sum((shard) => shard.skipped),
    };
  }

  /**
   * Tokenises `records` in tasks. Throws what the tokeniser refused, e.g. a record without an answer, and {@link DataError}
   * naming the first record with a token that is not one of the model's `vocabularySize`.
   */
  static async prepare(
    records: readonly PlacedRecord[],
    tokenizer: Tokenizer,
    options: TokeniseOptions,
    vocabularySize: number,
    seed: number,
  ): Promise<Feed> {
    const parts = {
      records: Array.from({ length: Math.ceil(records.length / RECORDS_PER_TASK) }, (_unused, index) =>
        records.slice(index * RECORDS_PER_TASK, (index + 1) * RECORDS_PER_TASK),
      ),
      tokenizer: put(tokenizer.files),
      options,
      padId: tokenizer.padId ?? tokenizer.eosId ?? 0,
    };
    const shards = parts.records.map((part) => tokeniseTask(part, parts.tokenizer, options));
    try {
      const contents = await Promise.all(shards);
      for (const [part, shard] of contents.entries()) expectKnown(shard, parts.records[part]!, vocabularySize);
      return new Feed(parts, shards, contents, seed);
    } catch (error) {
      // A refused record is the user's to see as it is, wherever it was found.
      throw error instanceof TaskError && error.cause instanceof DataError ? error.cause : error;
    }
  }

  /** Makes shards again whose bytes were lost with a node. */
  async restore(): Promise<void> {
    const states = await Promise.allSettled(this.#shards);
    for (const [index, state] of states.entries())
      if (state.status === 'rejected')
        this.#shards[index] = tokeniseTask(this.#records[index]!, this.#tokenizer, this.#options);
  }

  /** The micro-batches of `rank` in optimizer step `step`, as one object. */
  microBatches(step: number, rank: number, worldSize: number, batch: BatchSizes): ObjectRef<Minibatch[]> {
    const rows = Array.from({ length: batch.accumulation }, (_unused, micro) =>
      Array.from({ length: batch.microBatch }, (_unusedToo, row) =>
        this.rows.row(step * batch.trainBatch + (micro * worldSize + rank) * batch.microBatch + row),
      ),
    );
    return layOutTask(rows, this.#options.maxTokens, this.#padId, ...this.#shards);
  }

  /** Trained tokens of a step over all ranks: what its loss is divided by. */
  labelCount(step: number, batch: BatchSizes): number {
    return this.rows.labelCount(step * batch.trainBatch, (step + 1) * batch.trainBatch);
  }

  /** The record whose token is number `token` of row `index` of the run; null for padding. */
  placeOf(index: number, token: number): string | null {
    let end = 0;
    for (const sequence of this.rows.row(index)) {
      end += this.rows.sizes.lengths[sequence]!;
      if (token < end) return this.#places[sequence]!;
    }
    return null;
  }

  /** Of the tokenised data, as planning sees it: equal for a run that can go on from another's checkpoint. */
  digest(): string {
    const { lengths, labelCounts } = this.rows.sizes;
    return createHash('sha256').update(lengths).update(labelCounts).digest('hex');
  }
}

/** A tokenizer may have fewer entries than its highest id: only what it made shows whether the model knows it. */
function expectKnown(
  { tokens, offsets, records }: TokenShard,
  placed: readonly PlacedRecord[],
  vocabularySize: number,
): void {
  const at = tokens.findIndex((id) => id >= vocabularySize);
  if (at < 0) return;
  const sequence = offsets.findIndex((offset) => offset > at) - 1;
  throw new DataError({
    place: placed[records[sequence]!]!.place,
    detail: `token ${at - offsets[sequence]!} has the id ${tokens[at]}, the model knows 0 to ${vocabularySize - 1}. Is the tokenizer the model's own?`,
  });
}

const tokeniseTask = task(tokeniseRecords);
// Reserves no core: few run at a time, each for a millisecond, and the ranks may have reserved all cores.
const layOutTask = task(layOutStep, { cpus: 0 });
