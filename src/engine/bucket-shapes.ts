// How parameters are put together into buckets, before these have their places: in order of first use, each bucket of one block,
// padded so that it cuts into equal, 64-byte aligned slices, one per partition. Matrices that an optimiser steps whole have buckets
// of their own, in which each lies inside one slice. Pure.
import { DTYPE_BYTES, elementCount, type FloatType, type Parameter } from './graph.js';
import { type Nf4Settings, nf4Bytes } from './nf4.js';
import { type Cut, copiesOf } from './shard.js';

const ALIGNED_ELEMENTS = 32; // 64 bytes of 16-bit numbers

/** Where a parameter lies in its bucket, in elements of the layout's type. */
export interface ParameterPlace {
  readonly name: string;
  readonly dims: readonly number[];
  readonly offset: number;
  /** Elements of the parameter. */
  readonly length: number;
  /** Stored in 4 bits, in fewer bytes than its length says. */
  readonly nf4?: Nf4Settings;
  /** Of a parameter that the tensor group cuts: dims and length are those of what a rank holds. */
  readonly cut?: Cut;
}

/** A bucket before it has its place. */
export interface BucketShape {
  readonly name: string;
  /** The model's name of what its parameters belong to: buckets of one block are used together. */
  readonly block: string;
  readonly sliceElements: number;
  /** Elements from here on take no weight decay. */
  readonly decayEnd: number;
  /** Whether its parameters are matrices, each wholly inside one slice. */
  readonly isOfMatrices: boolean;
  readonly parameters: readonly ParameterPlace[];
}

export interface BucketRules {
  readonly partitions: number;
  readonly dtype: FloatType;
  /** Parameters that never cross the border of a slice. */
  readonly isWhole: (parameter: Parameter) => boolean;
  /** A bucket has no more elements than this, unless one parameter alone has. */
  readonly elementsMax: number;
}

/** Buckets of `parameters`, which come in order of first use; `bucketOf` names the bucket of each. */
export function shapeBuckets(
  parameters: readonly Parameter[],
  bucketOf: (parameter: Parameter) => string,
  { partitions, dtype, isWhole, elementsMax }: BucketRules,
): readonly BucketShape[] {
  const byBucket = new Map<string, Parameter[]>();
  for (const parameter of parameters) {
    const members = byBucket.get(bucketOf(parameter));
    if (members) members.push(parameter);
    else byBucket.set(bucketOf(parameter), [parameter]);
  }
  const shapes: BucketShape[] = [];
  let matrices: Parameter[] = [];
  let joined = 0;
  for (const [index, [block, members]] of [...byBucket].entries()) {
    const others = members.filter((parameter) => !isWhole(parameter));
    for (const [part, run] of runsOf(others, elementsMax).entries())
      shapes.push(cutBucket(part === 0 ? block : `${block}.${part}`, block, run, partitions, dtype));
    const whole = members.filter(isWhole);
    matrices.push(...whole);
    if (whole.length > 0) joined++;
    // As many blocks as partitions share their matrices out evenly, whatever the shapes inside a block.
    if (matrices.length > 0 && (joined === partitions || index === byBucket.size - 1)) {
      const first = bucketOf(matrices[0]!);
      shapes.push(dealBucket(`${first}.matrices`, first, matrices, partitions));
      matrices = [];
      joined = 0;
    }
  }
  return shapes;
}

/** Elements of the layout's type that a parameter takes. */
export function storedElements({ length, nf4 }: Pick<ParameterPlace, 'length' | 'nf4'>, dtype: FloatType): number {
  return nf4 ? Math.ceil(nf4Bytes(length, nf4) / DTYPE_BYTES[dtype]) : length;
}

export function placeOf({ name, dims, nf4, cut }: Parameter, offset: number): ParameterPlace {
  const place = { name, dims, offset, length: elementCount(dims) };
  return { ...place, ...(nf4 ? { nf4 } : {}), ...(cut ? { cut } : {}) };
}

export function align(value: number, to: number = ALIGNED_ELEMENTS): number {
  return Math.ceil(value / to) * to;
}

/** Neighbours as long as they have at most `elementsMax` elements together. */
function runsOf(members: readonly Parameter[], elementsMax: number): readonly (readonly Parameter[])[] {
  const runs: Parameter[][] = [];
  let elements = 0;
  for (const parameter of members) {
    const length = elementCount(parameter.dims);
    elements += length;
    if (runs.length === 0 || elements > elementsMax) {
      runs.push([parameter]);
      elements = length;
    } else runs.at(-1)!.push(parameter);
  }
  return runs;
}

/**
 * One after the other, cut into slices anywhere. Matrices and embeddings decay; gains and biases do not. What a tensor group cuts and what its ranks
 * hold alike lie apart, with the latter in the middle.
 */
function cutBucket(
  name: string,
  block: string,
  members: readonly Parameter[],
  partitions: number,
  dtype: FloatType,
): BucketShape {
  const order = (parameter: Parameter) => (decays(parameter) ? (isOwn(parameter) ? 0 : 1) : isOwn(parameter) ? 3 : 2);
  const sorted = members.toSorted((a, b) => order(a) - order(b));
  let end = 0;
  let decayEnd = 0;
  const parameters: ParameterPlace[] = [];
  for (const parameter of sorted) {
    const place = placeOf(parameter, end);
    parameters.push(place);
    end = align(end + storedElements(place, dtype));
    if (decays(parameter)) decayEnd = end;
  }
  const sliceElements = align(Math.ceil(end / partitions));
  return { name, block, sliceElements, decayEnd, isOfMatrices: false, parameters };
}

/** Every matrix whole, the largest first, to the partition that has least so far. */
function dealBucket(name: string, block: string, members: readonly Parameter[], partitions: number): BucketShape {
  const loads = new Array<number>(partitions).fill(0);
  const bySize = members.toSorted((a, b) => elementCount(b.dims) - elementCount(a.dims));
  const dealt = bySize.map((parameter) => {
    const owner = loads.indexOf(Math.min(...loads));
    const start = loads[owner]!;
    loads[owner] = align(start + elementCount(parameter.dims));
    return { parameter, owner, start };
  });
  const sliceElements = Math.max(...loads);
  const parameters = dealt.map(({ parameter, owner, start }) => placeOf(parameter, owner * sliceElements + start));
  return { name, block, sliceElements, decayEnd: sliceElements * partitions, isOfMatrices: true, parameters };
}

function decays(parameter: Parameter): boolean {
  return parameter.dims.length >= 2;
}

/** Whether no two ranks of a tensor group hold the same of it. */
function isOwn({ cut }: Parameter): boolean {
  return cut !== undefined && copiesOf(cut) === 1;
}
