// config.json in common: fields that all families share, and zod's findings as our errors.
import { z } from 'zod';
import { ConfigError, valueAt } from '../common/index.js';

export const count = z.number().int().positive();
/** What dropout drops. */
export const share = z.number().min(0).lt(1);
const tokenId = z.number().int().nonnegative();

/** Fields of every causal model. */
export const commonFields = {
  vocab_size: count,
  bos_token_id: tokenId.nullish(),
  eos_token_id: z.union([tokenId, z.array(tokenId)]).nullish(),
  pad_token_id: z.number().int().nullish(), // some configurations say -1 for none
  initializer_range: z.number().positive().default(0.02),
};

/** Reads `json` with `schema`; the first thing wrong becomes a ConfigError that names the key. */
export function readConfig<T extends z.ZodType>(schema: T, json: unknown, place: string): z.output<T> {
  const result = schema.safeParse(json);
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  throw new ConfigError([place, ...issue.path.map(String)].join('.'), issue.message, valueAt(json, issue.path));
}

export function tokenIds(config: {
  readonly bos_token_id?: number | null | undefined;
  readonly eos_token_id?: number | readonly number[] | null | undefined;
  readonly pad_token_id?: number | null | undefined;
}) {
  const eos = config.eos_token_id ?? [];
  const pad = config.pad_token_id ?? null;
  return {
    bosTokenId: config.bos_token_id ?? null,
    eosTokenIds: typeof eos === 'number' ? [eos] : eos,
    padTokenId: pad !== null && pad >= 0 ? pad : null,
  };
}
