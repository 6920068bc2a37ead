// From a model to what a rank runs in a step, whatever the strategy; and what the ranks of a job need, without a device.
import { rankAt } from '../mesh.js';
import { type CompiledPipeline, compilePipeline } from './pipeline.js';
import type { TrainingSettings } from './settings.js';
import { type CompiledTraining, compileTraining, type MemoryFigures } from './training.js';

/** The programs of the rank `settings.strategy.rank`. */
export function compileStep(settings: TrainingSettings): CompiledTraining | CompiledPipeline {
  return settings.strategy.mesh.pipeline > 1 ? compilePipeline(settings) : compileTraining(settings);
}

/** Of all stages of a pipeline the one that needs most memory, of other jobs the rank that is asked for. */
export function compileLargest(settings: TrainingSettings): CompiledTraining | CompiledPipeline {
  const { strategy } = settings;
  const { mesh } = strategy;
  const stages = Array.from({ length: mesh.pipeline }, (_, pipeline) =>
    mesh.pipeline === 1 ? strategy.rank : rankAt(mesh, { tensor: 0, sequence: 0, data: 0, pipeline }),
  );
  return stages
    .map((rank) => compileStep({ ...settings, strategy: { ...strategy, rank } }))
    .reduce((most, other) => (other.memory.totalBytes > most.memory.totalBytes ? other : most));
}

/** What a rank needs at most, from the very plans that would run. Needs no device. */
export function estimateTraining(settings: TrainingSettings): MemoryFigures {
  return compileLargest(settings).memory;
}
