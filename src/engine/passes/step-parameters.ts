// The ops that step one rank's slice of a bucket: one op over the whole slice for element-wise optimisers, one per matrix for
// Muon. Which bytes they touch is given by the layout.
import type { GraphBuilder } from '../builder.js';
import { type Attributes, DTYPE_BYTES, DTYPE_CODES, type FloatType, type Tensor, type TensorId } from '../graph.js';
import type { Bucket, ParameterPlace } from '../layout.js';
import { type MuonSettings, type OptimizerSettings, stateBuffers } from '../optimizer.js';
import type { Place } from '../plan/placement.js';

const BYTES = DTYPE_BYTES.f32;

/** Inputs of one element that every step has. */
interface StepScalars {
  /** What gradients are multiplied by before anything else (clipping). */
  readonly factor: Tensor;
  readonly lr: Tensor;
  /** Counts from 1. */
  readonly step: Tensor;
}

/** Where the f32 numbers of a slice lie that are stepped: in `parameters` itself, or in their masters. */
interface SteppedPlace {
  readonly buffer: 'parameters' | 'master';
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
  readonly #dtype: FloatType;
  #adamRate: Tensor | null = null;

  /** Adds to `builder` and `places`, which stay the caller's. */
  constructor(
    builder: GraphBuilder,
    optimizer: OptimizerSettings,
    scalars: StepScalars,
    places: Map<TensorId, Place>,
    dtype: FloatType,
  ) {
    this.#builder = builder;
    this.#optimizer = optimizer;
    this.#scalars = scalars;
    this.#places = places;
    this.#dtype = dtype;
  }

  /**
   * Steps the slice that `rank` owns, whose gradients are `gradient`; returns the stepped slice of `parameters`. Parameters of
   * 16 bits are their masters, rounded.
   */
  step(bucket: Bucket, rank: number, gradient: Tensor): Tensor {
    const start = bucket.offset + rank * bucket.sliceElements;
    if (this.#dtype === 'f32') return this.#stepped(bucket, rank, gradient, { buffer: 'parameters', offset: start });
    const stepped = this.#stepped(bucket, rank, gradient, { buffer: 'master', offset: bucket.sliceOffset });
    // AdamW rounds while it steps; behind the others a pass of its own does.
    const isRounded = stepped.dtype === this.#dtype;
    const rounded = isRounded ? stepped : this.#builder.cast(bucket.name, stepped, this.#dtype);
    this.#places.set(rounded.id, { buffer: 'parameters', offsetBytes: start * DTYPE_BYTES[this.#dtype] });
    return rounded;
  }

  /** The stepped slice at `at`, or the rounded one that the optimiser made of it. */
  #stepped(bucket: Bucket, rank: number, gradient: Tensor, at: SteppedPlace): Tensor {
    const { name, sliceElements, stateOffset } = bucket;
    const parameter = this.#state(`${at.buffer}.${name}`, at.buffer, at.offset, [sliceElements]);
    if (this.#optimizer.kind === 'muon' && bucket.isOfMatrices) {
      const first = rank * sliceElements;
      const owned = bucket.parameters.filter(({ offset }) => offset >= first && offset < first + sliceElements);
      for (const place of owned) this.#matrix(this.#optimizer, bucket, place, place.offset - first, gradient, at);
      return parameter;
    }
    const state = stateBuffers(this.#optimizer, bucket).map((buffer) =>
      this.#state(`${buffer}.${name}`, buffer, stateOffset, [sliceElements]),
    );
    const decayEnd = Math.min(Math.max(bucket.decayEnd - rank * sliceElements, 0), sliceElements);
    const { kind, attributes, scalars } = this.#elementwise(decayEnd);
    const outputs = this.#builder.op(kind, name, [parameter, ...state, gradient, ...scalars], attributes);
    return outputs.find(({ dtype }) => dtype === this.#dtype) ?? outputs[0]!;
  }

  #elementwise(decayEnd: number): ElementwiseStep {
    const { factor, lr, step } = this.#scalars;
    const optimizer = this.#optimizer;
    const { weightDecay } = optimizer;
    const rounded = DTYPE_CODES[this.#dtype];
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
        const attributes = { beta1, beta2, eps, weightDecay, decayEnd, adamWMode, biasCorrection, rounded };
        return { kind, attributes, scalars: [factor, lr, step] };
      }
      case 'muon': {
        const { beta1, beta2, eps, rateRatio } = optimizer.adam;
        const attributes = { beta1, beta2, eps, weightDecay, decayEnd, adamWMode: 1, biasCorrection: 1, rounded };
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
    at: SteppedPlace,
  ): void {
    const { name, dims } = place;
    const { buffer, offsetBytes } = this.#places.get(slice.id)!;
    const gradient = this.#state(`gradients.${name}`, buffer, offsetBytes / BYTES + start, dims);
    const parameter = this.#state(`${at.buffer}.${name}`, at.buffer, at.offset + start, dims);
    const [buffered] = stateBuffers(optimizer, bucket);
    const average = this.#state(`${buffered}.${name}`, buffered!, bucket.stateOffset + start, dims);
    const { momentum, isNesterov, iterations, weightDecay } = optimizer;
    const attributes = { momentum, nesterov: isNesterov ? 1 : 0, iterations, weightDecay };
    const { factor, lr } = this.#scalars;
    this.#builder.op('muon', name, [parameter, average, gradient, factor, lr], attributes);
  }

  #state(name: string, buffer: string, offset: number, dims: readonly number[]): Tensor {
    const tensor = this.#builder.input(name, 'f32', dims, 'state');
    this.#places.set(tensor.id, { buffer, offsetBytes: offset * BYTES });
    return tensor;
  }
}
