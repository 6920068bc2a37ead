// A model whose linear layers' weights are stored in 4 bits: the frozen base of QLoRA (arXiv:2305.14314), or a model to generate with.
import { type Nf4Settings, quantiseWeights } from '../engine/index.js';
import { isAdapted } from './adapter.js';
import type { Model } from './model.js';

/** The same model and names; what is loaded is rounded. Under an adapter its own weights stay as they are. */
export function withNf4<M extends Model>(model: M, settings: Nf4Settings): M {
  const adapt: NonNullable<Model['adapt']> = (graph, isTraining) => {
    const before = model.adapt ? model.adapt(graph, isTraining) : graph;
    return quantiseWeights(before, settings, ({ isFrozen }) => isFrozen || !isAdapted(model));
  };
  return { ...model, adapt };
}
