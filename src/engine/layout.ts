// Which byte of which flat buffer is whose. Parameters lie in buckets (embeddings, one per block, head), each padded so that
// it cuts into equal, 64-byte aligned slices, one per partition. Gradients have the layout of the parameters; optimiser state
// holds one partition's slices, bucket after bucket. Parameters that decay come first in a bucket. Matrices that an optimiser
// steps whole have buckets of their own, in which each lies inside one slice. Frozen parameters lie behind all buckets, where
// gradients and state have no room. ZeRO, arXiv:1910.02054 §5.
import { ConfigError } from '../common/index.js';
import { DTYPE_BYTES, elementCount, type FloatType, type Parameter } from './graph.js';
import { type Nf4Settings, nf4Bytes } from './nf4.js';

const ALIGNED_ELEMENTS = 32; // 64 bytes of 16-bit numbers

/** Where a parameter lies in its bucket, in elements. */
export interface ParameterPlace {
  readonly name: string;
  readonly dims: readonly number[];
  readonly offset: number;
  readonly length: number;
  /** Stored in 4 bits, in fewer bytes than its length says. */
  readonly nf4?: Nf4Settings;
}

/** A flat run of parameters that is exchanged as one. All figures are in elements. */
export interface Bucket {
  readonly name: string;
  /** Padded length: `partitions * sliceElements`. */
  readonly elements: number;
  readonly sliceElements: number;
  /** Elements from here on take no weight decay. */
  readonly decayEnd: number;
  /** Start inside the buffers `parameters` and `gradients`. */
  readonly offset: number;
  /** Start of a partition's slice inside buffers that hold slices of all buckets. */
  readonly sliceOffset: number;
  /** Start of a partition's slice inside buffers of state, which buckets of matrices and the others have apart. */
  readonly stateOffset: number;
  /** Whether its parameters are matrices, each wholly inside one slice. */
  readonly isOfMatrices: boolean;
  readonly parameters: readonly ParameterPlace[];
}

export type StateDtype = 'f32' | 'bf16';

/** How a job whose parameters are bf16 keeps what the optimiser needs. What is not in f32 is rounded by chance. */
export interface StepStorage {
  /** f32 masters of 16-bit parameters (default); false: bf16 parameters are stepped themselves. */
  readonly hasMasters?: boolean;
  /** Default f32. */
  readonly stateDtype?: StateDtype;
}

export interface Layout {
  /** How `parameters` are stored; gradients are f32. */
  readonly dtype: FloatType;
  /** Whether the optimiser steps f32 copies of the parameters that a rank owns, and rounds them. */
  readonly hasMasters: boolean;
  /** How optimiser state is stored. */
  readonly stateDtype: StateDtype;
  readonly partitions: number;
  readonly buckets: readonly Bucket[];
  /** Length of `gradients`: all buckets. */
  readonly elements: number;
  /** Length of `parameters`: all buckets, then the frozen parameters. */
  readonly parameterElements: number;
  /** Parameters without gradient or state; offsets inside the buffer `parameters`. */
  readonly frozen: readonly ParameterPlace[];
  readonly sliceElements: number;
}

/** A part of a parameter that one partition owns. */
export interface ParameterSlice {
  readonly name: string;
  /** First element of the part, inside the flattened parameter. */
  readonly parameterOffset: number;
  readonly length: number;
  readonly bucket: Bucket;
  /** First element of the part, inside buffers that hold the partition's slices of all buckets. */
  readonly sliceOffset: number;
  /** First element of the part, inside the partition's optimiser state. */
  readonly stateOffset: number;
}

/** A bucket before it has its place. */
type Shape = Pick<Bucket, 'name' | 'sliceElements' | 'decayEnd' | 'isOfMatrices' | 'parameters'>;

/**
 * Lays out `parameters` (in order of first use) for a number of partitions: 1, or the ranks of ZeRO. Those that are to be
 * `isWhole` never cross the border of a slice.
 */
