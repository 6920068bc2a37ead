// From a model to the programs of one stage of a pipeline: of every part of the model that is the stage's, a forward and a backward
// over shared buffers, with as many sets of kept activations as the schedule has micro-batches on their way; and the update.
import { createHash } from 'node:crypto';
import { ConfigError } from '../../common/index.js';
import { DOWNSTREAM, UPSTREAM } from '../autodiff.js';
import { byteLength, elementCount, type Graph, parameterCount, type TensorId } from '../graph.js';
import type { Layout } from '../layout.js';
import { groupOf } from '../mesh.js';
import { cutParts, RECEIVED, SENT, sharedParameters } from '../passes/cut-parts.js';
import { offloader } from '../passes/offload.js';
import { forwardTensors, splitPhases } from '../passes/split-phases.js';
import { layoutFor, placeParameters, type TiedParameters, updateProgram } from '../passes/zero.js';
import { replay } from '../pipeline/messages.js';
import { partition } from '../pipeline/partition.js';
import { forwardTurnsOf, type Phase, type PipelineShape, setCount, type Turn, turnsOf } from '../pipeline/schedule.js';
import { Shelf } from '../plan/placement.js';
import { type Plan, plan } from '../plan/plan.js';
import type { Cut } from '../shard.js';
import { EVALUATION, evaluatedForward, undifferentiated } from './evaluation.js';
import { rankForward } from './rank-forward.js';
import { chooseRecompute } from './recompute-choice.js';
import type { TrainingSettings } from './settings.js';
import {
  type CompiledStep,
  commonOps,
  differentiated,
  FUSIONS,
  finished,
  type MemoryFigures,
  weigh,
} from './training.js';

/** A part of the model on this stage. */
export interface CompiledPart {
  readonly forward: Plan;
  /** Null where neither this part nor one before it trains anything. */
  readonly backward: Plan | null;
  /** The buffer that holds what forward and backward both touch, and how many there are of it. */
  readonly kept: string;
  readonly sets: number;
  /** Of the larger of both arenas, and all sets. */
  readonly arena: { readonly peakBytes: number };
}

/** What is told of a parameter to stages that do not have it. */
export interface Owner {
  readonly stage: number;
  readonly length: number;
  readonly cut: Cut | null;
}

/** What the stages of a pipeline do between a step's first turn and its last. */
export interface PipelineWork {
  readonly shape: PipelineShape;
  readonly stage: number;
  readonly parts: readonly CompiledPart[];
  readonly turns: readonly Turn[];
  /** Of what parts hand each other. */
  readonly messageBytes: number;
  /** Messages of each kind that this stage has room for, beside the one that it reads. */
  readonly inboxSlots: Readonly<Record<Phase, number>>;
}

/** What one stage of a pipeline runs in a step. */
export interface CompiledPipeline extends CompiledStep, PipelineWork {
  readonly kind: 'pipeline';
  /** First block of each part of the whole model. */
  readonly starts: readonly number[];
  /** Forwards alone, where that was asked for: what measures the model between two steps. */
  readonly evaluation: PipelineWork | null;
  /** The first stage that has a parameter, its elements, and how the tensor group cuts it. */
  readonly owners: ReadonlyMap<string, Owner>;
  readonly tied: TiedParameters;
}

