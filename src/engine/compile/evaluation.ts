// From a model to the forward with its loss alone, over the very parameters that are trained and shared out as they are: what measures a
// model between two steps. Nothing is dropped, nothing is kept for a backward.
import type { Graph } from '../graph.js';
import type { Layout } from '../layout.js';
import { fuseLinearActivation } from '../passes/fuse-linear-activation.js';
import { fuseResidualNorm } from '../passes/fuse-residual-norm.js';
import { partVocabularyLoss } from '../passes/part-vocabulary-loss.js';
import { partitionParameters } from '../passes/partition-parameters.js';
import { prune } from '../passes/prune.js';
import { dropFanOuts } from '../passes/tensor-parallel.js';
import { hasSlicedParameters, placeParameters, tuningOf } from '../passes/zero.js';
import type { PlacedGraph } from '../plan/placement.js';
import { type Plan, plan } from '../plan/plan.js';
import { rankForward, shelve } from './rank-forward.js';
import type { TrainingSettings } from './settings.js';

/** Of the buffers that an evaluation has for itself; parameters and the arena are those of training. */
export const EVALUATION = 'evaluation.';

/** What a rank does of the forward where nothing is dropped. */
export function evaluatedForward(settings: TrainingSettings): Graph {
  return rankForward({ ...settings, dropout: null });
}

/** `forward`, or a part of it, as it runs where no backward follows. */
export function undifferentiated(forward: Graph): Graph {
  return partVocabularyLoss(prune(dropFanOuts(fuseLinearActivation(fuseResidualNorm(forward)))));
}

/**
 * Losses of a micro-batch on a rank that runs the whole model; `moveOut` brings what is offloaded to the device. At ZeRO stage 3 blocks are
 * gathered as in training: all ranks must run it.
 */
export function compileEvaluation(
  settings: TrainingSettings,
  layout: Layout,
  moveOut: (graph: PlacedGraph) => PlacedGraph,
): Plan {
  const { strategy } = settings;
  const graph = undifferentiated(evaluatedForward(settings));
  const placed = placeParameters(graph, layout, shelve(graph, { prefix: EVALUATION }));
  return plan(
    moveOut(hasSlicedParameters(strategy) ? partitionParameters(placed, layout, tuningOf(strategy)) : placed),
  );
}
