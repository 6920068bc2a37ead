// Which byte of which flat buffer is whose. Parameters lie in buckets (embeddings, one per block, head), each padded so that
// it cuts into equal slices, one per partition. Gradients have the layout of whole parameters; optimiser state holds one
// partition's slices, bucket after bucket. Parameters that decay come first in a bucket. Frozen parameters lie behind all buckets,
// where gradients and state have no room. ZeRO, arXiv:1910.02054 §5. At stage 3 a partition keeps its slices of the parameters alone,
// of the frozen ones too; small ones, which would cost more to fetch than to keep, stay whole (persist).
import { type ParameterPlace, storedElements } from './bucket-shapes.js';
import type { FloatType, Parameter } from './graph.js';

export type { ParameterPlace } from './bucket-shapes.js';

/** A flat run of parameters that is exchanged as one. All figures are in elements. */
export interface ParameterBucket {
  readonly name: string;
  /** The model's name of what its parameters belong to: buckets of one block are used together. */
  readonly block: string;
  /** Padded length: `partitions * sliceElements`. */
  readonly elements: number;
  readonly sliceElements: number;
  /** Whether a partition keeps only its slice of the parameters. */
  readonly isSliced: boolean;
  /** Start inside the buffer `parameters`: of the whole bucket, or of the slice. */
  readonly parameterOffset: number;
  readonly parameters: readonly ParameterPlace[];
}

/** One whose parameters are trained. */
export interface Bucket extends ParameterBucket {
  /** Elements from here on take no weight decay. */
  readonly decayEnd: number;
  /** Start inside the buffer `gradients` of whole gradients. */
  readonly offset: number;
  /** Start of a partition's slice inside buffers that hold slices of all buckets. */
  readonly sliceOffset: number;
  /** Start of a partition's slice inside buffers of state, which buckets of matrices and the others have apart. */
  readonly stateOffset: number;
  /** Whether its parameters are matrices, each wholly inside one slice. */
  readonly isOfMatrices: boolean;
}

/** How optimiser state may be stored. */
export type StateDtype = 'f32' | 'bf16';

/** How a job whose parameters are bf16 keeps what the optimiser needs. What is not in f32 is rounded by chance. */
export interface StepStorage {
  /** f32 masters of 16-bit parameters (default); false: bf16 parameters are stepped themselves. */
  readonly hasMasters?: boolean;
  /** Default f32. */
  readonly stateDtype?: StateDtype;
}

/** Which parameters stay whole where the others are sliced. */
export interface Persistence {
  /** Most elements of such a parameter. */
  readonly elementsMax: number;
  /** Most elements of all of them; the first in the model stay. */
  readonly totalMax: number;
  /** Where the slices live. Default null: on the device. */
  readonly home?: SliceHome | null;
}

/** Slices of parameters that are not on the device: in the memory of the host, or in a file. */
export interface SliceHome {
  /** So many elements of a partition, in whole buckets, are in the memory of the host; what is more is in the file. */
  readonly hostElementsMax: number;
  /** What is read of the file goes through so many buffers in the memory of the host, of so many elements at most. */
  readonly buffers: number;
  readonly bufferElements: number;
}

/** Which elements of `parameters` are not on the device. */
export interface OffDevice extends Omit<SliceHome, 'hostElementsMax'> {
  /** From here on in the memory of the host, */
  readonly from: number;
  /** from here on in the file. */
  readonly diskFrom: number;
  readonly end: number;
}

/** How parameters are stored and cut. */
export interface LayoutOptions extends StepStorage {
  /** How parameters are stored. Default f32. */
  readonly dtype?: FloatType;
  /** Parameters that never cross the border of a slice. Default: none. */
  readonly isWhole?: (parameter: Parameter) => boolean;
  /** A bucket has no more elements than this, unless one parameter alone has. Default: no limit. */
  readonly bucketElementsMax?: number;
  /** Not null: partitions keep slices of the parameters, but of those that persist. Default null: whole parameters. */
  readonly sliced?: Persistence | null;
}

/** Where every parameter, gradient and state of a rank lies, in elements. */
export interface Layout {
  /** How `parameters` are stored; gradients are f32. */
  readonly dtype: FloatType;
  /** Whether the optimiser steps f32 copies of the parameters that a rank owns, and rounds them. */
  readonly hasMasters: boolean;
  /** How optimiser state is stored. */
  readonly stateDtype: StateDtype;
  readonly partitions: number;
  readonly buckets: readonly Bucket[];
  /** Of frozen parameters that are sliced. */
  readonly frozenBuckets: readonly ParameterBucket[];
  /** Frozen parameters that are whole: offsets inside `parameters`. */
  readonly frozen: readonly ParameterPlace[];
  /** Length of whole gradients: all buckets. */
  readonly elements: number;
  /** Length of `parameters`: all buckets, then what is frozen. */
  readonly parameterElements: number;
  /** What one partition owns: a slice of every bucket. */
  readonly sliceElements: number;
  /** The elements of `parameters` that live elsewhere: all slices. Null: none. */
  readonly offDevice: OffDevice | null;
}

/** A part of one parameter that one partition owns. All figures are in elements. */
export interface ParameterSlice {
  readonly name: string;
  /** First element of the part, inside the parameter. */
  readonly parameterOffset: number;
  readonly length: number;
  readonly bucket: Bucket;
  /** First element of the part, inside buffers that hold the partition's slices of all buckets. */
  readonly sliceOffset: number;
  /** First element of the part, inside the partition's optimiser state. */
  readonly stateOffset: number;
}

/** What a rank keeps of a parameter, in elements of the layout's type (of 4-bit parameters: of their bytes). */
export interface ParameterPart {
  /** First element kept, inside the parameter. */
  readonly start: number;
  readonly length: number;
  /** Where it lies in the buffer `parameters`. */
  readonly offset: number;
  readonly isAll: boolean;
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

/** What partition `rank` keeps of each parameter; those of which it keeps nothing are left out. */
export function partsOf(layout: Layout, rank: number): ReadonlyMap<string, ParameterPart> {
  const parts = new Map<string, ParameterPart>();
  const keep = (place: ParameterPlace, offset: number) => {
    parts.set(place.name, { start: 0, length: storedElements(place, layout.dtype), offset, isAll: true });
  };
  for (const bucket of parameterBuckets(layout))
    for (const place of bucket.parameters) {
      if (!bucket.isSliced) {
        keep(place, bucket.parameterOffset + place.offset);
        continue;
      }
      const sliceStart = rank * bucket.sliceElements;
      const stored = storedElements(place, layout.dtype);
      const start = Math.max(place.offset, sliceStart);
      const end = Math.min(place.offset + stored, sliceStart + bucket.sliceElements);
      if (start >= end) continue;
      const offset = bucket.parameterOffset + start - sliceStart;
      parts.set(place.name, { start: start - place.offset, length: end - start, offset, isAll: false });
    }
  for (const place of layout.frozen) keep(place, place.offset);
  return parts;
}

/** All buckets, trained and frozen. */
export function parameterBuckets(layout: Layout): readonly ParameterBucket[] {
  return [...layout.buckets, ...layout.frozenBuckets];
}

/** Name, dims and length of every parameter, trained ones first. */
export function parametersOf(layout: Layout): readonly ParameterPlace[] {
  return [...parameterBuckets(layout).flatMap(({ parameters }) => parameters), ...layout.frozen];
}

/** First element and dims of a parameter inside buffers of whole parameters: `gradients`, and `parameters` where none is sliced. */
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
