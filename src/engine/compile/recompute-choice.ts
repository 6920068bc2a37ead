// How much of the forward is kept for the backward: as asked for, or as little recomputation as fits a budget of bytes.
import { ConfigError } from '../../common/index.js';
import type { Graph, TensorId } from '../graph.js';
import { byteLength, showBytes } from '../graph.js';
import { type Keeps, keepBlocks, recompute } from '../passes/recompute.js';
import { type Candidate, candidates } from '../passes/recompute-candidates.js';

/** Operations per byte below which making a tensor again costs about what reading it costs: norms, activations, products of gates. */
const CHEAP_PRICE = 32;

/**
 * `none` keeps every activation; `cheap` all but what passes over memory alone make again; `full` keeps the tensors between blocks alone and makes the others again in the backward;
 * `every` n keeps each n-th of those; `budgetBytes` drops what costs least to make again until the arena (activations,
 * gradients of activations, workspaces) fits.
 */
export type Recompute = 'none' | 'cheap' | 'full' | { readonly every: number } | { readonly budgetBytes: number };

/** What a choice is judged by. */
export interface Weighed {
  readonly arena: { readonly peakBytes: number };
}

/** What became of a choice. */
export interface RecomputeOutcome<Made extends Weighed> {
  /** `keeps everything`, `keeps every 2nd block`, `makes 12 tensors (3.4 MB) again`. */
  readonly description: string;
  readonly plan: Made;
}

/** `finish` makes the plan of a graph of forward and backward. */
export function chooseRecompute<Made extends Weighed>(
  graph: Graph,
  choice: Recompute,
  finish: (graph: Graph) => Made,
): RecomputeOutcome<Made> {
  if (choice === 'none') return { description: 'keeps everything', plan: finish(graph) };
  if (choice === 'cheap') {
    const cheap = candidates(graph).filter(({ price, bytes }) => price <= CHEAP_PRICE * bytes);
    return cheap.length === 0 ? chooseRecompute(graph, 'none', finish) : drop(graph, cheap, finish);
  }
  if (choice === 'full') return keepEvery(graph, 1, finish);
  if ('every' in choice) return keepEvery(graph, choice.every, finish);
  return fit(graph, choice.budgetBytes, finish);
}

function keepEvery<Made extends Weighed>(
  graph: Graph,
  every: number,
  finish: (graph: Graph) => Made,
): RecomputeOutcome<Made> {
  const what = every === 1 ? 'each block' : `every ${every} blocks`;
  return { description: `keeps the input of ${what}`, plan: finish(recompute(graph, keepBlocks(graph, every))) };
}

/** The shortest list of bargains that fits; beyond all of them, fewer and fewer tensors between blocks. */
function fit<Made extends Weighed>(
  graph: Graph,
  budgetBytes: number,
  finish: (graph: Graph) => Made,
): RecomputeOutcome<Made> {
  if (!(budgetBytes > 0)) throw new ConfigError('recompute.budgetBytes', 'a positive number of bytes', budgetBytes);
  const fits = ({ plan }: RecomputeOutcome<Made>) => plan.arena.peakBytes <= budgetBytes;
  let nearest: RecomputeOutcome<Made> | null = null;
  const tried = (outcome: RecomputeOutcome<Made>): RecomputeOutcome<Made> => {
    if (!nearest || outcome.plan.arena.peakBytes < nearest.plan.arena.peakBytes) nearest = outcome;
    return outcome;
  };
  const none = tried(chooseRecompute(graph, 'none', finish));
  if (fits(none)) return none;

  const list = candidates(graph);
  let best = tried(drop(graph, list, finish));
  if (fits(best)) {
    let tooFew = 0;
    for (let enough = list.length; enough - tooFew > 1; ) {
      const count = Math.floor((tooFew + enough) / 2);
      const outcome = drop(graph, list.slice(0, count), finish);
      if (fits(outcome)) [best, enough] = [outcome, count];
      else tooFew = count;
    }
    return best;
  }
  for (let every = 2; every < graph.borders.length; every++) {
    const outcome = tried(keepEvery(graph, every, finish));
    if (fits(outcome)) return outcome;
  }
  const { description, plan } = nearest!;
  throw new ConfigError(
    'recompute.budgetBytes',
    `at least ${plan.arena.peakBytes} bytes (${showBytes(plan.arena.peakBytes)}), what a micro-batch needs that ${description}`,
    budgetBytes,
    'Give more, or make the micro-batch smaller',
  );
}

/** Keeps what the backward reads but the tensors of `dropped`. What it does not read is not kept by anyone. */
function drop<Made extends Weighed>(
  graph: Graph,
  dropped: readonly Candidate[],
  finish: (graph: Graph) => Made,
): RecomputeOutcome<Made> {
  const isDropped = new Set<TensorId>(dropped.flatMap(({ ids }) => ids));
  const isKept = new Set<TensorId>([...candidates(graph).flatMap(({ ids }) => ids), ...graph.borders]);
  const keeps: Keeps = (id) => isKept.has(id) && !isDropped.has(id);
  const bytes = [...isDropped].reduce((sum, id) => sum + byteLength(graph.tensors[id]!), 0);
  return {
    description: `makes ${isDropped.size} tensors (${showBytes(bytes)}) again`,
    plan: finish(recompute(graph, keeps)),
  };
}
