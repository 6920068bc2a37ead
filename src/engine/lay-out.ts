// Gives every parameter, gradient and state its place: buckets one after the other, what persists first, frozen parameters last.
import { ConfigError } from '../common/index.js';
import { align, placeOf, shapeBuckets, storedElements } from './bucket-shapes.js';
import { elementCount, type Parameter } from './graph.js';
import type { Bucket, Layout, LayoutOptions, OffDevice, ParameterBucket, Persistence, SliceHome } from './layout.js';

const PERSISTENT = 'persistent';

/** Lays out `parameters` (in order of first use) for a number of partitions: 1, or the ranks of ZeRO. */
export function layOut(parameters: Iterable<Parameter>, partitions: number, options: LayoutOptions = {}): Layout {
  const { dtype = 'f32', hasMasters = dtype !== 'f32', stateDtype = 'f32' } = options;
  const { isWhole = () => false, bucketElementsMax = Number.POSITIVE_INFINITY, sliced = null } = options;
  if (!Number.isSafeInteger(partitions) || partitions < 1) {
    throw new ConfigError('partitions', 'a positive integer', partitions);
  }
  if (dtype !== 'bf16' && dtype !== 'f32' && !hasMasters)
    throw new ConfigError('hasMasters', 'true', hasMasters, `Only bf16 is stepped without masters, not ${dtype}`);
  if (dtype !== 'bf16' && stateDtype !== 'f32')
    throw new ConfigError('stateDtype', '"f32"', stateDtype, `Beside parameters of ${dtype} optimizer state is f32`);
  const all = [...parameters];
  const isSlicing = sliced !== null;
  const persistent = isSlicing ? persistentOf(all, sliced) : new Set(all);
  const trained = all.filter(({ isFrozen }) => !isFrozen);
  const rules = { partitions, dtype, isWhole, elementsMax: bucketElementsMax };
  const shapes = [
    // What persists is gathered once a step, as one.
    ...shapeBuckets(
      trained.filter((parameter) => persistent.has(parameter)),
      ({ bucket }) => (isSlicing ? PERSISTENT : bucket),
      rules,
    ).map((shape) => ({ ...shape, isSliced: false })),
    ...shapeBuckets(
      trained.filter((parameter) => !persistent.has(parameter)),
      ({ bucket }) => bucket,
      rules,
    ).map((shape) => ({ ...shape, isSliced: true })),
  ];
  const buckets: Bucket[] = [];
  let offset = 0;
  let sliceOffset = 0;
  let parameterOffset = 0;
  const stateElements = { matrices: 0, others: 0 };
  for (const shape of shapes) {
    const kind = shape.isOfMatrices ? 'matrices' : 'others';
    const elements = shape.sliceElements * partitions;
    buckets.push({ ...shape, elements, offset, parameterOffset, sliceOffset, stateOffset: stateElements[kind] });
    offset += elements;
    parameterOffset += shape.isSliced ? shape.sliceElements : elements;
    sliceOffset += shape.sliceElements;
    stateElements[kind] += shape.sliceElements;
  }
  const still = all.filter(({ isFrozen }) => isFrozen);
  const frozenBuckets = shapeBuckets(
    still.filter((parameter) => !persistent.has(parameter)),
    ({ bucket }) => bucket,
    { partitions, dtype, isWhole: () => false, elementsMax: Number.POSITIVE_INFINITY },
  ).map(({ name, block, sliceElements, parameters }): ParameterBucket => {
    const start = parameterOffset;
    parameterOffset += sliceElements;
    const elements = sliceElements * partitions;
    const cut = { block, elements, sliceElements, isSliced: true, parameterOffset: start, parameters };
    return { name: `${name}.frozen`, ...cut };
  });
  const slicesEnd = parameterOffset;
  const frozen = still
    .filter((parameter) => persistent.has(parameter))
    .map((parameter) => {
      const place = placeOf(parameter, parameterOffset);
      parameterOffset = align(parameterOffset + storedElements(place, dtype));
      return place;
    });
  return {
    dtype,
    hasMasters: dtype !== 'f32' && hasMasters,
    stateDtype,
    partitions,
    buckets,
    frozenBuckets,
    frozen,
    elements: offset,
    parameterElements: parameterOffset,
    sliceElements: sliceOffset,
    offDevice: offDeviceOf(
      [...buckets.filter(({ isSliced }) => isSliced), ...frozenBuckets],
      slicesEnd,
      sliced?.home ?? null,
    ),
  };
}

/** `buckets` are the sliced ones, in the order of `parameters`. */
function offDeviceOf(buckets: readonly ParameterBucket[], end: number, home: SliceHome | null): OffDevice | null {
  const [first] = buckets;
  if (!home || !first) return null;
  const { hostElementsMax, ...reading } = home;
  const from = first.parameterOffset;
  const isTooMuch = (bucket: ParameterBucket) => bucket.parameterOffset + bucket.sliceElements - from > hostElementsMax;
  return { from, diskFrom: buckets.find(isTooMuch)?.parameterOffset ?? end, end, ...reading };
}

/** The small ones, in the order of the model as far as they may be. */
function persistentOf(
  parameters: readonly Parameter[],
  { elementsMax, totalMax }: Persistence,
): ReadonlySet<Parameter> {
  const found = new Set<Parameter>();
  let total = 0;
  for (const parameter of parameters) {
    const elements = elementCount(parameter.dims);
    if (elements > elementsMax || total + elements > totalMax) continue;
    total += elements;
    found.add(parameter);
  }
  return found;
}
