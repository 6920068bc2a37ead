// How heads are split over the ranks of a tensor group: each has as many query heads, and the key-value heads that they read. With fewer
// key-value heads than ranks, neighbours have the same one.
import { ConfigError } from '../../common/index.js';
import { attribute, columnOf, type OpCall, type ShardCall, type ShardedOp, type Split } from './rule.js';

/** How q (input 0), k or v must be split for the heads of the output to be split in `parts`. */
export function demandOfHeads(call: OpCall, input: number, { parts }: Split): Split {
  const { heads, kvHeads } = expectHeadsPerRank(call, parts);
  const isFused = call.inputs[0]!.id === call.inputs[1]!.id;
  if (!isFused) return { blocks: 1, parts: input === 0 ? parts : Math.min(parts, kvHeads) };
  if (kvHeads !== heads)
    throw new Error(`${call.path} (${call.kind}): fused q, k and v of different numbers of heads are not split`);
  // Head after head of q, then of k, then of v; or q, k and v of each head side by side.
  return { blocks: attribute(call, 'qHeadStride') === attribute(call, 'headDim') ? 3 : 1, parts };
}

/** Every rank has as many of the heads that come out, however what goes in is split. */
export const splitOfHeads = (_split: Split, ranks: number): Split => headsSplit(ranks);
const headsSplit = (ranks: number): Split => ({ blocks: 1, parts: ranks });

/** Key-value heads of a rank. */
export const kvHeadsOf = (kvHeads: number, ranks: number): number => Math.max(1, kvHeads / ranks);

/** Where the heads of a rank begin in its columns of these inputs, which are the op's first ones in this order. */
export function offsetsOf(call: ShardCall, names: readonly ('q' | 'k' | 'v')[]): Readonly<Record<string, number>> {
  const columns = names.map((name, index) => {
    const key = `${name}Offset`;
    return [key, columnOf(call.splits[index]!, call.inputs[index]!.dims[1]!, attribute(call, key))] as const;
  });
  return Object.fromEntries(columns);
}

/** What a rank runs, as any op over heads. */
export function shardHeads(call: ShardCall): ShardedOp {
  const { attributes, ranks, rank } = call;
  const { heads, kvHeads } = expectHeadsPerRank(call, ranks);
  const own = { heads: heads / ranks, kvHeads: kvHeadsOf(kvHeads, ranks), ...offsetsOf(call, ['q', 'k', 'v']) };
  const sharded = { ...attributes, ...own };
  const split = headsSplit(ranks);
  const outputs = [split, split];
  return attributes.p === undefined
    ? { outputs, attributes: sharded }
    : { outputs, attributes: { ...sharded, firstHead: (rank * heads) / ranks } };
}

function expectHeadsPerRank(call: OpCall, ranks: number): { readonly heads: number; readonly kvHeads: number } {
  const heads = attribute(call, 'heads');
  const kvHeads = attribute(call, 'kvHeads');
  expectHeadsCut('tensorParallel', call.path, heads, kvHeads, ranks);
  return { heads, kvHeads };
}

/** Checks that the heads at a place of the model cut into `ranks`, what `key` asks for. */
export function expectHeadsCut(key: string, path: string, heads: number, kvHeads: number, ranks: number): void {
  const fits = (count: number) => heads % count === 0 && (kvHeads % count === 0 || count % kvHeads === 0);
  if (fits(ranks)) return;
  let nearest = ranks;
  while (!fits(nearest)) nearest--;
  const counts = kvHeads === heads ? `${heads} heads` : `${heads} heads and ${kvHeads} key-value heads`;
  const hint = `The nearest that fits is ${nearest}`;
  throw new ConfigError(key, `a number that the ${counts} of ${path} cut into`, ranks, hint);
}
