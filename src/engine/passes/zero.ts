// Pass: data parallelism without partitioning (stage 0) or with the optimiser cut into slices (ZeRO stages 1 to 3). Gives every
// parameter and gradient of the micro-batch program its place in the layout, and makes the update program: exchange the
// gradients bucket by bucket, take the norm over all of them, clip, step the owned slices, and gather what is kept whole again.
// Collectives run on their own stream: a bucket is exchanged while the next is being squared or stepped.
import { ConfigError } from '../../common/index.js';
import { GraphBuilder, RANDOM } from '../builder.js';
import { byteLength, DTYPE_BYTES, type Graph, type Parameter, parameterType, type Tensor } from '../graph.js';
import { layOut } from '../lay-out.js';
import { type Bucket, isByChance, type Layout, parameterBuckets, placesOf, type StepStorage } from '../layout.js';
import { type Group, groupIndex, groupOf, type Mesh } from '../mesh.js';
import { homeOfSlices } from '../offload.js';
import {
  hasScheduledMomentum,
  isWholeMatrix,
  type OptimizerSettings,
  type StateBuffer,
  stateBuffers,
} from '../optimizer.js';
import { type PlacedGraph, Shelf } from '../plan/placement.js';
import { wholeRegion } from './partition-parameters.js';
import { type Hop, hopsOf } from './reduce-bucket.js';
import { StepEmitter } from './step-parameters.js';
import { normParts, slicesFor, sumShared, sumSquaresOnce } from './tensor-gradients.js';
import { ZERO_TUNING, type ZeroTuning } from './zero-tuning.js';

/**
 * 0: every rank owns all optimiser state. 1: rank r owns slice r. 2: it also keeps slice r of the gradients alone, which are
 * exchanged in every micro-batch. 3: of the parameters too, which are gathered for every use.
 */
export type ZeroStage = 0 | 1 | 2 | 3;

/** How the ranks share the work of a step. */
export interface Strategy {
  readonly zeroStage: ZeroStage;
  readonly mesh: Mesh;
  readonly rank: number;
  /** What is not given is as in {@link ZERO_TUNING}. */
  readonly tuning?: Partial<ZeroTuning>;
}

export const tuningOf = ({ tuning }: Strategy): ZeroTuning => ({ ...ZERO_TUNING, ...tuning });

/** The ranks that reduce gradients together, and this one's place among them: all that ZeRO asks about a mesh. */
export const zeroGroup = ({ mesh, rank }: Strategy): Group => groupOf(mesh, rank, 'zero');

/** Parameters that first and last of a pipeline both have: each adds the other's gradient, one of them counts it into the norm. */
export interface TiedParameters {
  readonly names: ReadonlySet<string>;
  readonly isCounted: boolean;
}

const UNTIED: TiedParameters = { names: new Set(), isCounted: true };
const BYTES = DTYPE_BYTES.f32;

/** Where everything lies; an optimiser that steps whole matrices wants them whole in slices. */
export function layoutFor(
  graph: Graph,
  strategy: Strategy,
  optimizer: OptimizerSettings | null = null,
  storage: StepStorage = {},
): Layout {
  const { size } = zeroGroup(strategy);
  const tuning = tuningOf(strategy);
  const { reduceBucketSize, paramPersistenceThreshold, modelPersistenceThreshold, offloadParam } = tuning;
  const options = {
    ...storage,
    dtype: parameterType(graph),
    isWhole: (parameter: Parameter) => optimizer !== null && isWholeMatrix(optimizer, parameter),
    bucketElementsMax: reduceBucketSize,
  };
  const partitions = strategy.zeroStage === 0 ? 1 : size;
  const layout = layOut(graph.parameters.values(), partitions, options);
  if (!hasSlicedParameters(strategy)) return layout;
  if (offloadParam && (tuning.quantizedWeights || tuning.quantizedNontrainableWeights))
    throw new ConfigError(
      `zero_optimization.zero_quantized_${tuning.quantizedWeights ? '' : 'nontrainable_'}weights`,
      'false beside offload_param',
      true,
      'Slices that are not on the device are gathered as they are',
    );
  // Chances go by place in a bucket: where steps round by chance, nothing may lie elsewhere than at the other stages.
  // Nor where one rank alone has slices, which then are as at the other stages.
  const elementsMax = isByChance(layout) || size === 1 ? 0 : paramPersistenceThreshold;
  const sliced = { elementsMax, totalMax: modelPersistenceThreshold, home: offloadParam && homeOfSlices(offloadParam) };
  return layOut(graph.parameters.values(), partitions, { ...options, sliced });
}

