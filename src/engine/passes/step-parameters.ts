// The ops that step one rank's slice of a bucket: one op over the whole slice for element-wise optimisers, one per matrix for
// Muon. Which bytes they touch is given by the layout.
import { type GraphBuilder, RANDOM } from '../builder.js';
import { type Attributes, DTYPE_BYTES, DTYPE_CODES, type FloatType, type Tensor, type TensorId } from '../graph.js';
import { type Bucket, isByChance, type Layout, type ParameterPlace } from '../layout.js';
import { type MuonSettings, type OptimizerSettings, stateBuffers } from '../optimizer.js';
import type { Place } from '../plan/placement.js';
import { streamOf } from '../random.js';

/** Inputs of one element that every step has. */
interface StepScalars {
  /** What gradients are multiplied by before anything else (clipping). */
  readonly factor: Tensor;
  readonly lr: Tensor;
  /** Counts from 1. */
  readonly step: Tensor;
}

/** Where a slice lies, in elements: what is stepped (`parameters` themselves or their masters), or rounded of masters. */
interface SlicePlace {
  readonly buffer: 'parameters' | 'master';
  readonly dtype: FloatType;
  readonly offset: number;
}

interface ElementwiseStep {
  readonly kind: string;
  readonly attributes: Attributes;
  readonly scalars: readonly Tensor[];
}

export class StepEmitter {
  readonly #builder: GraphBuilder;
  readonly #optimizer: OptimizerSettings;
  readonly #scalars: StepScalars;
  readonly #places: Map<TensorId, Place>;
  readonly #layout: Layout;
  /** Seed and step, where steps round by chance. */
  readonly #random: readonly Tensor[];
  #adamRate: Tensor | null = null;

  /** Adds to `builder` and `places`, which stay the caller's. */
  constructor(
    builder: GraphBuilder,
    optimizer: OptimizerSettings,
    scalars: StepScalars,
    places: Map<TensorId, Place>,
    layout: Layout,
  ) {
    this.#builder = builder;
    this.#optimizer = optimizer;
    this.#scalars = scalars;
    this.#places = places;
    this.#layout = layout;
    this.#random = isByChance(layout) ? [builder.input(RANDOM, 'i32', [3])] : [];
  }

