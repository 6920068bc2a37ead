// A model whose linear layers' weights are stored in 4 bits: the frozen base of QLoRA (arXiv:2305.14314), or a model to generate with.
import { type Nf4Settings, quantiseWeights } from '../engine/index.js';
import type { Model } from './model.js';

/** The same model and names; what is loaded is rounded. Where some weights are frozen, under an adapter, the others stay as they are. */
export function withNf4<M extends Model>(model: M, settings: Nf4Settings): M {
  const quantise: NonNullable<Model['quantise']> = (graph) => {
    const hasFrozen = [...graph.parameters.values()].some(({ isFrozen }) => isFrozen);
    return quantiseWeights(graph, settings, ({ isFrozen }) => isFrozen || !hasFrozen);
  };
  return { ...model, quantise };
}