/** Whether ranks keep slices of the gradients: then every micro-batch exchanges, and all ranks must run equally many. */
export function hasSlicedGradients(strategy: Strategy): boolean {
  return strategy.zeroStage >= 2 && zeroGroup(strategy).size > 1;
}

/** Whether ranks keep slices of the parameters, so that programs gather what they read. */
export function hasSlicedParameters(strategy: Strategy): boolean {
  return strategy.zeroStage === 3 && (zeroGroup(strategy).size > 1 || tuningOf(strategy).offloadParam !== null);
}

/** The ranks of this one's machine, where they keep secondary slices of what is gathered again (hpZ). */
export function secondaryGroup({ mesh, rank }: Strategy): Group | null {
  return mesh.zeroInner > 1 ? groupOf(mesh, rank, 'zeroInner') : null;
}

/** The exchanges of gradients in 4 bits. */
export function gradientHops({ mesh, rank }: Strategy): readonly Hop[] {
  return hopsOf(groupOf(mesh, rank, 'zeroInner'), groupOf(mesh, rank, 'zeroOuter'));
}

/** Puts the parameters and gradients of `graph` where the layout says; sliced parameters to where they are gathered. */
export function placeParameters(graph: Graph, layout: Layout, shelf: Shelf): PlacedGraph {
  const places = new Map(shelf.places);
  const put = (name: string, buffer: string, offset: number) => {
    const parameter = graph.parameters.get(name);
    if (parameter) places.set(parameter.tensor, { buffer, offsetBytes: offset * DTYPE_BYTES[layout.dtype] });
  };
  for (const bucket of parameterBuckets(layout))
    for (const { name, offset } of bucket.parameters) {
      if (bucket.isSliced) put(name, wholeRegion(bucket), offset);
      else put(name, 'parameters', bucket.parameterOffset + offset);
    }
  for (const { name, offset } of layout.frozen) put(name, 'parameters', offset);
  for (const [name, { offset }] of placesOf(layout)) {
    const gradient = graph.gradients.get(name);
    if (gradient === undefined) continue;
    // Earlier writes of a tied gradient lie on the same bytes as the last one.
    for (let id: number | null = gradient; id !== null; id = graph.tensors[id]!.continues) {
      places.set(id, { buffer: 'gradients', offsetBytes: offset * BYTES });
    }
  }
  const buffers = new Map([
    ['parameters', layout.parameterElements * DTYPE_BYTES[layout.dtype]],
    ['gradients', layout.elements * BYTES],
    ...shelf.buffers,
  ]);
  return { graph, places, buffers };
}