  /**
   * Steps the slice that `rank` owns, whose gradients are `gradient`; returns the stepped slice of `parameters`. Where there are
   * masters it is those, rounded.
   */
  step(bucket: Bucket, rank: number, gradient: Tensor): Tensor {
    const { dtype, hasMasters, stateDtype } = this.#layout;
    const { name, sliceElements, stateOffset } = bucket;
    const first = rank * sliceElements;
    const offset = bucket.parameterOffset + (bucket.isSliced ? 0 : first);
    const parameters: SlicePlace = { buffer: 'parameters', dtype, offset };
    const at: SlicePlace = hasMasters ? { buffer: 'master', dtype: 'f32', offset: bucket.sliceOffset } : parameters;
    if (this.#optimizer.kind === 'muon' && bucket.isOfMatrices) {
      const owned = bucket.parameters.filter(({ offset }) => offset >= first && offset < first + sliceElements);
      for (const place of owned)
        this.#matrix(this.#optimizer, bucket, place, place.offset - first, gradient, at, parameters);
      return this.#slice(name, parameters, 0, [sliceElements]);
    }
    const parameter = this.#slice(name, at, 0, [sliceElements]);
    const state = stateBuffers(this.#optimizer, bucket).map((buffer) =>
      this.#state(`${buffer}.${name}`, buffer, stateDtype, stateOffset, [sliceElements]),
    );
    const decayEnd = Math.min(Math.max(bucket.decayEnd - first, 0), sliceElements);
    const { kind, attributes, scalars } = this.#elementwise(decayEnd);
    const inputs = [parameter, ...state, gradient, ...scalars, ...this.#random];
    const outputs = this.#builder.op(kind, name, inputs, { ...attributes, ...this.#common(name, first) });
    return hasMasters ? this.#rounded(outputs.at(-1)!, parameters, 0) : outputs[0]!;
  }

  /** What all optimisers are told: whether masters are rounded, and where chances come from. */
  #common(whole: string, first: number): Attributes {
    const rounded = DTYPE_CODES[this.#layout.hasMasters ? this.#layout.dtype : 'f32'];
    return isByChance(this.#layout) ? { rounded, stream: streamOf(whole), first } : { rounded };
  }

  /** Puts what was rounded of masters where programs read it, `start` elements into the slice `at`. */
  #rounded(tensor: Tensor, { buffer, dtype, offset }: SlicePlace, start: number): Tensor {
    this.#places.set(tensor.id, { buffer, offsetBytes: (offset + start) * DTYPE_BYTES[dtype] });
    return tensor;
  }

  #elementwise(decayEnd: number): ElementwiseStep {
    const { factor, lr, step } = this.#scalars;
    const optimizer = this.#optimizer;
    const { weightDecay } = optimizer;
    switch (optimizer.kind) {
      case 'lion': {
        const { kind, beta1, beta2 } = optimizer;
        return { kind, attributes: { beta1, beta2, weightDecay, decayEnd }, scalars: [factor, lr] };
      }
      case 'adagrad': {
        const { kind, eps, lrDecay } = optimizer;
        return { kind, attributes: { eps, lrDecay, weightDecay, decayEnd }, scalars: [factor, lr, step] };
      }
      case 'sgd': {
        const { kind, momentum, dampening, isNesterov } = optimizer;
        const attributes = { momentum, dampening, nesterov: isNesterov ? 1 : 0, weightDecay, decayEnd };
        return { kind, attributes, scalars: [factor, lr, step] };
      }
      case 'adamw': {
        const { kind, beta1, beta2, eps, isDecayDecoupled = true, hasBiasCorrection = true } = optimizer;
        const adamWMode = isDecayDecoupled ? 1 : 0;
        const biasCorrection = hasBiasCorrection ? 1 : 0;
        const attributes = { beta1, beta2, eps, weightDecay, decayEnd, adamWMode, biasCorrection };
        return { kind, attributes, scalars: [factor, lr, step] };
      }
      case 'muon': {
        const { beta1, beta2, eps, rateRatio } = optimizer.adam;
        const attributes = { beta1, beta2, eps, weightDecay, decayEnd, adamWMode: 1, biasCorrection: 1 };
        this.#adamRate ??= this.#builder.op('scale', 'adam', [lr], { factor: rateRatio })[0]!;
        return { kind: 'adamw', attributes, scalars: [factor, this.#adamRate, step] };
      }
    }
  }

  /** One matrix, `start` elements into the slice. */
  #matrix(
    optimizer: MuonSettings,
    bucket: Bucket,
    place: ParameterPlace,
    start: number,
    slice: Tensor,
    at: SlicePlace,
    parameters: SlicePlace,
  ): void {
    const { name, dims } = place;
    const { hasMasters, stateDtype } = this.#layout;
    const { buffer, offsetBytes } = this.#places.get(slice.id)!;
    const from = offsetBytes / DTYPE_BYTES.f32 + start;
    const gradient = this.#state(`gradients.${name}`, buffer, 'f32', from, dims);
    const parameter = this.#slice(name, at, start, dims);
    const [buffered] = stateBuffers(optimizer, bucket);
    const average = this.#state(`${buffered}.${name}`, buffered!, stateDtype, bucket.stateOffset + start, dims);
    const { momentum, isNesterov, iterations, weightDecay } = optimizer;
    // A matrix is whole on its owner, whatever else lies in the slice: its chances are its own.
    const common = this.#common(name, 0);
    const attributes = { momentum, nesterov: isNesterov ? 1 : 0, iterations, weightDecay, ...common };
    const { factor, lr } = this.#scalars;
    const inputs = [parameter, average, gradient, factor, lr, ...this.#random];
    const outputs = this.#builder.op('muon', name, inputs, attributes);
    if (hasMasters) this.#rounded(outputs.at(-1)!, parameters, start);
  }

  #slice(name: string, { buffer, dtype, offset }: SlicePlace, start: number, dims: readonly number[]): Tensor {
    return this.#state(`${buffer}.${name}`, buffer, dtype, offset + start, dims);
  }

  #state(name: string, buffer: string, dtype: FloatType, offset: number, dims: readonly number[]): Tensor {
    const tensor = this.#builder.input(name, dtype, dims, 'state');
    this.#places.set(tensor.id, { buffer, offsetBytes: offset * DTYPE_BYTES[dtype] });
    return tensor;
  }
}