export function layOut(
  parameters: Iterable<Parameter>,
  partitions: number,
  isWhole: (parameter: Parameter) => boolean = () => false,
  dtype: FloatType = 'f32',
  { hasMasters = dtype !== 'f32', stateDtype = 'f32' }: StepStorage = {},
): Layout {
  if (!Number.isSafeInteger(partitions) || partitions < 1) {
    throw new ConfigError('partitions', 'a positive integer', partitions);
  }
  if (dtype !== 'bf16' && dtype !== 'f32' && !hasMasters)
    throw new ConfigError('hasMasters', 'true', hasMasters, `Only bf16 is stepped without masters, not ${dtype}`);
  if (dtype !== 'bf16' && stateDtype !== 'f32')
    throw new ConfigError('stateDtype', '"f32"', stateDtype, `Beside parameters of ${dtype} optimizer state is f32`);
  const byBucket = new Map<string, Parameter[]>();
  const untrained: Parameter[] = [];
  for (const parameter of parameters) {
    if (parameter.isFrozen) {
      untrained.push(parameter);
      continue;
    }
    const members = byBucket.get(parameter.bucket);
    if (members) members.push(parameter);
    else byBucket.set(parameter.bucket, [parameter]);
  }
  const shapes: Shape[] = [];
  let matrices: Parameter[] = [];
  let joined = 0;
  for (const [index, [name, members]] of [...byBucket].entries()) {
    const others = members.filter((parameter) => !isWhole(parameter));
    if (others.length > 0) shapes.push(cutBucket(name, others, partitions));
    const whole = members.filter(isWhole);
    matrices.push(...whole);
    if (whole.length > 0) joined++;
    // As many blocks as partitions share their matrices out evenly, whatever the shapes inside a block.
    if (matrices.length > 0 && (joined === partitions || index === byBucket.size - 1)) {
      shapes.push(dealBucket(`${matrices[0]!.bucket}.matrices`, matrices, partitions));
      matrices = [];
      joined = 0;
    }
  }
  const buckets: Bucket[] = [];
  let offset = 0;
  let sliceOffset = 0;
  const stateElements = { matrices: 0, others: 0 };
  for (const shape of shapes) {
    const kind = shape.isOfMatrices ? 'matrices' : 'others';
    const elements = shape.sliceElements * partitions;
    buckets.push({ ...shape, elements, offset, sliceOffset, stateOffset: stateElements[kind] });
    offset += elements;
    sliceOffset += shape.sliceElements;
    stateElements[kind] += shape.sliceElements;
  }
  let parameterElements = offset;
  const frozen = untrained.map(({ name, dims, nf4 }) => {
    const length = elementCount(dims);
    const place = { name, dims, offset: parameterElements, length };
    const elements = nf4 ? Math.ceil(nf4Bytes(length, nf4) / DTYPE_BYTES[dtype]) : length;
    parameterElements = align(parameterElements + elements, ALIGNED_ELEMENTS);
    return nf4 ? { ...place, nf4 } : place;
  });
  return {
    dtype,
    hasMasters: dtype !== 'f32' && hasMasters,
    stateDtype,
    partitions,
    buckets,
    elements: offset,
    parameterElements,
    frozen,
    sliceElements: sliceOffset,
  };
}

/** One after the other, cut into slices anywhere. Matrices and embeddings decay; gains and biases do not. */
function cutBucket(name: string, members: readonly Parameter[], partitions: number): Shape {
  const sorted = [...members.filter(decays), ...members.filter((parameter) => !decays(parameter))];
  let end = 0;
  let decayEnd = 0;
  const parameters: ParameterPlace[] = [];
  for (const parameter of sorted) {
    const length = elementCount(parameter.dims);
    parameters.push({ name: parameter.name, dims: parameter.dims, offset: end, length });
    end = align(end + length, ALIGNED_ELEMENTS);
    if (decays(parameter)) decayEnd = end;
  }
  const sliceElements = align(Math.ceil(end / partitions), ALIGNED_ELEMENTS);
  return { name, sliceElements, decayEnd, isOfMatrices: false, parameters };
}

/** Every matrix whole, the largest first, to the partition that has least so far. */
function dealBucket(name: string, members: readonly Parameter[], partitions: number): Shape {
  const loads = new Array<number>(partitions).fill(0);
  const bySize = members.toSorted((a, b) => elementCount(b.dims) - elementCount(a.dims));
  const dealt = bySize.map(({ name, dims }) => {
    const length = elementCount(dims);
    const owner = loads.indexOf(Math.min(...loads));
    const start = loads[owner]!;
    loads[owner] = align(start + length, ALIGNED_ELEMENTS);
    return { name, dims, owner, start, length };
  });
  const sliceElements = Math.max(...loads);
  const parameters = dealt.map(({ name, dims, owner, start, length }) => {
    return { name, dims, offset: owner * sliceElements + start, length };
  });
  return { name, sliceElements, decayEnd: sliceElements * partitions, isOfMatrices: true, parameters };
}

/** The parts of parameters that partition `rank` owns, in the order of its state. Padding belongs to nobody. */
export function slicesOf(layout: Layout, rank: number): readonly ParameterSlice[] {
  return layout.buckets.flatMap((bucket) => {
    const sliceStart = rank * bucket.sliceElements;
    return bucket.parameters.flatMap((place): ParameterSlice[] => {
      const start = Math.max(place.offset, sliceStart);
      const end = Math.min(place.offset + place.length, sliceStart + bucket.sliceElements);
      if (start >= end) return [];
      return [
        {
          name: place.name,
          parameterOffset: start - place.offset,
          length: end - start,
          bucket,
          sliceOffset: bucket.sliceOffset + start - sliceStart,
          stateOffset: bucket.stateOffset + start - sliceStart,
        },
      ];
    });
  });
}

/** First element and dims of a parameter inside the buffers `parameters` and (unless frozen) `gradients`. */
export function placesOf(layout: Layout): ReadonlyMap<string, ParameterPlace> {
  const places = new Map<string, ParameterPlace>();
  for (const bucket of layout.buckets) {
    for (const place of bucket.parameters) places.set(place.name, { ...place, offset: bucket.offset + place.offset });
  }
  for (const place of layout.frozen) places.set(place.name, place);
  return places;
}

/** Whether steps round by chance: what is kept in bf16 alone would else stand still under small changes. */
export function isByChance({ dtype, hasMasters, stateDtype }: Layout): boolean {
  return stateDtype === 'bf16' || (dtype === 'bf16' && !hasMasters);
}

function decays(parameter: Parameter): boolean {
  return parameter.dims.length >= 2;
}

function align(value: number, to: number): number {
  return Math.ceil(value / to) * to;
}
