// What a model in training says to some prompts: the driver's side. Prompts go to the workers in turn; where workers hold parts of the
// model all of them take part, whether they have a prompt or not. Workers that generate together are given the same prompts.
import type { Tokenizer } from '../data/index.js';
import type { Mesh } from '../engine/index.js';
import type { RankGroup } from './rank-group.js';
import type { TrainerSettings } from './trainer-options.js';

/** A prompt of `run.samples` with what the model in training makes of it. */
export interface Sample {
  readonly prompt: string;
  /** The likeliest continuation, without special tokens. */
  readonly text: string;
}

export type SampleOptions = NonNullable<TrainerSettings['run']['samples']>;

/** Continuations by the weights as they are now, in the order of the prompts. */
export async function takeSamples(
  group: RankGroup,
  { generation }: Mesh,
  tokenizer: Tokenizer,
  { prompts, maxNewTokens }: SampleOptions,
): Promise<readonly Sample[]> {
  const ids = await tokenizer.encodeBatch(prompts, { addSpecialTokens: true });
  const count = group.ranks.length / generation;
  const end = tokenizer.eosId === null ? [] : [tokenizer.eosId];
  const answers = await group.all((rank, index) =>
    rank.generate(
      ids.filter((_, prompt) => prompt % count === Math.floor(index / generation)),
      { maxNewTokens, end },
    ),
  );
  return Promise.all(
    prompts.map(async (prompt, index) => {
      const answer = answers[(index % count) * generation]![Math.floor(index / count)]!;
      return { prompt, text: await tokenizer.decode(answer, { skipSpecialTokens: true }) };
    }),
  );
}
