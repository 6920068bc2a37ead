// The block `pipeline` of a ds_config and the Trainer's `pipelineParallel` → how many stages there are and what each takes.
import { ConfigError } from '../common/index.js';
import { bubbleShare, isPartitionMethod, type PartitionMethod, type Recompute } from '../engine/index.js';
import type { DsConfig } from './ds-config-schema.js';

export interface ResolvedPipeline {
  readonly stages: number;
  /** Parts of the model on each stage. */
  readonly chunks: number;
  readonly partitionMethod: PartitionMethod;
  /** What the block asks to be computed again; null: nothing. */
  readonly recompute: Recompute | null;
}

/** `asked` are the Trainer's stages, null where it says nothing. Throws {@link ConfigError} where both say something else. */
export function resolvePipeline({ pipeline: block }: DsConfig, asked: number | null): ResolvedPipeline {
  const named = block?.stages === 'auto' ? null : (block?.stages ?? null);
  if (asked !== null && named !== null && asked !== named)
    throw new ConfigError('deepspeed.pipeline.stages', `scaling.pipelineParallel, ${asked}, or "auto"`, named);
  const stages = asked ?? named ?? 1;
  const chunks = block?.virtual_stages ?? 1;
  if (stages === 1 && chunks > 1)
    throw new ConfigError('deepspeed.pipeline.virtual_stages', '1 with a single stage', chunks);
  const [key, text] = block?.partition_method
    ? (['partition_method', block.partition_method] as const)
    : (['partition', block?.partition ?? 'best'] as const);
  const method = text === 'best' ? 'parameters' : text;
  if (!isPartitionMethod(method))
    throw new ConfigError(`deepspeed.pipeline.${key}`, 'parameters, uniform, cost or type:REGEX', text);
  if (method.startsWith('type:')) expectPattern(`deepspeed.pipeline.${key}`, method.slice('type:'.length));
  const every = block?.activation_checkpoint_interval ?? 0;
  return { stages, chunks, partitionMethod: method, recompute: every === 0 ? null : { every } };
}

/** What a user should know of a pipeline that works and wastes: stages that never work at the same time. */
export function pipelineNotes({ stages, chunks }: ResolvedPipeline, micros: number): readonly string[] {
  if (micros >= stages) return [];
  const percent = (count: number) => `${Math.round(100 * bubbleShare({ stages, chunks, micros: count }))} %`;
  return [
    `${micros} micro-batch${micros === 1 ? '' : 'es'} a step cannot fill ${stages} stages, which wait ${percent(micros)} of it: accumulating ${4 * stages} would make that ${percent(4 * stages)}`,
  ];
}

function expectPattern(path: string, pattern: string): void {
  try {
    new RegExp(pattern);
  } catch (cause) {
    throw new ConfigError(path, 'a regular expression behind type:', pattern, undefined, { cause });
  }
}
