// `offload_optimizer`, `offload_param` and `aio` of a ds_config: DeepSpeed's names → what leaves the device, and how it travels.
import { join } from 'node:path';
import { ConfigError } from '../common/index.js';
import type { FileSettings, Offload, OptimizerOffload } from '../engine/index.js';
import type { DsConfig } from './ds-config-schema.js';

type ZeroBlock = Exclude<DsConfig['zero_optimization'], boolean>;
type OffloadBlock = NonNullable<ZeroBlock['offload_optimizer']>;

/** Throws {@link ConfigError} for keys that contradict each other. */
export function resolveOffload(config: DsConfig): Offload {
  const zero = config.zero_optimization;
  if (typeof zero === 'boolean') return {};
  const path = 'deepspeed.zero_optimization';
  const parameters = zero.offload_param?.device ?? 'none';
  if (parameters !== 'none' && zero.stage !== 3)
    throw new ConfigError(
      `${path}.stage`,
      '3 with offload_param',
      zero.stage,
      'Only stage 3 gathers parameters for each use',
    );
  if (parameters === 'nvme')
    throw new ConfigError(
      `${path}.offload_param.device`,
      '"none" or "cpu"',
      parameters,
      'Parameters are not read from disk; offload_optimizer can be "nvme" beside',
    );
  const optimizer = zero.offload_optimizer;
  if (!optimizer || optimizer.device === 'none') return {};
  if (zero.stage === 0)
    throw new ConfigError(
      `${path}.stage`,
      '1, 2 or 3 with offload_optimizer',
      0,
      'Set stage, or offload_optimizer.device to "none"',
    );
  return { optimizer: optimizerOffload(optimizer, optimizer.device, zero, config) };
}

function optimizerOffload(
  block: OffloadBlock,
  device: 'cpu' | 'nvme',
  { sub_group_size: group }: ZeroBlock,
  config: DsConfig,
): OptimizerOffload {
  const { ratio } = block;
  const tile = typeof group === 'number' ? { tileElements: Math.max(1, Math.floor(group)) } : {};
  if (device === 'cpu') {
    // What only a file has would be ignored silently.
    if (block.nvme_path !== undefined)
      throw new ConfigError(
        'deepspeed.zero_optimization.offload_optimizer.nvme_path',
        'a path together with device "nvme"',
        block.nvme_path,
        'Set device to "nvme", or leave nvme_path out',
      );
    return { device, ratio, ...tile };
  }
  if (block.nvme_path === undefined)
    throw new ConfigError(
      'deepspeed.zero_optimization.offload_optimizer.nvme_path',
      'a folder on a local disk, which every worker finds under this path',
      undefined,
      'Or set device to "cpu"',
    );
  const slots = 1 + Number(block.pipeline_read) + Number(block.pipeline_write);
  const poolElements = block.buffer_count * block.buffer_size;
  // A pool that is asked for is used: pieces are as large as it allows.
  const pieces = 'tileElements' in tile ? tile : { tileElements: block.buffer_size };
  return { device, ratio, ...pieces, slots, poolElements, file: fileSettings(block.nvme_path, config) };
}

function fileSettings(folder: string, { aio }: DsConfig): FileSettings {
  return {
    folder: join(folder, 'raylite-offload'),
    blockBytes: aio.block_size,
    queueDepth: aio.queue_depth,
    threads: aio.thread_count ?? aio.intra_op_parallelism,
    singleSubmit: aio.single_submit,
    overlapEvents: aio.overlap_events,
  };
}
