// From a model to the two programs of a training step, without a device: what `TrainStep` runs and `estimate` weighs.
import { createHash } from 'node:crypto';
import { differentiate, type Ends } from '../autodiff.js';
import { type Graph, type Op, parameterCount } from '../graph.js';
import type { Layout } from '../layout.js';
import { type FileContents, type MovedBuffer, ownFileBytes } from '../offload.js';
import { ruleOf } from '../ops/index.js';
import { STATE_BUFFERS } from '../optimizer.js';
import { accumulate } from '../passes/accumulate.js';
import { fuseGradientSums } from '../passes/fuse-gradient-sums.js';
import { fuseHeadLoss } from '../passes/fuse-head-loss.js';
import { fuseLinearActivation } from '../passes/fuse-linear-activation.js';
import { fuseResidualNorm } from '../passes/fuse-residual-norm.js';
import { SECONDARY } from '../passes/gather-bucket.js';
import { offloader } from '../passes/offload.js';
import { partVocabularyLoss } from '../passes/part-vocabulary-loss.js';
import { clearGradients, partitionGradients } from '../passes/partition-gradients.js';
import { partitionParameters } from '../passes/partition-parameters.js';
import { prune } from '../passes/prune.js';
import { streamGradients } from '../passes/stream-gradients.js';
import { dropFanOuts } from '../passes/tensor-parallel.js';
import {
  gradientHops,
  hasSlicedGradients,
  hasSlicedParameters,
  layoutFor,
  placeParameters,
  secondaryGroup,
  tuningOf,
  updateProgram,
  zeroGroup,
} from '../passes/zero.js';
import { type Plan, plan } from '../plan/plan.js';
import { compileEvaluation } from './evaluation.js';
import { rankForward, shelve } from './rank-forward.js';
import { chooseRecompute } from './recompute-choice.js';
import type { TrainingSettings } from './settings.js';

/** Bytes that a rank needs, by use. */
export interface MemoryFigures {
  readonly parameterBytes: number;
  readonly gradientBytes: number;
  /** States, and the f32 masters of 16-bit parameters. */
  readonly optimizerBytes: number;
  /** Activations, workspaces and everything else inside the arena of the programs. */
  readonly activationBytes: number;
  /** Token ids, labels, scalars, tables of constants. */
  readonly batchBytes: number;
  /** All of the above: what the device holds. */
  readonly totalBytes: number;
  /** What is offloaded to the memory of the host, and its staging. */
  readonly hostBytes: number;
  /** What is offloaded to files. */
  readonly diskBytes: number;
}

/** What the steps of any strategy are compiled to. */
export interface CompiledStep {
  readonly layout: Layout;
  readonly update: Plan;
  /** What has left the device, by buffer; and what lies where in the file of state and masters. */
  readonly moved: ReadonlyMap<string, MovedBuffer>;
  readonly records: FileContents;
  /** What the backward makes again, in words. */
  readonly recompute: string;
  readonly memory: MemoryFigures;
  readonly parameterCount: number;
  /** Equal on all ranks of one job: compare before the first collective. */
  readonly jobHash: string;
}

/** What a rank that has the whole model, or a slice of all of it, runs in a step. */
export interface CompiledTraining extends CompiledStep {
  readonly kind: 'whole';
  /** Runs before the first micro-batch of a step, where gradients are kept as slices of sums; else null. */
  readonly clear: Plan | null;
  readonly micro: Plan;
  /** The forward with its loss alone, where it was asked for. */
  readonly evaluation: Plan | null;
}

/** Passes that only make a program faster: any set of them gives the same numbers up to rounding. */
export const FUSIONS = ['residual-norm', 'linear-activation', 'head-loss', 'gradient-sums'] as const;
/** The name of such a pass. */
export type Fusion = (typeof FUSIONS)[number];

/** All passes of the micro-batch program, in order; `remember` is the one that decides what the backward makes again. */
export function trainingPasses(
  forward: Graph,
  fusions: readonly Fusion[] = FUSIONS,
  remember: (graph: Graph) => Graph = (graph) => graph,
): Graph {
  return finished(remember(differentiated(forward, fusions)));
}

/** Forward and backward. */
export function differentiated(forward: Graph, fusions: readonly Fusion[], ends?: Ends): Graph {
  const when = (fusion: Fusion, pass: (graph: Graph) => Graph) =>
    fusions.includes(fusion) ? pass : (graph: Graph) => graph;
  const passes = [
    when('residual-norm', fuseResidualNorm),
    when('linear-activation', fuseLinearActivation),
    (graph: Graph) => differentiate(graph, ends),
    dropFanOuts,
    when('head-loss', fuseHeadLoss),
    when('gradient-sums', fuseGradientSums),
  ];
  return passes.reduce((graph, pass) => pass(graph), forward);
}

