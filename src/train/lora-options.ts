// The recipe's `lora`: names of this library, or those of peft's LoraConfig.
import { z } from 'zod';
import { ConfigError } from '../common/index.js';
import { parse } from './parse.js';

export interface LoraOptions {
  /** Width of the adapter. Default 8. */
  readonly rank?: number;
  /** The adapter's output counts alpha / rank, or alpha / sqrt(rank) with `rslora`. Default: twice the rank. */
  readonly alpha?: number;
  /** Share of the adapter's input that is dropped in training. Default 0. */
  readonly dropout?: number;
  /** Ends of paths (`q_proj`), one regular expression for whole paths, or `all-linear`, the default. */
  readonly targetModules?: string | readonly string[];
  /** Rank-stabilised, arXiv:2312.03732. Default false. */
  readonly rslora?: boolean;
  // The same, as peft calls them.
  readonly r?: number;
  readonly lora_alpha?: number;
  readonly lora_dropout?: number;
  readonly target_modules?: string | readonly string[];
  readonly use_rslora?: boolean;
}

export interface Lora {
  readonly rank: number;
  readonly alpha: number;
  readonly dropout: number;
  readonly targetModules: string | readonly string[];
  readonly rslora: boolean;
}

const rank = z.int().min(1).optional();
const alpha = z.number().positive().optional();
const dropout = z.number().min(0).lt(1).optional();
const targets = z.union([z.string().min(1), z.array(z.string().min(1)).min(1)]).optional();
const flag = z.boolean().optional();

const schema = z.strictObject({
  rank,
  alpha,
  dropout,
  targetModules: targets,
  rslora: flag,
  r: rank,
  lora_alpha: alpha,
  lora_dropout: dropout,
  target_modules: targets,
  use_rslora: flag,
});

/** Checks the choice and fills in defaults. Throws {@link ConfigError} for one thing said under both names. */
export function checkLora(options: LoraOptions): Lora {
  const checked = parse(schema, options, 'sft.lora', Object.keys(schema.shape));
  const either = <T>(ours: T | undefined, theirs: T | undefined, name: string, otherwise: T): T => {
    if (ours !== undefined && theirs !== undefined)
      throw new ConfigError(`sft.lora.${name}`, 'one of the two names', { ours, theirs }, 'They mean the same');
    return ours ?? theirs ?? otherwise;
  };
  const width = either(checked.rank, checked.r, 'rank', 8);
  return {
    rank: width,
    alpha: either(checked.alpha, checked.lora_alpha, 'alpha', 2 * width),
    dropout: either(checked.dropout, checked.lora_dropout, 'dropout', 0),
    targetModules: either<string | string[]>(
      checked.targetModules,
      checked.target_modules,
      'targetModules',
      'all-linear',
    ),
    rslora: either(checked.rslora, checked.use_rslora, 'rslora', false),
  };
}
