// What the programs of a step have from outside: rows, what each row counts, and the counters of what is random. Which row of the
// step a micro-batch begins at follows from the mesh alone, so that the same rows are dropped alike wherever they lie.
import { ConfigError } from '../../common/index.js';
import { RANDOM } from '../builder.js';
import type { FloatType } from '../graph.js';
import { coordinatesOf, groupOf } from '../mesh.js';
import type { AnyModel } from '../model.js';
import type { Strategy } from '../passes/zero.js';
import { type Batch, writeBatch } from './batch.js';
import type { Program } from './program.js';
import type { MicroOptions } from './step-options.js';

export interface InputSettings {
  readonly model: AnyModel;
  readonly strategy: Strategy;
  /** Of a micro-batch. */
  readonly rows: number;
  readonly seed: number;
  /** A micro-batch's gradients are its own, since sums over micro-batches are kept elsewhere. */
  readonly clearsGradients: boolean;
}

export class MicroInputs {
  readonly #settings: InputSettings;

  constructor(settings: InputSettings) {
    this.#settings = settings;
  }

  /** Everything that the `micro`-th micro-batch of step `step` has from outside. */
  write(
    program: Program,
    batch: Batch,
    { scale, isFirst, step, micro, lossScale }: Required<MicroOptions> & { readonly micro: number },
  ): void {
    if (!Number.isFinite(scale))
      throw new ConfigError('scale', 'a finite number (1 / labelled rows: is every label masked?)', scale);
    const { model, rows, clearsGradients } = this.#settings;
    const { mesh, rank } = this.#settings.strategy;
    const { size, index } = groupOf(mesh, rank, 'sequence');
    writeBatch(program, batch, model, { ranks: size, rank: index });
    program.setScalar('scale', scale * lossScale);
    program.setScalar('beta', isFirst || clearsGradients ? 0 : 1);
    if (!program.plan.graph.inputs.has(RANDOM)) return;
    const firstRow = (micro * mesh.data + coordinatesOf(mesh, rank).data) * rows;
    program.integers(RANDOM).set([...this.#seedWords(), step, firstRow]);
  }

  /** The update's counter, where it rounds by chance. */
  writeUpdate(program: Program, step: number): void {
    if (program.plan.graph.inputs.has(RANDOM)) program.integers(RANDOM).set([...this.#seedWords(), step]);
  }

  /** Low and high 32 bits: a typed array keeps the low bits of what it is given. */
  #seedWords(): readonly [number, number] {
    const seed = BigInt.asUintN(64, BigInt(this.#settings.seed));
    return [Number(seed & 0xffffffffn), Number(seed >> 32n)];
  }
}

/** Throws ConfigError where gradients of `dtype` cannot be scaled so. */
export function checkLossScale(lossScale: number, dtype: FloatType): void {
  if (!(lossScale > 0) || lossScale === Number.POSITIVE_INFINITY)
    throw new ConfigError('lossScale', 'a positive number', lossScale);
  if (lossScale !== 1 && dtype !== 'f16') throw new ConfigError('lossScale', `1 for a job in ${dtype}`, lossScale);
}
