// The driver's side of the data: tokenises in tasks, plans rows from sizes alone, has tasks lay out each rank's micro-batches.
// Tokens and micro-batches stay in the object store; only sizes are looked at here.
import { createHash } from 'node:crypto';
import { type ObjectRef, put, task } from '../client/index.js';
import { DataError, TaskError } from '../common/index.js';
import {
  type Minibatch,
  type Placed,
  RowStream,
  type SequenceOptions,
  type Sequences,
  sizesOf,
  type TokenizerFiles,
} from '../data/index.js';
import type { ChosenModel } from './chosen-model.js';
import type { BatchSizes } from './ds-config.js';

const RECORDS_PER_TASK = 4096;

/** What was found in the data of a run, before its first step. */
export interface FeedFacts {
  readonly sequences: number;
  readonly tokens: number;
  readonly rowsPerEpoch: number;
  readonly truncated: number;
  /** Records left out because they had nothing to train on. */
  readonly skipped: number;
}

/** Rows of one micro-batch: the sequences in each, and the pass over the data that it belongs to. */
export interface RowPlan {
  readonly sequences: readonly number[];
  readonly epoch: number;
}

/**
 * How a recipe turns records into micro-batches. `tokenise` and `layOut` run as tasks: exported functions, which know nothing but
 * their arguments.
 */
export interface Preparation<R, O extends SequenceOptions, S extends Sequences> {
  readonly options: O;
  readonly tokenise: (records: readonly Placed<R>[], tokenizer: TokenizerFiles, options: O) => Promise<S>;
  readonly layOut: (
    micros: readonly (readonly RowPlan[])[],
    padId: number,
    options: O,
    ...shards: readonly S[]
  ) => Minibatch[];
  /** How many rows are labelled of sequence `index` of a shard; the same in every pass. */
  readonly labelCountOf: (shard: S, index: number) => number;
}

type Start<Args extends readonly unknown[], Result> = (...args: Args) => ObjectRef<Result>;

/** What a feed asks of the cluster. */
interface FeedTasks {
  readonly layOut: (micros: readonly (readonly RowPlan[])[]) => ObjectRef<Minibatch[]>;
  readonly restore: () => Promise<void>;
}

export class Feed {
  readonly facts: FeedFacts;
  readonly rows: RowStream;
  readonly #tasks: FeedTasks;
  readonly #places: readonly string[]; // of each sequence's record

  private constructor(tasks: FeedTasks, contents: readonly Sequences[], places: readonly string[], rows: RowStream) {
    this.#tasks = tasks;
    this.#places = places;
    this.rows = rows;
    const sum = (pick: (shard: Sequences) => number): number =>
      contents.reduce((total, shard) => total + pick(shard), 0);
    this.facts = {
      sequences: sum((shard) => shard.offsets.length - 1),
      tokens: sum((shard) => shard.tokens.length),
      rowsPerEpoch: rows.rowsPerEpoch,
      truncated: sum((shard) => shard.truncated),
      skipped: sum((shard) => shard.skipped),
    };
  }

  /**
   * Tokenises `records` in tasks. Throws what the tokeniser refused, e.g. a record without an answer, and {@link DataError}
   * naming the first record with a token that the model does not know.
   */
  static async prepare<R, O extends SequenceOptions, S extends Sequences>(
    records: readonly Placed<R>[],
    { tokenizer, model }: Pick<ChosenModel, 'tokenizer' | 'model'>,
    { options, tokenise, layOut, labelCountOf }: Preparation<R, O, S>,
    seed: number,
  ): Promise<Feed> {
    const parts = Array.from({ length: Math.ceil(records.length / RECORDS_PER_TASK) }, (_unused, index) =>
      records.slice(index * RECORDS_PER_TASK, (index + 1) * RECORDS_PER_TASK),
    );
    const files = put(tokenizer.files);
    const padId = tokenizer.padId ?? tokenizer.eosId ?? 0;
    const tokeniseTask = task(tokenise) as unknown as Start<[readonly Placed<R>[], ObjectRef<TokenizerFiles>, O], S>;
    // Reserves no core: few run at a time, each for a millisecond, and the ranks may have reserved all cores.
    const layOutTask = task(layOut, { cpus: 0 }) as unknown as Start<
      [readonly (readonly RowPlan[])[], number, O, ...ObjectRef<S>[]],
      Minibatch[]
    >;
    const shards = parts.map((part) => tokeniseTask(part, files, options));
    const tasks: FeedTasks = {
      layOut: (micros) => layOutTask(micros, padId, options, ...shards),
      async restore() {
        const states = await Promise.allSettled(shards);
        for (const [index, { status }] of states.entries())
          if (status === 'rejected') shards[index] = tokeniseTask(parts[index]!, files, options);
      },
    };
    try {
      const contents = await Promise.all(shards);
      for (const [part, shard] of contents.entries()) expectKnown(shard, parts[part]!, model.vocabularySize);
      const rows = new RowStream(sizesOf(contents, labelCountOf), options.maxTokens, seed);
      const places = contents.flatMap((shard, part) =>
        Array.from(shard.records, (record) => parts[part]![record]!.place),
      );
      return new Feed(tasks, contents, places, rows);
    } catch (error) {
      // A refused record is the user's to see as it is, wherever it was found.
      throw error instanceof TaskError && error.cause instanceof DataError ? error.cause : error;
    }
  }

  /** Makes shards again whose bytes were lost with a node. */
  restore(): Promise<void> {
    return this.#tasks.restore();
  }

  /** The micro-batches of the ranks at data coordinate `place` of `places` in optimizer step `step`, as one object. */
  microBatches(step: number, place: number, places: number, batch: BatchSizes): ObjectRef<Minibatch[]> {
    const micros = Array.from({ length: batch.accumulation }, (_unused, micro) =>
      Array.from({ length: batch.microBatch }, (_unusedToo, row) => {
        const index = step * batch.trainBatch + (micro * places + place) * batch.microBatch + row;
        return { sequences: this.rows.row(index), epoch: this.rows.epochOf(index) };
      }),
    );
    return this.#tasks.layOut(micros);
  }

  /**
   * Micro-batches [first, first + count) of the ranks at data coordinate `place` of `places` in a pass over all rows in the order of the first
   * epoch; behind the last row they are empty.
   */
  passOver(
    { first, count }: { readonly first: number; readonly count: number },
    place: number,
    places: number,
    microBatch: number,
  ): ObjectRef<Minibatch[]> {
    const micros = Array.from({ length: count }, (_unused, micro) =>
      Array.from({ length: microBatch }, (_unusedToo, row) => {
        const index = ((first + micro) * places + place) * microBatch + row;
        return { sequences: index < this.rows.rowsPerEpoch ? this.rows.row(index) : [], epoch: 0 };
      }),
    );
    return this.#tasks.layOut(micros);
  }

  /** Labels of a step over all ranks: what its loss is divided by. */
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
  { tokens, offsets, records }: Sequences,
  placed: readonly Placed<unknown>[],
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
