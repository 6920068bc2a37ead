// The ops that step one rank's slice of a bucket: one op over the whole slice for element-wise optimisers, one per matrix for
// Muon. Which bytes they touch is given by the layout.
import { type GraphBuilder, RANDOM } from '../builder.js';
import { type Attributes, DTYPE_BYTES, DTYPE_CODES, type FloatType, type Tensor, type TensorId } from '../graph.js';
import { type Bucket, isByChance, type Layout, type ParameterPlace } from '../layout.js';
import { type MuonSettings, type OptimizerSettings, stateBuffers } from '../optimizer.js';
import type { Place } from '../plan/placement.js';
import { streamOf } from '../random.js';
import { WholeMatrices } from './whole-matrix.js';

/** Inputs of one element that every step has. */
interface StepScalars {
  /** What gradients are multiplied by before anything else (clipping). */
  readonly factor: Tensor;
  readonly lr: Tensor;
  /** Counts from 1. */
  readonly step: Tensor;
  /** Null where it stays as the settings say. */
  readonly beta1: Tensor | null;
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
  /** Of matrices that the tensor group cuts. */
  readonly #whole: WholeMatrices;
  #adamRate: Tensor | null = null;

  /** Adds to `builder` and `places`, which stay the caller's. `tensorRank`: the place in the tensor group. */
  constructor(
    builder: GraphBuilder,
    optimizer: OptimizerSettings,
    scalars: StepScalars,
    places: Map<TensorId, Place>,
    layout: Layout,
    tensorRank: number,
  ) {
    this.#whole = new WholeMatrices(builder, places, tensorRank);
    this.#builder = builder;
    this.#optimizer = optimizer;
    this.#scalars = scalars;
    this.#places = places;
    this.#layout = layout;
    this.#random = isByChance(layout) ? [builder.input(RANDOM, 'i32', [3])] : [];
  }

  /** Bytes of each buffer of scratch that the steps need, by name. */
  get scratch(): ReadonlyMap<string, number> {
    return this.#whole.scratch;
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
    const { factor, lr, step, beta1: moved } = this.#scalars;
    const momentum = moved === null ? [] : [moved];
    const optimizer = this.#optimizer;
    const { weightDecay } = optimizer;
    switch (optimizer.kind) {
      case 'lion': {
        const { kind, beta1, beta2 } = optimizer;
        return { kind, attributes: { beta1, beta2, weightDecay, decayEnd }, scalars: [factor, lr, ...momentum] };
      }
      case 'adagrad': {
        const { kind, eps, lrDecay } = optimizer;
        return { kind, attributes: { eps, lrDecay, weightDecay, decayEnd }, scalars: [factor, lr, step] };
      }
      case 'sgd': {
        const { kind, dampening, isNesterov } = optimizer;
        const attributes = {
          momentum: optimizer.momentum,
          dampening,
          nesterov: isNesterov ? 1 : 0,
          weightDecay,
          decayEnd,
        };
        return { kind, attributes, scalars: [factor, lr, step] };
      }
      case 'adamw': {
        const { kind, beta1, beta2, eps, isDecayDecoupled = true, hasBiasCorrection = true } = optimizer;
        const adamWMode = isDecayDecoupled ? 1 : 0;
        const biasCorrection = hasBiasCorrection ? 1 : 0;
        const attributes = { beta1, beta2, eps, weightDecay, decayEnd, adamWMode, biasCorrection };
        return { kind, attributes, scalars: [factor, lr, step, ...momentum] };
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
    const { name, dims, cut } = place;
    const { hasMasters, stateDtype } = this.#layout;
    const { buffer, offsetBytes } = this.#places.get(slice.id)!;
    const [buffered] = stateBuffers(optimizer, bucket);
    const own = {
      parameter: { ...at, offset: at.offset + start },
      average: { buffer: buffered!, dtype: stateDtype, offset: bucket.stateOffset + start },
      gradient: { buffer, dtype: 'f32', offset: offsetBytes / DTYPE_BYTES.f32 + start },
      rounded: { ...parameters, offset: parameters.offset + start },
    } as const;
    const { momentum, isNesterov, iterations, weightDecay } = optimizer;
    // A matrix is whole on its owner, whatever else lies in the slice: its chances are its own.
    const common = this.#common(name, 0);
    const attributes = { momentum, nesterov: isNesterov ? 1 : 0, iterations, weightDecay, ...common };
    const { factor, lr } = this.#scalars;
    const scalars = [factor, lr, ...this.#random];
    if (!cut || cut.parts === 1) {
      const view = (of: 'parameter' | 'average' | 'gradient') =>
        this.#state(`${own[of].buffer}.${name}`, own[of].buffer, own[of].dtype, own[of].offset, dims);
      const inputs = [view('parameter'), view('average'), view('gradient'), ...scalars];
      const outputs = this.#builder.op('muon', name, inputs, attributes);
      if (hasMasters) this.#rounded(outputs.at(-1)!, parameters, start);
      return;
    }
    // The direction is that of the whole matrix: every rank finds it from all momenta and gradients, and goes its part of it.
    const whole = this.#whole;
    const inputs = [
      whole.place('parameter', name, cut, own.parameter),
      whole.gather('average', name, cut, own.average),
      whole.gather('gradient', name, cut, own.gradient),
      ...scalars,
    ];
    const outputs = this.#builder.op('muon', name, inputs, attributes);
    whole.take('parameter', name, cut, own.parameter);
    whole.take('average', name, cut, own.average);
    if (!hasMasters) return;
    const { buffer: room } = whole.room('rounded', cut, parameters.dtype);
    this.#places.set(outputs.at(-1)!.id, { buffer: room, offsetBytes: 0 });
    whole.take('rounded', name, cut, own.rounded);
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