/** Gradients of parameters add up where they lie; what nobody reads is gone. */
export function finished(graph: Graph): Graph {
  return partVocabularyLoss(prune(accumulate(graph)));
}

/** Compiles both programs of a rank that runs the whole model. Pure: equal settings give equal plans. */
export function compileTraining(settings: TrainingSettings): CompiledTraining {
  const { strategy, optimizer, recompute = 'none', offload = {} } = settings;
  const forward = rankForward(settings);
  const layout = layoutFor(forward, strategy, optimizer, settings);
  const isSliced = hasSlicedGradients(strategy);
  const tuning = tuningOf(strategy);
  const hops = tuning.quantizedGradients ? gradientHops(strategy) : null;
  const { moved, moveOut } = offloader(layout, optimizer, offload, strategy.zeroStage >= 2);
  const movedGradients = moved.get('gradients');
  const clear = isSliced ? plan(moveOut(clearGradients(layout))) : null;
  const { plan: micro, description } = chooseRecompute(differentiated(forward, FUSIONS), recompute, (graph) => {
    const last = finished(graph);
    const whole = placeParameters(last, layout, shelve(last));
    const reduced = isSliced
      ? partitionGradients(whole, layout, zeroGroup(strategy).index, tuning, hops)
      : movedGradients
        ? streamGradients(whole, layout, movedGradients, tuning)
        : whole;
    const isGathered = hasSlicedParameters(strategy);
    return plan(moveOut(isGathered ? partitionParameters(reduced, layout, tuning, secondaryGroup(strategy)) : reduced));
  });
  const { records, ...placedUpdate } = moveOut(updateProgram(layout, strategy, optimizer));
  const update = plan(placedUpdate);
  const evaluation = settings.hasEvaluation ? compileEvaluation(settings, layout, moveOut) : null;
  const { zeroStage, mesh } = strategy;
  const jobHash = createHash('sha256')
    // Not the plan's hash: where a slice lies differs from rank to rank.
    .update(JSON.stringify([commonOps(micro.graph), micro.graph.tensors, layout, optimizer, zeroStage, mesh]))
    .digest('hex');
  const memory = weigh(evaluation ? [micro, update, evaluation] : [micro, update], records.bytes + ownFileBytes(moved));
  return {
    kind: 'whole',
    layout,
    clear,
    micro,
    update,
    evaluation,
    moved,
    records,
    recompute: description,
    memory,
    parameterCount: parameterCount(forward),
    jobHash,
  };
}

/** The ops of a graph without what differs from rank to rank. */
export function commonOps({ ops }: Graph): readonly Op[] {
  return ops.map((op) => {
    const { perRank = [] } = ruleOf(op.kind);
    if (!perRank.some((name) => name in op.attributes)) return op;
    const attributes = Object.entries(op.attributes).filter(([name]) => !perRank.includes(name));
    return { ...op, attributes: Object.fromEntries(attributes) };
  });
}

/** Bytes of the buffers of `plans`, which share them by name, and those of files. */
export function weigh(plans: readonly Plan[], diskBytes = 0): MemoryFigures {
  const sizes = new Map<string, number>();
  const onHost = new Map<string, number>();
  for (const { buffers } of plans) {
    for (const { name, bytes, isOnHost } of buffers) {
      const space = isOnHost ? onHost : sizes;
      space.set(name, Math.max(space.get(name) ?? 0, bytes));
    }
  }
  const hostBytes = [...onHost.values()].reduce((sum, bytes) => sum + bytes, 0);
  const take = (name: string) => {
    const bytes = sizes.get(name) ?? 0;
    sizes.delete(name);
    return bytes;
  };
  const parameterBytes = take('parameters') + take(SECONDARY);
  const gradientBytes = take('gradients');
  const optimizerBytes = ['master', ...STATE_BUFFERS].reduce((sum, name) => sum + take(name), 0);
  const activationBytes = take('arena');
  let batchBytes = 0;
  for (const bytes of sizes.values()) batchBytes += bytes;
  const totalBytes = parameterBytes + gradientBytes + optimizerBytes + activationBytes + batchBytes;
  const used = { parameterBytes, gradientBytes, optimizerBytes, activationBytes, batchBytes };
  return { ...used, totalBytes, hostBytes, diskBytes };
}
