// `offload_optimizer`, `offload_param` and `aio` of a ds_config: DeepSpeed's names → what leaves the device, and how it travels.
import { join } from 'node:path';
import { ConfigError } from '../common/index.js';
import {
  type FileSettings,
  type Offload,
  type OptimizerOffload,
  PARAMETERS_ON_HOST,
  type ParameterOffload,
} from '../engine/index.js';
import type { DsConfig } from './ds-config-schema.js';

type ZeroBlock = Exclude<DsConfig['zero_optimization'], boolean>;
type OffloadBlock = NonNullable<ZeroBlock['offload_optimizer']>;

const ZERO = 'deepspeed.zero_optimization';

/** Where slices of parameters live; null: on the device. Throws {@link ConfigError} for keys that contradict each other. */
export function resolveParameterOffload(config: DsConfig): ParameterOffload | null {
  const zero = config.zero_optimization;
  const block = typeof zero === 'boolean' ? undefined : zero.offload_param;
  if (typeof zero === 'boolean' || !block || block.device === 'none') return null;
  if (zero.stage !== 3)
    throw new ConfigError(
      `${ZERO}.stage`,
      '3 with offload_param',
      zero.stage,
      'Only stage 3 gathers parameters for each use',
    );
  const folder = folderOf(block, `${ZERO}.offload_param`);
  if (folder === null) return PARAMETERS_ON_HOST;
  return {
    hostElementsMax: block.max_in_cpu,
    buffers: block.buffer_count,
    bufferElements: block.buffer_size,
    file: fileSettings(folder, config),
  };
}

/** The folder of an offload to a file; null for one to the memory of the host, which has none. */
function folderOf({ device, nvme_path: folder }: Pick<OffloadBlock, 'device' | 'nvme_path'>, path: string) {
  if (device === 'nvme' && folder === undefined)
    throw new ConfigError(
      `${path}.nvme_path`,
      'a folder on a local disk, which every worker finds under this path',
      undefined,
      'Or set device to "cpu"',
    );
  // What only a file has would be ignored silently.
  if (device !== 'nvme' && folder !== undefined)
    throw new ConfigError(
      `${path}.nvme_path`,
      'a path together with device "nvme"',
      folder,
      'Set device to "nvme", or leave nvme_path out',
    );
  return folder ?? null;
}

/** Throws {@link ConfigError} for keys that contradict each other. */
export function resolveOffload(config: DsConfig): Offload {
  const zero = config.zero_optimization;
  if (typeof zero === 'boolean') return {};
  const optimizer = zero.offload_optimizer;
  if (!optimizer || optimizer.device === 'none') return {};
  if (zero.stage === 0)
    throw new ConfigError(
      `${ZERO}.stage`,
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
  const folder = folderOf(block, `${ZERO}.offload_optimizer`);
  if (folder === null) return { device, ratio, ...tile };
  const slots = 1 + Number(block.pipeline_read) + Number(block.pipeline_write);
  const poolElements = block.buffer_count * block.buffer_size;
  // A pool that is asked for is used: pieces are as large as it allows.
  const pieces = 'tileElements' in tile ? tile : { tileElements: block.buffer_size };
  return { device, ratio, ...pieces, slots, poolElements, file: fileSettings(folder, config) };
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
