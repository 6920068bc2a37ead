// What DeepSpeed does and raylite does not: blocks that may stand in a ds_config while they are not enabled, and values that ask for what
// cannot be had. Each with the reason and what to do instead.
import { z } from 'zod';
import { ConfigError, valueAt } from '../common/index.js';

/** Blocks with a switch `enabled`, and why it must be off. */
const BLOCKS = {
  wandb: 'It needs the SDK of its service; csv_monitor and tensorboard write files here',
  comet: 'It needs the SDK of its service; csv_monitor and tensorboard write files here',
  amp: 'NVIDIA Apex is not there; use bf16.enabled or fp16.enabled',
  torch_autocast: 'Types are chosen for the whole model, not op by op; use bf16.enabled or fp16.enabled',
  curriculum_learning: 'Records are taken in shuffled order at one sequence length; sort or filter them before the run',
  data_efficiency:
    'Records are taken in shuffled order and every layer sees every token; sort or filter records before the run',
  progressive_layer_drop:
    "Every step goes through every layer; the recipe's dropout is what there is against overfitting",
  autotuning:
    'Sizes are worked out before a run: `raylite estimate` tells the memory of each worker, memoryMiBPerWorker fits a run to it',
  eigenvalue: 'It guides the quantization of MoQ, which is not there',
  quantize_training:
    'MoQ is not there; the recipe\'s quantization ({ bits: 4, type: "nf4" }) beside lora trains on 4-bit weights',
  expert_parallel: 'Models with experts are not there',
  nebula: 'The service of Azure is not there; checkpoints are written to run.storage while the run goes on',
};

/** Blocks that ask by being there, some of them deep inside, and why not. */
const PRESENT: readonly (readonly [key: string, isAsked: (block: object) => boolean, why: string])[] = [
  [
    'sparse_attention',
    (block) => !('mode' in block) || block.mode !== 'dense',
    'Attention is dense, in blocks that need no memory for the scores; mode "dense" is what it does',
  ],
  [
    'compression_training',
    isEnabledInside,
    'Models are not pruned or distilled; the recipe\'s quantization ({ bits: 4, type: "nf4" }) beside lora trains on 4-bit weights',
  ],
  [
    'weight_quantization',
    (block) => Object.values(block).some((value) => typeof value === 'object' && value !== null),
    'Weights are quantized by the recipe: quantization { bits: 4, type: "nf4" } beside lora',
  ],
  [
    'datastates_ckpt',
    () => true,
    'Checkpoints are written by the ranks side by side, without its engine; leave the block out',
  ],
];

/** Values by path that would change what comes out or where it goes, and why not. */
const VALUES: readonly (readonly [path: string, only: unknown, why: string])[] = [
  [
    'gradient_allreduce_op',
    'mean',
    'The loss is the mean over the trained tokens of a step; a larger learning rate is what a sum would be',
  ],
  [
    'checkpoint.use_node_local_storage',
    false,
    'Any worker must be able to go on from a checkpoint; run.storage is a folder that all nodes see',
  ],
  ['checkpoint.writer', null, 'Ranks write their own slices side by side already; leave it out'],
  ['optimizer.params.amsgrad', false, 'The largest of past averages is not kept; leave it out'],
  ['aio.use_gds', false, 'GPUDirect Storage is not there; files go through the memory of the host'],
  ['pipeline.seed_layers', false, 'First values go by name: they are the same for any number of stages'],
  [
    'bf16.check_grad_overflow',
    true,
    'Steps whose gradients are not finite change nothing; this cannot be switched off',
  ],
  [
    'fp16.fp16_master_weights_and_grads',
    false,
    'Masters of float16 stay float32; bf16.bf16_master_weights_and_grads does without any',
  ],
];

const OPTIMIZERS: Readonly<Record<string, string>> = {
  onebitadam:
    '1-bit optimizers compress what workers exchange; AdamW with zero_quantized_gradients at stage 2 or 3 sends a quarter of the bytes',
  zerooneadam:
    '1-bit optimizers compress what workers exchange; AdamW with zero_quantized_gradients at stage 2 or 3 sends a quarter of the bytes',
  onebitlamb:
    '1-bit optimizers compress what workers exchange; AdamW with zero_quantized_gradients at stage 2 or 3 sends a quarter of the bytes',
  lamb: 'Its trust ratio of each layer is not there; AdamW or Muon',
  muadam: 'The shapes that muP scales by are not known; AdamW, with the rate scaled by hand',
  muadamw: 'The shapes that muP scales by are not known; AdamW, with the rate scaled by hand',
  musgd: 'The shapes that muP scales by are not known; SGD, with the rate scaled by hand',
};

const block = z.looseObject({}).optional();
const switched = z.looseObject({ enabled: z.boolean().optional() }).optional();

/** For the schema of a ds_config: what is in these blocks is not read. */
export const REFUSED_FIELDS = {
  ...(Object.fromEntries(Object.keys(BLOCKS).map((key) => [key, switched])) as Record<
    keyof typeof BLOCKS,
    typeof switched
  >),
  sparse_attention: block,
  compression_training: block,
  weight_quantization: block,
  datastates_ckpt: block,
};

/** Throws {@link ConfigError} for what is asked for and not there. */
export function refuseAbsent(config: object): void {
  const values = config as Readonly<Record<string, unknown>>;
  for (const [key, why] of Object.entries(BLOCKS))
    if (valueAt(config, `${key}.enabled`) === true)
      throw new ConfigError(`deepspeed.${key}.enabled`, 'false', true, why);
  for (const [key, isAsked, why] of PRESENT) {
    const given = values[key];
    if (typeof given === 'object' && given !== null && isAsked(given))
      throw new ConfigError(`deepspeed.${key}`, 'not to be asked for', given, why);
  }
  for (const [path, only, why] of VALUES) {
    const given = valueAt(config, path);
    if (given !== undefined && given !== null && given !== only)
      throw new ConfigError(`deepspeed.${path}`, JSON.stringify(only), given, why);
  }
}

/** Throws {@link ConfigError} for the name of an optimizer that DeepSpeed has and raylite has not. */
export function refuseOptimizer(type: string, known: readonly string[]): void {
  const why = OPTIMIZERS[type.toLowerCase()];
  if (why !== undefined)
    throw new ConfigError(
      'deepspeed.optimizer.type',
      `one of ${known.map((name) => `"${name}"`).join(', ')}`,
      type,
      why,
    );
}

function isEnabledInside(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return Object.entries(value).some(([key, inner]) => (key === 'enabled' && inner === true) || isEnabledInside(inner));
}