/** Compiles the stage at `strategy.rank`. Pure: equal settings give equal plans, and `jobHash` is equal on all stages. */
export function compilePipeline(settings: TrainingSettings): CompiledPipeline {
  const { strategy, optimizer, recompute = 'none' } = settings;
  const { mesh, rank, zeroStage } = strategy;
  const { micros = 1, partitionMethod } = settings.pipeline ?? {};
  if (zeroStage > 1)
    throw new ConfigError(
      'zero_optimization.stage',
      '0 or 1 with a pipeline',
      zeroStage,
      'Stages 2 and 3 would exchange the gradients of a part once for each micro-batch that fills the pipeline; DeepSpeed refuses them too',
    );
  const shape = { stages: mesh.pipeline, chunks: mesh.chunks, micros };
  const stage = groupOf(mesh, rank, 'pipeline').index;
  const turns = turnsOf(shape, stage);
  const forward = rankForward(settings);
  const starts = partition(forward, shape.stages * shape.chunks, partitionMethod);
  const graphs = cutParts(forward, starts);
  const tied = tiedParameters(graphs, stage);
  const own = graphs.filter((_, part) => part % shape.stages === stage);
  const layout = layoutFor(joined(own), strategy, optimizer, settings);
  const firstTrained = graphs.findIndex(({ parameters }) => [...parameters.values()].some(({ isFrozen }) => !isFrozen));

  const words: string[] = [];
  const parts = own.map((graph, chunk) => {
    const part = chunk * shape.stages + stage;
    const ends = {
      made: part < graphs.length - 1 && part >= firstTrained ? graph.outputs.get(SENT)! : null,
      given: part > firstTrained ? graph.inputs.get(RECEIVED)! : null,
    };
    const both = part >= firstTrained ? differentiated(graph, FUSIONS, ends) : graph;
    const made = forwardTensors(both);
    const budget = typeof recompute === 'object' && 'budgetBytes' in recompute;
    const choice = budget ? { budgetBytes: recompute.budgetBytes / shape.chunks } : recompute;
    const outcome = chooseRecompute(both, choice, (whole) =>
      placePart(finished(whole), made, layout, { name: `${chunk}`, sets: setCount(turns, chunk) }),
    );
    words.push(outcome.description);
    return outcome.plan;
  });
  const { moved, moveOut } = offloader(layout, optimizer, settings.offload ?? {}, false);
  const { records, ...placedUpdate } = moveOut(updateProgram(layout, strategy, optimizer, tied));
  const update = plan(placedUpdate);
  const messageBytes = shape.stages === 1 ? 0 : byteLength(forward.tensors[forward.borders[0]!]!);
  const { waitingMax } = replay(shape, { forward: 1, backward: 2 });
  const jobHash = createHash('sha256')
    .update(
      JSON.stringify([commonOps(forward), forward.tensors, starts, optimizer, zeroStage, mesh, micros, recompute]),
    )
    .digest('hex');
  const work: PipelineWork = { shape, stage, parts, turns, messageBytes, inboxSlots: waitingMax };
  const evaluation = settings.hasEvaluation ? evaluationOf(work, settings, starts, layout) : null;
  return {
    kind: 'pipeline',
    ...work,
    starts,
    evaluation,
    owners: ownersOf(graphs, shape.stages),
    tied,
    layout,
    update,
    moved,
    records,
    recompute: words.length === 1 ? words[0]! : words.map((text, chunk) => `part ${chunk}: ${text}`).join('; '),
    memory: memoryOf(work, evaluation, update, records.bytes),
    parameterCount: parameterCount(forward),
    jobHash,
  };
}

/** The same stages and parts, forwards alone. */
function evaluationOf(
  work: PipelineWork,
  settings: TrainingSettings,
  starts: readonly number[],
  layout: Layout,
): PipelineWork {
  const { shape, stage } = work;
  const graphs = cutParts(evaluatedForward(settings), starts).filter((_, part) => part % shape.stages === stage);
  const parts = graphs.map((graph, chunk) => {
    const whole = undifferentiated(graph);
    return placePart(whole, forwardTensors(whole), layout, { name: `${EVALUATION}${chunk}`, sets: 1 });
  });
  // Nobody waits for a backward: a stage may be ahead of the next by all micro-batches that go round together.
  const inboxSlots = { forward: shape.stages, backward: 0 };
  return { ...work, parts, turns: forwardTurnsOf(shape), inboxSlots };
}

