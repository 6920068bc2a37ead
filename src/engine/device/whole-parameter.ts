// A parameter whole, whatever ranks have of it: slices of stage 3, parts of a tensor group, stages of a pipeline. All ranks of the
// groups that share it must ask for the same ones in the same order.
import { ConfigError } from '../../common/index.js';
import type { CompiledPipeline, Owner } from '../compile/pipeline.js';
import type { CompiledTraining } from '../compile/training.js';
import { elementCount } from '../graph.js';
import { type Cut, putShard } from '../shard.js';
import type { Communicators } from './communicators.js';
import type { GatheredBuckets } from './gathered-buckets.js';
import type { ParameterStore } from './parameter-store.js';

export interface ParameterHolders {
  readonly compiled: CompiledTraining | CompiledPipeline;
  readonly parameters: ParameterStore;
  readonly gathered: GatheredBuckets;
  readonly communicators: Communicators;
}

/** A copy of the parameter. Rejects with ConfigError where the model has none of that name. */
export async function wholeParameter(name: string, holders: ParameterHolders): Promise<Float32Array> {
  const { compiled, parameters, gathered, communicators } = holders;
  if (compiled.kind === 'pipeline') {
    const owner = compiled.owners.get(name);
    if (!owner) throw new ConfigError(name, 'the name of a parameter of the model', name);
    return united(await ofStage(name, owner, holders), owner.cut, communicators);
  }
  const part = parameters.partOf(name);
  const held = part?.isAll ? parameters.read(name) : await gathered.read(name);
  return united(held, parameters.cutOf(name), communicators);
}

/** A parameter that the stages of a pipeline hand each other. */
async function ofStage(
  name: string,
  { stage, length }: Owner,
  { parameters, communicators: { pipeline } }: ParameterHolders,
): Promise<Float32Array> {
  const values = pipeline!.rank === stage ? parameters.read(name) : new Float32Array(length);
  await pipeline!.broadcast(values, stage);
  return values;
}

/** A parameter of which the ranks of the tensor group hold parts. */
async function united(held: Float32Array, cut: Cut | null, { tensor }: Communicators): Promise<Float32Array> {
  if (!cut || cut.parts === 1 || !tensor) return held;
  const parts = new Float32Array(cut.ranks * held.length);
  parts.set(held, tensor.rank * held.length);
  await tensor.allGather(parts);
  const whole = new Float32Array(elementCount(cut.dims));
  for (let rank = 0; rank < cut.ranks; rank++)
    putShard(whole, parts.subarray(rank * held.length, (rank + 1) * held.length), cut, rank);
  return whole;
}
