// The ops that make one bucket whole: a gather of all ranks' slices, as 8-bit blocks where weights are sent so (qwZ), or of
// secondary slices within the ranks of one machine (hpZ, arXiv:2306.10209 §3.2).
import type { GraphBuilder } from '../builder.js';
import { DTYPE_BYTES, DTYPE_CODES, type Tensor, type TensorId } from '../graph.js';
import type { Layout, ParameterBucket } from '../layout.js';
import { type Group, groupIndex } from '../mesh.js';
import type { Place } from '../plan/placement.js';
import type { ZeroTuning } from './zero-tuning.js';

/** Numbers that share a step of their own where weights are sent in 8 bits: 0.2 % more bytes. */
const BLOCK = 2048;

/** Where a job's secondary slices lie. */
export const SECONDARY = 'secondary';

export interface GatherOptions {
  readonly tuning: Pick<ZeroTuning, 'quantizedWeights' | 'quantizedNontrainableWeights'>;
  /** The ranks that keep secondary slices together; null: nobody does. */
  readonly inner: Group | null;
}

export class BucketGathers {
  readonly #builder: GraphBuilder;
  readonly #places: Map<TensorId, Place>;
  readonly #layout: Layout;
  readonly #options: GatherOptions;
  /** Offset in elements of the secondary slice of each bucket that has one. */
  readonly #secondary: ReadonlyMap<ParameterBucket, number>;
  /** Bytes of the buffer of secondary slices. */
  readonly secondaryBytes: number;

  /** Adds to `builder` and `places`, which stay the caller's. `again` are the buckets that are gathered more than once. */
  constructor(
    builder: GraphBuilder,
    places: Map<TensorId, Place>,
    layout: Layout,
    again: readonly ParameterBucket[],
    options: GatherOptions,
  ) {
    this.#builder = builder;
    this.#places = places;
    this.#layout = layout;
    this.#options = options;
    const offsets = new Map<ParameterBucket, number>();
    let end = 0;
    if (options.inner)
      for (const bucket of again) {
        offsets.set(bucket, end);
        end += bucket.elements / options.inner.size;
      }
    this.#secondary = offsets;
    this.secondaryBytes = end * DTYPE_BYTES[layout.dtype];
  }

  /** Begins to gather into `region`. What is returned ends it: call it right before the first use. */
  begin(bucket: ParameterBucket, region: string, isFirst: boolean): () => void {
    const { name, elements, sliceElements, parameterOffset } = bucket;
    const { dtype } = this.#layout;
    const secondary = this.#secondary.get(bucket);
    if (!isFirst && secondary !== undefined) {
      this.#gather(name, 'zeroInner', this.#secondarySlice(bucket, secondary), region, elements);
      return () => {};
    }
    const slice = this.#at('parameters', parameterOffset, `parameters.${name}.slice`, sliceElements);
    let end: (() => void) | null = null;
    if (this.#isQuantised(bucket)) end = this.#gatherQuantised(bucket, slice, region);
    else this.#gather(name, 'zero', slice, region, elements);
    return () => {
      end?.();
      if (!isFirst || secondary === undefined) return;
      const { index, size } = this.#options.inner!;
      const own = this.#at(region, (index * elements) / size, `${region}.own`, elements / size);
      const [kept] = this.#builder.op('copy', name, [own], {}, 'state');
      this.#places.set(kept!.id, { buffer: SECONDARY, offsetBytes: secondary * DTYPE_BYTES[dtype] });
    };
  }

  #secondarySlice(bucket: ParameterBucket, offset: number): Tensor {
    return this.#at(SECONDARY, offset, `${SECONDARY}.${bucket.name}`, bucket.elements / this.#options.inner!.size);
  }

  #gather(name: string, group: 'zero' | 'zeroInner', slice: Tensor, region: string, elements: number): void {
    const attributes = { group: groupIndex(group), whole: elements };
    const [whole] = this.#builder.op('all_gather', name, [slice], attributes, 'state');
    this.#places.set(whole!.id, { buffer: region, offsetBytes: 0 });
  }

  #gatherQuantised({ name, elements }: ParameterBucket, slice: Tensor, region: string): () => void {
    const { dtype, partitions } = this.#layout;
    const form = { bits: 8, block: BLOCK };
    const [payload] = this.#builder.op('block_quantise', name, [slice], { ...form, parts: 1, columns: 1 }, 'state');
    const attributes = { group: groupIndex('zero'), whole: partitions * payload!.dims[0]! };
    const [payloads] = this.#builder.op('all_gather', name, [payload!], attributes, 'state');
    return () => {
      const back = { ...form, parts: partitions, terms: 1, elements, to: DTYPE_CODES[dtype] };
      const [whole] = this.#builder.op('block_dequantise', name, [payloads!], back, 'state');
      this.#places.set(whole!.id, { buffer: region, offsetBytes: 0 });
    };
  }

  /** Bytes of 4-bit parameters are no numbers to be rounded. */
  #isQuantised({ parameters, name }: ParameterBucket): boolean {
    const { quantizedWeights, quantizedNontrainableWeights } = this.#options.tuning;
    const isTrained = this.#layout.buckets.some((bucket) => bucket.name === name);
    return (quantizedWeights || (!isTrained && quantizedNontrainableWeights)) && !parameters.some(({ nf4 }) => nf4);
  }

  #at(buffer: string, offset: number, name: string, elements: number): Tensor {
    const { dtype } = this.#layout;
    const tensor = this.#builder.input(name, dtype, [elements], 'state');
    this.#places.set(tensor.id, { buffer, offsetBytes: offset * DTYPE_BYTES[dtype] });
    return tensor;
  }
}