/** Places what one part's forward and backward touch; both find it in the same buffers, of which `name` is the end. */
function placePart(
  graph: Graph,
  made: ReadonlySet<TensorId>,
  layout: Layout,
  { name, sets }: { readonly name: string; readonly sets: number },
): CompiledPart {
  const { forward, backward, kept } = splitPhases(graph, made, graph.inputs.get(RECEIVED) ?? null);
  const shelf = new Shelf();
  const put = (buffer: string, id: TensorId) => {
    if (!shelf.places.has(id)) shelf.put(`${buffer}.${name}`, id, byteLength(graph.tensors[id]!));
  };
  for (const id of kept) put('kept', id);
  // Apart from what is viewed, of which a GPU's runs take all along to the host and back.
  const messages = new Set([RECEIVED, UPSTREAM, SENT, DOWNSTREAM]);
  for (const [input, id] of graph.inputs) put(messages.has(input) ? 'messages' : 'batch', id);
  for (const id of graph.constants.keys()) put('constants', id);
  for (const [output, id] of graph.outputs) put(messages.has(output) ? 'messages' : 'results', id);
  const forwardPlan = plan(placeParameters(forward, layout, shelf));
  const backwardPlan = backward.ops.length > 0 ? plan(placeParameters(backward, layout, shelf)) : null;
  const arenaBytes = Math.max(forwardPlan.arena.peakBytes, backwardPlan?.arena.peakBytes ?? 0);
  const keptBytes = shelf.buffers.get(`kept.${name}`) ?? 0;
  return {
    forward: forwardPlan,
    backward: backwardPlan,
    kept: `kept.${name}`,
    sets,
    arena: { peakBytes: arenaBytes + sets * keptBytes },
  };
}

/** One graph with the parameters of several parts: what a layout is made of. */
function joined(graphs: readonly Graph[]): Graph {
  return { ...graphs[0]!, parameters: new Map(graphs.flatMap(({ parameters }) => [...parameters])) };
}

function ownersOf(parts: readonly Graph[], stages: number): CompiledPipeline['owners'] {
  const owners = new Map<string, Owner>();
  for (const [part, { parameters }] of parts.entries())
    for (const { name, dims, cut = null } of parameters.values())
      if (!owners.has(name)) owners.set(name, { stage: part % stages, length: elementCount(dims), cut });
  return owners;
}

/** What the first and the last part both have. More than that no update could keep alike. */
function tiedParameters(parts: readonly Graph[], stage: number): TiedParameters {
  const first = parts[0]!;
  const last = parts.at(-1)!;
  const names = new Set<string>();
  for (const [name, { isFrozen }] of sharedParameters(parts)) {
    const has = parts.filter(({ parameters }) => parameters.has(name));
    if (has.length !== 2 || has[0] !== first || has[1] !== last)
      throw new ConfigError('pipeline', 'parameters of one part, or of the first and the last', name);
    if (!isFrozen) names.add(name);
  }
  return { names, isCounted: stage === 0 };
}

function memoryOf(work: PipelineWork, evaluation: PipelineWork | null, update: Plan, fileBytes: number): MemoryFigures {
  const { parts } = work;
  const plans = [work, evaluation].flatMap((each) => each?.parts ?? []).flatMap(plansOfPart);
  const figures = weigh([...plans, update], fileBytes);
  const bytesOf = (prefix: string) => {
    const sizes = new Map(plans.flatMap(({ buffers }) => buffers.map(({ name, bytes }) => [name, bytes] as const)));
    return [...sizes].reduce((sum, [name, bytes]) => sum + (name.startsWith(`${prefix}.`) ? bytes : 0), 0);
  };
  const perSet = parts.map(({ forward, kept }) => forward.buffers.find(({ name }) => name === kept)?.bytes ?? 0);
  const moreSets = parts.reduce((sum, { sets }, chunk) => sum + (sets - 1) * perSet[chunk]!, 0);
  const slots = slotBytes(work) + (evaluation ? slotBytes(evaluation) : 0);
  const handed = bytesOf('kept') + bytesOf('messages');
  return {
    ...figures,
    batchBytes: figures.batchBytes - handed,
    activationBytes: figures.activationBytes + handed + moreSets + slots,
    totalBytes: figures.totalBytes + moreSets + slots,
  };
}

/** The programs of a part. */
export function plansOfPart({ forward, backward }: CompiledPart): readonly Plan[] {
  return backward ? [forward, backward] : [forward];
}

/** Of all ways to and from the neighbours: what the inboxes hold, and a slot for each message on its way out. */
function slotBytes({ shape: { stages, chunks }, stage, inboxSlots, messageBytes }: PipelineWork): number {
  const isWrapped = chunks > 1;
  const hasBefore = isWrapped || stage > 0;
  const hasBehind = isWrapped || stage < stages - 1;
  return messageBytes * ((hasBefore ? inboxSlots.forward + 1 : 0) + (hasBehind ? inboxSlots.backward + 1 : 0));
}
