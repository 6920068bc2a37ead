// The ops that reduce the gradients of one bucket to this rank's slice of their sum: one reduce_scatter, or, where gradients are
// sent as 4-bit blocks (qgZ, arXiv:2306.10209 §3.3), an exchange within the ranks of one machine and one across, each with a sum
// in f32 behind it. They come in phases, so that other work may lie between an exchange and what waits for it.
import type { GraphBuilder } from '../builder.js';
import { DTYPE_CODES, type Tensor } from '../graph.js';
import type { Bucket } from '../layout.js';
import { type Group, type GroupName, groupIndex } from '../mesh.js';

/** Numbers that share a step of their own: 1.6 % more bytes, finer steps. */
const BLOCK = 512;

/** One exchange: every rank of the group sends every other what becomes part of that one's slice. */
export interface Hop {
  readonly group: GroupName;
  readonly size: number;
}

/** Exchanges over the ranks of a `zero` group, those within a machine first. */
export function hopsOf(inner: Group, outer: Group): readonly Hop[] {
  const hops: readonly Hop[] = [
    { group: 'zeroInner', size: inner.size },
    { group: 'zeroOuter', size: outer.size },
  ];
  return hops.filter(({ size }) => size > 1);
}

/** Emits the exchange of `whole` phase by phase: each entry adds the ops of one; the last returns the slice. */
export function quantisedReduction(
  builder: GraphBuilder,
  { name, sliceElements }: Pick<Bucket, 'name' | 'sliceElements'>,
  whole: Tensor,
  hops: readonly Hop[],
): readonly (() => Tensor)[] {
  const form = { bits: 4, block: BLOCK };
  let numbers = whole; // [parts, slice]
  let parts = hops.reduce((product, { size }) => product * size, 1);
  let received: Tensor | null = null;
  const send = ({ group, size }: Hop): Tensor => {
    // Parts are in the order of ranks, machine by machine; what goes to one rank must lie together.
    const attributes = { ...form, parts, columns: size };
    const [payloads] = builder.op('block_quantise', name, [numbers], attributes, 'gradient');
    received = builder.op('all_to_all', name, [payloads!], { group: groupIndex(group) }, 'gradient')[0]!;
    return received;
  };
  const add = ({ size }: Hop): Tensor => {
    const elements = (parts / size) * sliceElements;
    const attributes = { ...form, parts, terms: size, elements, to: DTYPE_CODES.f32 };
    numbers = builder.op('block_dequantise', name, [received!], attributes, 'gradient')[0]!;
    parts /= size;
    return numbers;
  };
  return [
    () => send(hops[0]!),
    ...hops.slice(1).map((hop, index) => () => {
      add(hops[index]!);
      return send(hop);
    }),
    () => add(hops.at(-1)!),
  ];
}
