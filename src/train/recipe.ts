// What is trained on what: `sft` checks the user's choices once and gives the Trainer a plain description of them.
import { z } from 'zod';
import { ConfigError } from '../common/index.js';
import type { InstructionRecord, PlacedRecord, Tokenizer } from '../data/index.js';
import type { LossOptions, Recompute } from '../engine/index.js';
import { checkLora, type Lora, type LoraOptions } from './lora-options.js';
import { parse } from './parse.js';

/** A model trained from scratch; `vocabSize` is the tokenizer's unless given. */
export interface FreshModel {
  readonly kind: 'gpt2' | 'llama';
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
export type DataChoice =
  | string
  | { readonly path: string; readonly format?: 'alpaca'; readonly skipBad?: boolean; readonly limit?: number }
  | { readonly records: readonly PlacedRecord[] | readonly InstructionRecord[]; readonly skipBad?: boolean };

export interface SftOptions {
  /** A Hugging Face folder to start from, or the shape of a new model. */
  readonly model: string | FreshModel;
  /** A file, http(s) URL or hf:ID in Alpaca, prompt/completion or messages format, or records. */
  readonly data: DataChoice;
  /** A tokenizer or its folder. Default: the model's folder. */
  readonly tokenizer?: string | Tokenizer;
  /** Tokens of a packed row. Default 1024, as TRL's `max_length`. */
  readonly sequenceLength?: number;
  readonly template?: 'alpaca' | 'short';
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
   * `budgetMiB`: as little is computed again as makes activations, their gradients and workspaces of a worker fit. Default false.
   */
  readonly gradientCheckpointing?: boolean | { readonly every: number } | { readonly budgetMiB: number };
  /** Of each trained token, the share of the loss that is the mean over the whole vocabulary (arXiv:1512.00567). Default 0. */
  readonly labelSmoothing?: number;
  /** Weight of the square of the log of the softmax's denominator, added to each token's loss (arXiv:2204.02311). Default 0. */
  readonly zLoss?: number;
  /** Train a low-rank adapter (arXiv:2106.09685) and leave the model as it is. `{}` for the defaults. */
  readonly lora?: LoraOptions;
  /**
   * The frozen weights of linear layers in 4 bits (QLoRA, arXiv:2305.14314), with `lora` alone. `doubleQuant` (default true) stores
   * the scales in 8 bits.
   */
  readonly quantization?: { readonly bits: 4; readonly type?: 'nf4'; readonly doubleQuant?: boolean };
  /** Of everything random: first values, order of the data, masks of dropout. Default 42. */
  readonly seed?: number;
}

const count = z.int().min(1);

const schema = z.strictObject({
  model: z.union([
    z.string().min(1),
    z.strictObject({
      kind: z.enum(['gpt2', 'llama']),
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
  sequenceLength: z.int().min(2).default(1024),
  template: z.enum(['alpaca', 'short']).default('alpaca'),
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
    .union([z.boolean(), z.strictObject({ every: count }), z.strictObject({ budgetMiB: z.number().positive() })])
    .default(false),
  labelSmoothing: z.number().min(0).lt(1).default(0),
  zLoss: z.number().min(0).default(0),
  lora: z.unknown().optional(), // checked by its own schema
  quantization: z
    .strictObject({ bits: z.literal(4), type: z.literal('nf4').default('nf4'), doubleQuant: z.boolean().default(true) })
    .nullable()
    .default(null),
  seed: z.int().default(42),
});

/** A checked recipe; made by {@link sft}. */
export interface SftRecipe extends Omit<z.output<typeof schema>, 'data' | 'tokenizer' | 'model' | 'lora'> {
  readonly kind: 'sft';
  readonly model: string | FreshModel;
  readonly data: DataChoice;
  readonly tokenizer: string | Tokenizer | null;
  readonly lora: Lora | null;
}

/** Supervised fine-tuning: the loss is on the answers alone, each token counting the same over the whole step. */
export function sft(options: SftOptions): SftRecipe {
  const checked = parse(schema, options, 'sft', Object.keys(schema.shape));
  expectData(options.data);
  const lora = options.lora === undefined ? null : checkLora(options.lora);
  if (lora !== null && typeof options.model !== 'string')
    throw new ConfigError(
      'sft.lora',
      'a Hugging Face folder as model',
      options.model,
      'An adapter needs a trained model',
    );
  if (checked.quantization !== null && lora === null)
    throw new ConfigError('sft.quantization', 'lora beside it', 'none', 'Weights in 4 bits are not trained themselves');
  const { model, data, tokenizer = null } = options;
  return { ...checked, kind: 'sft', model, data, tokenizer, lora };
}

function expectData(data: unknown): void {
  if (typeof data === 'string') return;
  if (typeof data === 'object' && data !== null && ('path' in data || 'records' in data)) return;
  throw new ConfigError('sft.data', 'a file, an http(s) URL, hf:ID, { path } or { records }', data);
}

/** What the engine calls the recipe's choice. */
export function recomputeOf({ gradientCheckpointing: choice }: SftRecipe): Recompute {
  if (typeof choice === 'boolean') return choice ? 'full' : 'none';
  return 'every' in choice ? choice : { budgetBytes: Math.floor(choice.budgetMiB * 2 ** 20) };
}

/** What the engine adds to the cross-entropy. */
export function lossOf({ labelSmoothing, zLoss }: SftRecipe): LossOptions {
  return { labelSmoothing, zLoss };
}

/** config.json of a fresh model. */
export function configOf(
  model: FreshModel,
  facts: { readonly vocabSize: number; readonly sequenceLength: number; readonly tokenizer: Tokenizer },
): Readonly<Record<string, unknown>> {
  const positions = model.maxPositions ?? facts.sequenceLength;
  // GPT-2's 0.02 at its width of 768; narrower models start with larger weights, or attention hardly tells tokens apart.
  const initializer_range = Number((0.02 * Math.sqrt(768 / model.hidden)).toPrecision(3));
  const ids = {
    vocab_size: facts.vocabSize,
    bos_token_id: facts.tokenizer.bosId,
    eos_token_id: facts.tokenizer.eosId,
    pad_token_id: facts.tokenizer.padId,
  };
  return model.kind === 'gpt2'
    ? {
        model_type: 'gpt2',
        ...ids,
        n_layer: model.layers,
        n_embd: model.hidden,
        n_head: model.heads,
        n_inner: model.feedForward ?? 4 * model.hidden,
        n_positions: positions,
        activation_function: 'gelu_new',
        layer_norm_epsilon: 1e-5,
        resid_pdrop: 0,
        embd_pdrop: 0,
        attn_pdrop: 0,
        initializer_range,
      }
    : {
        model_type: 'llama',
        ...ids,
        num_hidden_layers: model.layers,
        hidden_size: model.hidden,
        num_attention_heads: model.heads,
        num_key_value_heads: model.kvHeads ?? model.heads,
        intermediate_size: model.feedForward ?? Math.ceil((8 * model.hidden) / 3 / 32) * 32,
        max_position_embeddings: positions,
        rms_norm_eps: 1e-5,
        rope_theta: 10000,
        hidden_act: 'silu',
        tie_word_embeddings: false,
        initializer_range,
      };
}
