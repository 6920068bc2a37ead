// The Trainer's `scaling` and the blocks of a ds_config that say how workers share a model → the mesh of its ranks.
import { ConfigError } from '../common/index.js';
import { type Mesh, meshOver } from '../engine/index.js';
import type { DsConfig } from './ds-config-schema.js';
import { generationSizeOf } from './ds-hybrid.js';
import type { ResolvedPipeline } from './ds-pipeline.js';
import { zeroInnerOf } from './ds-zero.js';

interface Scaling {
  readonly workers: number;
  readonly tensorParallel?: number | undefined;
  readonly sequenceParallel?: number | undefined;
  readonly sequenceParallelNorms?: boolean;
}

/** What tensor, sequence and pipeline parallelism leave of the workers is data parallel. Throws {@link ConfigError} where they do not divide. */
export function resolveMesh(scaling: Scaling, config: DsConfig, { stages, chunks }: ResolvedPipeline): Mesh {
  const { workers } = scaling;
  const { tensor_parallel: block, sequence_parallel_size: rows } = config;
  // DeepSpeed's 0 is no tensor parallelism.
  const named = block?.autotp_size === 0 ? 1 : block?.autotp_size;
  const tensor = agreed('tensorParallel', scaling.tensorParallel, 'tensor_parallel.autotp_size', named);
  const sequence = agreed('sequenceParallel', scaling.sequenceParallel, 'sequence_parallel_size', rows);
  if (scaling.sequenceParallelNorms && tensor === 1)
    throw new ConfigError(
      'trainer.scaling.sequenceParallelNorms',
      'false without tensorParallel',
      true,
      'It shares what lies between matrices that several workers share',
    );
  const model = tensor * sequence * stages;
  if (workers % model !== 0) {
    const below = workers - (workers % model);
    const expected = `a multiple of tensorParallel × sequenceParallel × pipelineParallel = ${tensor} × ${sequence} × ${stages} = ${model}`;
    const nearest = `Take ${below > 0 ? `${below} or ` : ''}${below + model}`;
    throw new ConfigError('trainer.scaling.workers', expected, workers, nearest);
  }
  const axes = { tensor, sequence, pipeline: stages, chunks };
  const { data } = meshOver(workers, axes);
  const generation = generationSizeOf(config, workers);
  return meshOver(workers, { ...axes, zeroInner: zeroInnerOf(config, data * sequence), generation });
}

function agreed(key: string, asked: number | undefined, dsKey: string, named: number | undefined): number {
  if (asked !== undefined && named !== undefined && asked !== named)
    throw new ConfigError(`deepspeed.${dsKey}`, `scaling.${key}, ${asked}, or nothing`, named);
  return asked ?? named ?? 1;
}
