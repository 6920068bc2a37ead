// Spellings of a ds_config that DeepSpeed still takes for others, rewritten before anything is checked. Pure.

type Config = Readonly<Record<string, unknown>>;

const isBlock = (value: unknown): value is Config =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** `config` in today's words. What is spelt both ways is left as it is: the schema refuses the old one by name. */
export function modernised(config: unknown): unknown {
  if (!isBlock(config)) return config;
  const renamed = rename(config, 'bfloat16', 'bf16');
  const zero = renamed.zero_optimization;
  return isBlock(zero) ? { ...renamed, zero_optimization: modernZero(zero) } : renamed;
}

function modernZero(block: Config): Config {
  const renamed = rename(
    block,
    'stage3_gather_fp16_weights_on_model_save',
    'stage3_gather_16bit_weights_on_model_save',
  );
  const { cpu_offload, cpu_offload_param, cpu_offload_params, cpu_offload_use_pin_memory, ...zero } = renamed;
  const pinned = cpu_offload_use_pin_memory === undefined ? {} : { pin_memory: cpu_offload_use_pin_memory };
  const onHost = { device: 'cpu', ...pinned };
  return {
    ...(cpu_offload === true ? { offload_optimizer: onHost } : {}),
    ...(cpu_offload_param === true || cpu_offload_params === true ? { offload_param: onHost } : {}),
    ...zero,
  };
}

function rename(block: Config, from: string, to: string): Config {
  if (!(from in block) || to in block) return block;
  const { [from]: value, ...others } = block;
  return { ...others, [to]: value };
}
