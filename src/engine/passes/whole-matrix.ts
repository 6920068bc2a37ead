// Matrices that an optimiser steps whole and a tensor group cuts: they are put together in scratch, and what was stepped is taken apart again.
// A cut is rows of parts beside each other, read as [part][row][columns] where the parts lie one behind the other, so that the ops which deal
// heads out to ranks turn one into the other.
import type { GraphBuilder } from '../builder.js';
import { type Attributes, DTYPE_BYTES, elementCount, type FloatType, type Tensor, type TensorId } from '../graph.js';
import { groupIndex } from '../mesh.js';
import type { Place } from '../plan/placement.js';
import { type Cut, copiesOf, heldDims, heldLength, partOf } from '../shard.js';

/** Numbers in one of the buffers of the program. */
export interface Stretch {
  readonly buffer: string;
  readonly dtype: FloatType;
  /** In elements. */
  readonly offset: number;
}

const PARTS = 'whole_matrix.parts';

export class WholeMatrices {
  /** Bytes of each buffer of scratch, by name. */
  readonly scratch = new Map<string, number>();
  readonly #builder: GraphBuilder;
  readonly #places: Map<TensorId, Place>;
  readonly #rank: number;

  /** Adds to `builder` and `places`, which stay the caller's. `rank`: the place in the tensor group. */
  constructor(builder: GraphBuilder, places: Map<TensorId, Place>, rank: number) {
    this.#builder = builder;
    this.#places = places;
    this.#rank = rank;
  }

  /** The whole of what ranks have at `own`, in scratch of the name `use`. */
  gather(use: string, name: string, cut: Cut, own: Stretch): Tensor {
    const slot = this.#slot(use, name, cut, own, this.#rank);
    const whole = { whole: cut.ranks * slot.dims[0]!, columns: columnsOf(cut) };
    const [parts] = this.#builder.op('all_gather', name, [slot], { group: groupIndex('tensor'), ...whole }, 'state');
    this.#put(parts!, { buffer: PARTS, dtype: own.dtype, offset: 0 });
    return this.#join(use, name, cut, parts!, own.dtype);
  }

  /** As gather(), with this rank's part alone where it belongs: of what an op changes number by number the others are never looked at. */
  place(use: string, name: string, cut: Cut, own: Stretch): Tensor {
    const { dims } = this.#slot(use, name, cut, own, this.#rank - (this.#rank % copiesOf(cut)));
    const columns = columnsOf(cut);
    const at = { buffer: PARTS, dtype: own.dtype, offset: 0 };
    const parts = this.#view(`${use}.${name}.parts`, at, [(cut.ranks * dims[0]!) / columns, columns]);
    return this.#join(use, name, cut, parts, own.dtype);
  }

  /** Scratch for a whole that an op will write. */
  room(use: string, cut: Cut, dtype: FloatType): Stretch {
    this.#reserve(use, elementCount(cut.dims) * DTYPE_BYTES[dtype]);
    return { buffer: bufferOf(use), dtype, offset: 0 };
  }

  /** This rank's part of the whole in scratch `use` goes to `own`. */
  take(use: string, name: string, cut: Cut, own: Stretch): Tensor {
    const { parts } = cut;
    const columns = columnsOf(cut);
    const whole = { buffer: bufferOf(use), dtype: own.dtype, offset: 0 };
    const rows = this.#view(`${use}.${name}.stepped`, whole, [
      elementCount(cut.dims) / (parts * columns),
      parts * columns,
    ]);
    const [dealt] = this.#builder.op('heads_to_parts', name, [rows], headsOf(parts, columns), 'state');
    this.#put(dealt!, { buffer: PARTS, dtype: own.dtype, offset: 0 });
    const length = elementCount(heldDims(cut));
    const at = { buffer: PARTS, dtype: own.dtype, offset: partOf(cut, this.#rank) * length };
    return this.#copy(name, this.#view(`${use}.${name}.taken`, at, [length]), own);
  }

  /** A copy of this rank's part in the place of `rank` among the parts of all ranks. */
  #slot(use: string, name: string, cut: Cut, own: Stretch, rank: number): Tensor {
    const length = elementCount(heldDims(cut));
    this.#reserve('parts', cut.ranks * length * DTYPE_BYTES[own.dtype]);
    const at = { buffer: PARTS, dtype: own.dtype, offset: rank * length };
    return this.#copy(name, this.#view(`${use}.${name}.own`, own, [length]), at);
  }

  /** The whole of the parts of all ranks. Those that have the same come one behind the other: their rows follow the first one's, and are left behind the whole. */
  #join(use: string, name: string, cut: Cut, parts: Tensor, dtype: FloatType): Tensor {
    const columns = columnsOf(cut);
    const attributes = { ...headsOf(cut.parts, columns), qWidth: cut.parts * columns };
    const [joined] = this.#builder.op('parts_to_heads', name, [parts], attributes, 'state');
    const at = { buffer: bufferOf(use), dtype, offset: 0 };
    this.#reserve(use, copiesOf(cut) * elementCount(cut.dims) * DTYPE_BYTES[dtype]);
    this.#put(joined!, at);
    return this.#view(`${use}.${name}.whole`, at, cut.dims);
  }

  #copy(name: string, from: Tensor, to: Stretch): Tensor {
    return this.#put(this.#builder.op('scale', name, [from], { factor: 1 }, 'state')[0]!, to);
  }

  #view(name: string, at: Stretch, dims: readonly number[]): Tensor {
    return this.#put(this.#builder.input(name, at.dtype, dims, 'state'), at);
  }

  #put(tensor: Tensor, { buffer, dtype, offset }: Stretch): Tensor {
    this.#places.set(tensor.id, { buffer, offsetBytes: offset * DTYPE_BYTES[dtype] });
    return tensor;
  }

  #reserve(use: string, bytes: number): void {
    const buffer = bufferOf(use);
    this.scratch.set(buffer, Math.max(this.scratch.get(buffer) ?? 0, bytes));
  }
}

const bufferOf = (use: string): string => `whole_matrix.${use}`;

/** Columns of a row of one part: numbers that follow each other in the whole too. */
function columnsOf(cut: Cut): number {
  return (heldLength(cut) / cut.blocks) * elementCount(cut.dims.slice(cut.dim + 1));
}

const headsOf = (parts: number, columns: number): Attributes => ({
  ...{ parts, heads: parts, headDim: columns, qOffset: 0, qHeadStride: columns },
  ...{ kvHeads: 0, kOffset: 0, kHeadStride: 0, vOffset: 0, vHeadStride: 0 },
});
