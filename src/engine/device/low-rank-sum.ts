// w + factor * B A on a device: how adapters are added into weights. The product is that of a gradient by a weight, with the
// rank in the place of the rows.
import type { NativeDevice } from '../../native/index.js';
import { GraphBuilder } from '../builder.js';
import { byteLength } from '../graph.js';
import { Shelf } from '../plan/placement.js';
import { plan } from '../plan/plan.js';
import { DeviceBuffers } from './buffers.js';
import { Program } from './program.js';

/** A matrix, and the two narrow ones whose product is added to it. */
export interface LowRankChange {
  /** [outputs, inputs], or [inputs, outputs] when transposed. */
  readonly w: Float32Array;
  readonly dims: readonly [number, number];
  readonly isTransposed: boolean;
  /** [rank, inputs] */
  readonly a: Float32Array;
  /** [outputs, rank] */
  readonly b: Float32Array;
  readonly rank: number;
  readonly factor: number;
}

/** Sums one matrix at a time; keeps a program per shape, of which models have few. */
export class LowRankSum implements Disposable {
  readonly #device: NativeDevice;
  readonly #loaded = new Map<string, { readonly program: Program; readonly buffers: DeviceBuffers }>();

  /** The device stays the caller's. */
  constructor(device: NativeDevice) {
    this.#device = device;
  }

  /** Returns a copy of `w` with factor * B A added. */
  async add(change: LowRankChange): Promise<Float32Array> {
    const { w, a, b, rank, factor } = change;
    const { program } = this.#programFor(change);
    program.floats('a').set(a);
    // B^T, scaled: what a gradient by the output would be.
    const outputs = b.length / rank;
    const left = program.floats('b');
    for (let o = 0; o < outputs; o++) for (let k = 0; k < rank; k++) left[k * outputs + o] = factor * b[o * rank + k]!;
    program.floats('beta')[0] = 1;
    program.floats('w').set(w);
    await program.run();
    return program.floats('w').slice();
  }

  #programFor({ dims, isTransposed, rank }: LowRankChange) {
    const key = [...dims, isTransposed, rank].join();
    const known = this.#loaded.get(key);
    if (known) return known;
    const [first, second] = dims;
    const [outputs, inputs] = isTransposed ? [second, first] : [first, second];
    const builder = new GraphBuilder();
    const a = builder.input('a', 'f32', [rank, inputs]);
    const b = builder.input('b', 'f32', [rank, outputs]);
    const beta = builder.input('beta', 'f32', [1]);
    const attributes = { transposed: isTransposed ? 1 : 0, accumulate: 1, hasBias: 0 };
    const [w] = builder.op('linear_backward_weight', 'merge', [a, b, beta], attributes);
    builder.output('w', w!);
    const shelf = new Shelf();
    for (const tensor of [a, b, beta, w!]) shelf.put('merge', tensor.id, byteLength(tensor));
    const planned = plan({ graph: builder.build(), places: shelf.places, buffers: shelf.buffers });
    const buffers = new DeviceBuffers(this.#device);
    buffers.reserve([planned]);
    const loaded = { program: new Program(this.#device, planned, buffers), buffers };
    this.#loaded.set(key, loaded);
    return loaded;
  }

  [Symbol.dispose](): void {
    for (const { program, buffers } of this.#loaded.values()) {
      program.dispose();
      buffers.dispose();
    }
    this.#loaded.clear();
  }
}
