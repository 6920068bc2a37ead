// What every recipe says, and what the Trainer asks of one: the model, its data as micro-batches, figures of what came out.
import { z } from 'zod';
import type { Placed, Tokenizer } from '../data/index.js';
import type { LossOptions, Recompute } from '../engine/index.js';
import type { ChosenModel } from './chosen-model.js';
import type { Feed } from './feed.js';
import type { Lora } from './lora-options.js';

/** A model trained from scratch; `vocabSize` is the tokenizer's unless given. */
export interface FreshModel {
  readonly kind: 'gpt2' | 'llama' | 'bert';
  readonly layers: number;
  readonly hidden: number;
  readonly heads: number;
  /** llama: key-value heads, fewer than heads for grouped-query attention. Default: as many as heads. */
  readonly kvHeads?: number;
  /** Width of the feed-forward part. Default 4 × hidden (gpt2), 8/3 × hidden in steps of 32 (llama). */
  readonly feedForward?: number;
  /** Positions that the model is made for. Default: the sequence length. */
  readonly maxPositions?: number;
}

/** Where records come from: a source to read, or records already in memory. */
export type DataChoice<R> =
  | string
  | { readonly path: string; readonly skipBad?: boolean; readonly limit?: number }
  | { readonly records: readonly (R | Placed<R>)[]; readonly skipBad?: boolean };

/** Options of every recipe. */
export interface RecipeOptions {
  /** A Hugging Face folder to start from, or the shape of a new model. */
  readonly model: string | FreshModel;
  /** A tokenizer or its folder. Default: the model's folder. */
  readonly tokenizer?: string | Tokenizer;
  /** Tokens of a packed row. Default 1024 (sft, as TRL's `max_length`), else 512. */
  readonly sequenceLength?: number;
  /** Passes over the data, unless `maxSteps` is given. Default 3. */
  readonly epochs?: number;
  readonly maxSteps?: number;
  /** What "auto" in the ds_config means. Defaults: 2e-5, 0, 1.0, 1 row. */
  readonly learningRate?: number;
  readonly weightDecay?: number;
  readonly maxGradientNorm?: number;
  readonly microBatch?: number;
  /** Parameters and activations in bfloat16 or in float16 with a loss scale, masters and optimizer in float32. Default: float32. */
  readonly bf16?: boolean;
  readonly fp16?: boolean;
  /** Share dropped wherever the model can drop. Default: what its config.json says, as Transformers does; 0 for none. */
  readonly dropout?: number;
  /**
   * Activation checkpointing. True: blocks are computed again in the backward; `every` n: n of them from one kept input;
   * `budgetMiB`: as little is computed again as makes activations, their gradients and workspaces of a worker fit; `cheap`, the
   * default: what a pass over memory makes again, such as norms and activations. False keeps everything.
   */
  readonly gradientCheckpointing?: boolean | 'cheap' | { readonly every: number } | { readonly budgetMiB: number };
  /** Of each trained token, the share of the target that is spread evenly over all classes (arXiv:1512.00567). Default 0. */
  readonly labelSmoothing?: number;
  /** Weight of the square of the log of the softmax's denominator, added to each token's loss (arXiv:2204.02311). Default 0. */
  readonly zLoss?: number;
  /** Of everything random: first values, order of the data, masks of dropout. Default 42. */
  readonly seed?: number;
}

const count = z.int().min(1);

/** Of {@link RecipeOptions}; recipes add to it. */
export const recipeFields = {
  model: z.union([
    z.string().min(1),
    z.strictObject({
      kind: z.enum(['gpt2', 'llama', 'bert']),
      layers: count,
      hidden: count,
      heads: count,
      kvHeads: count.optional(),
      feedForward: count.optional(),
      maxPositions: count.optional(),
    }),
  ]),
  data: z.unknown().optional(),
  tokenizer: z.unknown().optional(),
  sequenceLength: z.int().min(2).default(512),
  epochs: z.number().positive().default(3),
  maxSteps: count.optional(),
  learningRate: z.number().positive().default(2e-5),
  weightDecay: z.number().min(0).default(0),
  maxGradientNorm: z.number().min(0).default(1),
  microBatch: count.default(1),
  bf16: z.boolean().optional(),
  fp16: z.boolean().optional(),
  dropout: z.number().min(0).lt(1).optional(),
  gradientCheckpointing: z
    .union([
      z.boolean(),
      z.literal('cheap'),
      z.strictObject({ every: count }),
      z.strictObject({ budgetMiB: z.number().positive() }),
    ])
    .default('cheap'),
  labelSmoothing: z.number().min(0).lt(1).default(0),
  zLoss: z.number().min(0).default(0),
  seed: z.int().default(42),
};
const schema = z.strictObject(recipeFields);

/** What every recipe has checked. */
export interface RecipeSettings extends Omit<z.output<typeof schema>, 'data' | 'tokenizer' | 'model'> {
  readonly model: string | FreshModel;
  readonly tokenizer: string | Tokenizer | null;
  /** The adapter that is trained in place of the model; null: the model itself is. */
  readonly lora: Lora | null;
  /** The frozen weights of linear layers in 4 bits, or null. */
  readonly quantization: Quantization | null;
}

export interface Quantization {
  readonly bits: 4;
  readonly type: 'nf4';
  readonly doubleQuant: boolean;
}

export type Config = Readonly<Record<string, unknown>>;

/** A checked recipe: made by `sft`, `classify` or `maskedLm`, carried out by the Trainer. */
export interface Recipe extends RecipeSettings {
  readonly kind: string;
  /** Whether heads that the model's folder lacks, or has for another task, start from the seed. */
  readonly hasFreshHead: boolean;
  /** config.json of what is trained, from that of the model. Reads the data where it depends on them. */
  configure(config: Config): Promise<Config>;
  /** Reads the records and tokenises them in tasks. */
  prepare(chosen: ChosenModel): Promise<PreparedData>;
}

export interface PreparedData {
  readonly records: number;
  /** Left out because they were malformed. */
  readonly skippedRecords: number;
  readonly feed: Feed;
  /** Tokenises what is held out, to be measured between two steps; null: nothing is. */
  readonly heldOut: (() => Promise<Feed>) | null;
  /** Figures of the model in a folder on the records held out, measured in tasks; null: none are. */
  readonly evaluate: ((folder: string, parts: number) => Promise<Scores>) | null;
}

/** Scores by name, e.g. `accuracy`. */
export type Scores = Readonly<Record<string, number>>;

/** What the engine calls the recipe's choice. */
export function recomputeOf({ gradientCheckpointing: choice }: RecipeSettings): Recompute {
  if (typeof choice === 'boolean') return choice ? 'full' : 'none';
  if (choice === 'cheap') return choice;
  return 'every' in choice ? choice : { budgetBytes: Math.floor(choice.budgetMiB * 2 ** 20) };
}

/** What the engine adds to the cross-entropy. */
export function lossOf({ labelSmoothing, zLoss }: RecipeSettings): LossOptions {
  return { labelSmoothing, zLoss };
}
