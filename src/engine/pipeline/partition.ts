// Which blocks of a model go to which part of a pipeline: runs of neighbours, so that the heaviest is as light as can be.
import { ConfigError } from '../../common/index.js';
import { placed } from '../autodiff.js';
import { elementCount, type Graph, type Op, producers } from '../graph.js';
import { defaultCost, ruleOf } from '../ops/index.js';

/**
 * What a block weighs: its `parameters`; nothing but its number (`uniform`); the arithmetic of its forward (`cost`); or how many
 * of its layers have a model path that matches (`type:REGEX`, whatever the case). The first three names of DeepSpeed, and `cost`.
 */
export type PartitionMethod = 'parameters' | 'uniform' | 'cost' | `type:${string}`;

/** Whether `text` names a way to share blocks out between stages. */
export function isPartitionMethod(text: string): text is PartitionMethod {
  return ['parameters', 'uniform', 'cost'].includes(text) || text.startsWith('type:');
}

/**
 * First block of each of `parts` parts. Embeddings count to the first block, final norm and head to the last. Throws ConfigError
 * where there are more parts than blocks, or where nothing weighs anything.
 */
export function partition(forward: Graph, parts: number, method: PartitionMethod = 'parameters'): readonly number[] {
  const weights = blockWeights(forward, method);
  if (parts > weights.length)
    throw new ConfigError(
      'pipeline',
      `at most ${weights.length} parts (stages × chunks), the blocks of the model`,
      parts,
    );
  if (weights.every((weight) => weight === 0))
    throw new ConfigError('pipeline.partition_method', 'a pattern that matches the path of some layer', method);
  return balance(weights, parts);
}

/** Starts of `parts` runs, none empty, of which the heaviest is lightest; among equals the one whose first runs are longest. */
export function balance(weights: readonly number[], parts: number): readonly number[] {
  const sums = [0];
  for (const weight of weights) sums.push(sums.at(-1)! + weight);
  const between = (from: number, to: number) => sums[to]! - sums[from]!;
  const count = weights.length;
  // least[k][i]: the heaviest of k runs over the weights from i on, at its lightest.
  const least = [sums.map((_, i) => (i === count ? 0 : Number.POSITIVE_INFINITY))];
  for (let runs = 1; runs <= parts; runs++) {
    least.push(
      sums.map((_, from) => {
        let best = Number.POSITIVE_INFINITY;
        for (let to = from + 1; to <= count; to++)
          best = Math.min(best, Math.max(between(from, to), least[runs - 1]![to]!));
        return best;
      }),
    );
  }
  const limit = least[parts]![0]!;
  const starts = [0];
  for (let left = parts - 1; left > 0; left--) {
    const from = starts.at(-1)!;
    let to = count - left;
    while (between(from, to) > limit || least[left]![to]! > limit) to--;
    starts.push(to);
  }
  return starts;
}

function blockWeights(forward: Graph, method: PartitionMethod): readonly number[] {
  const count = blockCount(forward);
  if (method === 'uniform') return new Array<number>(count).fill(1);
  const weights = new Array<number>(count).fill(0);
  const seen = new Set<unknown>();
  const once = (what: unknown) => !seen.has(what) && seen.add(what);
  const pattern = method.startsWith('type:') ? new RegExp(method.slice('type:'.length), 'i') : null;
  const parameters = new Map([...forward.parameters.values()].map((parameter) => [parameter.tensor, parameter]));
  for (const [op, block] of opBlocks(forward)) {
    if (pattern) weights[block]! += pattern.test(op.path) && once(op.path) ? 1 : 0;
    else if (method === 'cost') weights[block]! += (ruleOf(op.kind).cost ?? defaultCost)(placed(forward, op)).flops;
    else
      for (const id of op.inputs) {
        const parameter = parameters.get(id);
        if (parameter && once(id)) weights[block]! += elementCount(parameter.dims);
      }
  }
  return weights;
}

/** Blocks of a forward whose borders are: what goes into the first, what comes out of each. */
export function blockCount(forward: Graph): number {
  return forward.borders.length - 1;
}

/** Every op with the block that it is part of. */
function opBlocks(forward: Graph): readonly (readonly [Op, number])[] {
  const madeBy = producers(forward);
  const ends = forward.borders.slice(1, -1).map((border) => madeBy.get(border)!);
  let block = 0;
  return forward.ops.map((op, index) => {
    while (block < ends.length && index > ends[block]!) block++;
    return [op, block] as const;
  });
}