/** The program that ends a step: gradients of all micro-batches in, stepped parameters out. */
export function updateProgram(
  layout: Layout,
  strategy: Strategy,
  optimizer: OptimizerSettings,
  tied: TiedParameters = UNTIED,
): PlacedGraph {
  const builder = new GraphBuilder();
  const shelf = new Shelf();
  const places = shelf.places;
  const { size, index: place } = zeroGroup(strategy);
  const isShared = size > 1;
  const isPartitioned = isShared && strategy.zeroStage >= 1;
  const isReduced = hasSlicedGradients(strategy);
  const rank = isPartitioned ? place : 0;
  const group = groupIndex('zero');

  const scalar = (name: string) => {
    const tensor = builder.input(name, 'f32', [1]);
    shelf.put('update_scalars', tensor.id, byteLength(tensor));
    return tensor;
  };
  const flat = (name: string, buffer: string, offset: number, elements: number): Tensor => {
    const tensor = builder.input(name, 'f32', [elements], 'state');
    places.set(tensor.id, { buffer, offsetBytes: offset * BYTES });
    return tensor;
  };
  const lr = scalar('lr');
  const step = scalar('step');
  const beta1 = hasScheduledMomentum(optimizer) ? scalar('beta1') : null;
  const squares = scalar('sum_squares');

  for (const { name, offset, length } of placesOf(layout).values()) {
    if (!tied.names.has(name)) continue;
    const gradient = flat(`gradients.${name}`, 'gradients', offset, length);
    const sum = builder.op('all_reduce', name, [gradient], { group: groupIndex('tied'), op: 0 }, 'state')[0]!;
    places.set(sum.id, places.get(gradient.id)!);
  }

  // The bucket whose gradient is ready first goes first: the head, then the blocks from the last to the first.
  const order = layout.buckets.toReversed();
  const slices = order.map((bucket) => {
    if (isReduced) return flat(`gradients.${bucket.name}`, 'gradients', bucket.sliceOffset, bucket.sliceElements);
    const gradient = flat(`gradients.${bucket.name}`, 'gradients', bucket.offset, bucket.elements);
    if (!isShared) return gradient;
    if (!isPartitioned) {
      const sum = builder.op('all_reduce', bucket.name, [gradient], { group, op: 0 }, 'state')[0]!;
      places.set(sum.id, places.get(gradient.id)!);
      return sum;
    }
    const attributes = { group, slice: bucket.sliceElements };
    const slice = builder.op('reduce_scatter', bucket.name, [gradient], attributes, 'state')[0]!;
    places.set(slice.id, { buffer: 'gradients', offsetBytes: (bucket.offset + rank * bucket.sliceElements) * BYTES });
    return slice;
  });

  const tensorGroup = groupOf(strategy.mesh, strategy.rank, 'tensor');
  const tensor = { builder, places, ranks: tensorGroup.size, rank: tensorGroup.index };
  const held = slicesFor(layout, isPartitioned ? rank : null, isReduced);
  const scratch = sumShared(tensor, held);

  const isCounted = ({ parameters }: Bucket) => tied.isCounted || !parameters.some(({ name }) => tied.names.has(name));
  const counted = order.flatMap((bucket, index) => (isCounted(bucket) ? [[bucket.name, slices[index]!] as const] : []));
  let total = squares;
  if (tensor.ranks > 1) {
    const once = held.filter(({ bucket }) => isCounted(bucket));
    total = sumSquaresOnce(tensor, once, scalar);
  } else {
    const parts = counted.flatMap(([name, slice]) =>
      normParts(slice.dims[0]!).map(([start, end]) => {
        if (end - start === slice.dims[0]) return [name, slice] as const;
        const { buffer, offsetBytes } = places.get(slice.id)!;
        return [name, flat(`${buffer}.${name}.${start}`, buffer, offsetBytes / BYTES + start, end - start)] as const;
      }),
    );
    for (const [index, [name, part]] of parts.entries()) {
      const sum = builder.op('sum_squares', name, [part], { accumulate: index === 0 ? 0 : 1 })[0]!;
      places.set(sum.id, places.get(squares.id)!);
    }
    if (counted.length === 0) {
      const none = builder.op('fill', 'gradient_norm', [], { value: 0, elements: 1 })[0]!;
      places.set(none.id, places.get(squares.id)!);
    }
  }
  if (isPartitioned) total = builder.op('all_reduce', 'gradient_norm', [total], { group, op: 0 })[0]!;
  if (strategy.mesh.pipeline > 1)
    total = builder.op('all_reduce', 'gradient_norm', [total], { group: groupIndex('pipeline'), op: 0 })[0]!;
  const scales = layout.dtype === 'f16' ? [scalar('lossScale')] : [];
  const clip = { maxNorm: optimizer.maxGradientNorm };
  const [norm, factor] = builder.op('clip_factor', 'gradient_norm', [total, ...scales], clip);
  shelf.put('update_scalars', norm!.id, byteLength(norm!));
  builder.output('gradientNorm', norm!);

  if (isByChance(layout)) {
    const random = builder.input(RANDOM, 'i32', [3]);
    shelf.put('update_scalars', random.id, byteLength(random));
  }
  const emitter = new StepEmitter(
    builder,
    optimizer,
    { factor: factor!, lr, step, beta1 },
    places,
    layout,
    tensor.rank,
  );
  for (const [index, bucket] of order.entries()) {
    const { name } = bucket;
    const stepped = emitter.step(bucket, rank, slices[index]!);
    if (!isPartitioned || bucket.isSliced) continue;
    const [whole] = builder.op('all_gather', name, [stepped], { group, whole: bucket.elements }, 'state');
    places.set(whole!.id, { buffer: 'parameters', offsetBytes: bucket.parameterOffset * DTYPE_BYTES[layout.dtype] });
  }

  const whole = layout.elements * BYTES;
  const owned = layout.sliceElements * BYTES;
  const sizes: [string, number][] = [
    ['parameters', layout.parameterElements * DTYPE_BYTES[layout.dtype]],
    ['gradients', isReduced ? owned : whole],
    ...(layout.hasMasters ? [['master', owned] as [string, number]] : []),
    ...stateSizes(layout, optimizer),
  ];
  return {
    graph: builder.build(),
    places,
    buffers: new Map([...sizes, ...shelf.buffers]),
    scratch: new Map([...scratch, ...emitter.scratch]),
  };
}

/** Bytes of each buffer of state: what one partition owns. */
function stateSizes(layout: Layout, optimizer: OptimizerSettings): ReadonlyMap<StateBuffer, number> {
  const bytes = DTYPE_BYTES[layout.stateDtype];
  const sizes = new Map<StateBuffer, number>();
  for (const bucket of layout.buckets)
    for (const name of stateBuffers(optimizer, bucket))
      sizes.set(name, Math.max(sizes.get(name) ?? 0, (bucket.stateOffset + bucket.sliceElements) * bytes));
  return sizes;
}
