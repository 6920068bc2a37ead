// Ops that come behind a piece of work and may wait until the next piece is on its way: copies back, writes, and what reads their
// results. Streams run in order, so that what is emitted later keeps nobody waiting before.
import { byteLength, type Op, type Tensor, type TensorId } from '../graph.js';
import type { Place } from '../plan/placement.js';

interface Access {
  readonly key: string;
  readonly start: number;
  readonly end: number;
  readonly isWrite: boolean;
}

export class DeferredOps {
  readonly #groups: Op[][] = [];
  readonly #accesses: Access[][] = [];
  readonly #tensors: readonly Tensor[];
  readonly #placeOf: (id: TensorId) => Place | undefined;

  /** Both may come to know more. */
  constructor(tensors: readonly Tensor[], placeOf: (id: TensorId) => Place | undefined) {
    this.#tensors = tensors;
    this.#placeOf = placeOf;
  }

  get groups(): number {
    return this.#groups.length;
  }

  /** Opens a group of ops that go together. */
  open(ops: readonly Op[]): void {
    this.#groups.push([...ops]);
    this.#accesses.push(ops.flatMap((op) => this.#accessesOf(op)));
  }

  /** Adds `op` to the last group if it has to come after something deferred. */
  takes(op: Op): boolean {
    if (!this.precedes(op)) return false;
    this.#groups.at(-1)!.push(op);
    this.#accesses.at(-1)!.push(...this.#accessesOf(op));
    return true;
  }

  /** Whether something deferred writes what `op` touches, or touches what it writes. */
  precedes(op: Op): boolean {
    const known = this.#accesses.flat();
    return this.#accessesOf(op).some((access) =>
      known.some(
        (other) =>
          other.key === access.key &&
          other.start < access.end &&
          access.start < other.end &&
          (other.isWrite || access.isWrite),
      ),
    );
  }

  /** The ops of the oldest groups, until `keep` are left. */
  release(keep: number): readonly Op[] {
    const count = Math.max(0, this.#groups.length - keep);
    this.#accesses.splice(0, count);
    return this.#groups.splice(0, count).flat();
  }

  #accessesOf(op: Op): readonly Access[] {
    const access = (id: TensorId, isWrite: boolean): Access => {
      const place = this.#placeOf(id);
      const start = place?.offsetBytes ?? 0;
      const end = start + byteLength(this.#tensors[id]!);
      return { key: place ? `@${place.buffer}` : `${id}`, start, end, isWrite };
    };
    return [...op.inputs.map((id) => access(id, false)), ...op.outputs.map((id) => access(id, true))];
  }
}
