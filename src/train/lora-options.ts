// The recipe's `lora`: names of this library, or those of peft's LoraConfig.
import { z } from 'zod';
import { ConfigError } from '../common/index.js';
import { parse } from './parse.js';
import type { Quantization, RecipeOptions } from './recipe.js';

/** An adapter of low rank (arXiv:2106.09685) beside the linear layers of a frozen model. */
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
  /** Modules, by ends of paths, that are trained whole and saved with the adapter. Default: none; of `classify` its head. */
  readonly modulesToSave?: readonly string[];
  // The same, as peft calls them.
  readonly r?: number;
  readonly lora_alpha?: number;
  readonly lora_dropout?: number;
  readonly target_modules?: string | readonly string[];
  readonly use_rslora?: boolean;
  readonly modules_to_save?: readonly string[];
}

export interface Lora {
  readonly rank: number;
  readonly alpha: number;
  readonly dropout: number;
  readonly targetModules: string | readonly string[];
  readonly rslora: boolean;
  readonly modulesToSave: readonly string[];
}

/** Options of recipes that can train an adapter. */
export interface AdapterOptions {
  /** Train a low-rank adapter (arXiv:2106.09685) and leave the model as it is. `{}` for the defaults. */
  readonly lora?: LoraOptions;
  /**
   * The frozen weights of linear layers in 4 bits (QLoRA, arXiv:2305.14314), with `lora` alone. `doubleQuant` (default true) stores
   * the scales in 8 bits.
   */
  readonly quantization?: { readonly bits: 4; readonly type?: 'nf4'; readonly doubleQuant?: boolean };
}

/** Of {@link AdapterOptions}, beside the fields of all recipes. */
export const adapterFields = {
  lora: z.unknown().optional(), // checked by its own schema
  quantization: z
    .strictObject({ bits: z.literal(4), type: z.literal('nf4').default('nf4'), doubleQuant: z.boolean().default(true) })
    .nullable()
    .default(null),
};

const rank = z.int().min(1).optional();
const alpha = z.number().positive().optional();
const dropout = z.number().min(0).lt(1).optional();
const targets = z.union([z.string().min(1), z.array(z.string().min(1)).min(1)]).optional();
const flag = z.boolean().optional();
const modules = z.array(z.string().min(1)).optional();

const schema = z.strictObject({
  rank,
  alpha,
  dropout,
  targetModules: targets,
  rslora: flag,
  modulesToSave: modules,
  r: rank,
  lora_alpha: alpha,
  lora_dropout: dropout,
  target_modules: targets,
  use_rslora: flag,
  modules_to_save: modules,
});

/**
 * Checks the choice of the recipe `kind` and fills in defaults. Throws {@link ConfigError} for one thing said under both names.
 * `head`: the modules that the recipe puts on the model anew.
 */
function checkLora(options: LoraOptions, kind: string, head: readonly string[]): Lora {
  const checked = parse(schema, options, `${kind}.lora`, Object.keys(schema.shape));
  const either = <T>(ours: T | undefined, theirs: T | undefined, name: string, otherwise: T): T => {
    if (ours !== undefined && theirs !== undefined)
      throw new ConfigError(`${kind}.lora.${name}`, 'one of the two names', { ours, theirs }, 'They mean the same');
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
    modulesToSave: either(checked.modulesToSave, checked.modules_to_save, 'modulesToSave', head),
  };
}

/** The adapter that recipe `kind` trains, or null. `quantization` is as `adapterFields` read it. */
export function adapterOf(
  { lora: options, model }: AdapterOptions & Pick<RecipeOptions, 'model'>,
  quantization: Quantization | null,
  kind: string,
  head: readonly string[] = [],
): Lora | null {
  if (options === undefined) {
    if (quantization === null) return null;
    throw new ConfigError(
      `${kind}.quantization`,
      'lora beside it',
      'none',
      'Weights in 4 bits are not trained themselves',
    );
  }
  const lora = checkLora(options, kind, head);
  if (typeof model !== 'string')
    throw new ConfigError(`${kind}.lora`, 'a Hugging Face folder as model', model, 'An adapter needs a trained model');
  return lora;
}
