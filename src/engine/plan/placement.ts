// Where tensors that outlive a program lie: a named buffer and a byte offset. The planner decides for all others.
import type { Graph, TensorId } from '../graph.js';

/** Where a tensor begins. */
export interface Place {
  readonly buffer: string;
  readonly offsetBytes: number;
}

/** A graph whose lasting tensors have their places. */
export interface PlacedGraph {
  readonly graph: Graph;
  readonly places: ReadonlyMap<TensorId, Place>;
  /** Bytes of each buffer that `places` mentions. */
  readonly buffers: ReadonlyMap<string, number>;
  /** Bytes of buffers that `places` mentions and that live in the arena, from the first to the last op that touches them. */
  readonly scratch?: ReadonlyMap<string, number>;
  /** Those of `buffers` that lie in the memory of the host. Default: none. */
  readonly host?: ReadonlySet<string>;
}

/** Packs tensors one after the other, each on a boundary of 64 bytes. */
export class Shelf {
  readonly places = new Map<TensorId, Place>();
  readonly #used = new Map<string, number>();

  /** Puts a tensor of `bytes` into `buffer` and returns its place. */
  put(buffer: string, id: TensorId, bytes: number): Place {
    const offsetBytes = this.#used.get(buffer) ?? 0;
    const place = { buffer, offsetBytes };
    this.places.set(id, place);
    this.#used.set(buffer, offsetBytes + Math.ceil(bytes / 64) * 64);
    return place;
  }

  get buffers(): ReadonlyMap<string, number> {
    return this.#used;
  }
}
