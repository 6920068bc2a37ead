// The tasks that workers run on data: tokenise a part of the records, lay out the micro-batches of one rank's step.
// Called by name from the driver; they know nothing of the cluster.
import {
  layOutRows,
  type Minibatch,
  type PlacedRecord,
  type TokeniseOptions,
  Tokenizer,
  type TokenizerFiles,
  type TokenShard,
  tokenise,
} from '../data/index.js';

export function tokeniseRecords(
  records: readonly PlacedRecord[],
  tokenizer: TokenizerFiles,
  options: TokeniseOptions,
): Promise<TokenShard> {
  return tokenise(records, new Tokenizer(tokenizer), options);
}

/** `rows[m]` are the rows (sequence numbers) of micro-batch m; the shards hold all sequences in order. */
export function layOutStep(
  rows: readonly (readonly (readonly number[])[])[],
  tokensPerRow: number,
  padId: number,
  ...shards: readonly TokenShard[]
): Minibatch[] {
  return rows.map((micro) => layOutRows(micro, shards, tokensPerRow, padId));
}
