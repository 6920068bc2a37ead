// The state of a training job as pieces, in and out of a rank's memory: what one rank packs for another, and what a rank makes of all
// that came for it. Who carries the bytes is the caller's business.
import type { ParameterSlice } from '../layout.js';
import {
  type Arrival,
  heldPieces,
  neededPieces,
  type RankJob,
  type StateMove,
  type StatePiece,
  type Stretch,
} from '../state-moves.js';
import type { TrainStep } from './train-step.js';

/** What one rank sends another: stretches of its pieces, one behind the other. */
export type Outgoing = readonly Pick<StateMove, 'source' | 'stretches'>[];

/** What one rank gets from another: where the stretches of its message belong, in their order. */
export type Incoming = readonly { readonly target: StatePiece; readonly stretches: readonly Stretch[] }[];

/** The pieces of {@link Arrival}s that go from one holder to one rank, as either of them needs them. */
export function messageOf(
  arrivals: readonly Arrival[],
  from: number,
  to: number,
): { readonly outgoing: Outgoing; readonly incoming: Incoming } {
  const own = arrivals
    .filter((arrival) => arrival.to === to)
    .flatMap(({ target, moves }) => moves.filter((move) => move.from === from).map((move) => ({ ...move, target })));
  return {
    outgoing: own.map(({ source, stretches }) => ({ source, stretches })),
    incoming: own.map(({ target, stretches }) => ({ target, stretches })),
  };
}

/** State in and out of the memory of one rank. */
export class StateExchange {
  readonly #train: TrainStep;
  readonly #slices: ReadonlyMap<string, ParameterSlice>;

  /** `train` stays the caller's. Not while a step is under way. */
  constructor(train: TrainStep) {
    this.#train = train;
    this.#slices = new Map(train.slices.map((slice) => [slice.name, slice]));
  }

  get #job(): RankJob {
    const { compiled, strategy, optimizer } = this.#train;
    return { layout: compiled.layout, strategy, optimizer };
  }

  get held(): readonly StatePiece[] {
    return heldPieces(this.#job);
  }

  get needed(): readonly StatePiece[] {
    return neededPieces(this.#job);
  }

  /** The message of `outgoing`, in f32, which holds every type of state exactly. */
  pack(outgoing: Outgoing): Float32Array {
    const message = new Float32Array(outgoing.reduce((sum, { stretches }) => sum + lengthOf(stretches), 0));
    let at = 0;
    for (const { source: piece, stretches } of outgoing) {
      const values = this.#read(piece);
      for (const { source, length } of stretches) {
        message.set(values.subarray(source, source + length), at);
        at += length;
      }
    }
    return message;
  }

  /** Sets all that this rank needs from messages that together have all of it. `updates`: steps that it has seen. */
  unpack(messages: readonly { readonly incoming: Incoming; readonly values: Float32Array }[], updates: number): void {
    const parts = new Map<string, { target: StatePiece; stretches: readonly Stretch[]; values: Float32Array }[]>();
    for (const { incoming, values } of messages) {
      let at = 0;
      for (const { target, stretches } of incoming) {
        const length = lengthOf(stretches);
        const key = `${target.name}/${target.kind}`;
        const part = { target, stretches, values: values.subarray(at, at + length) };
        parts.set(key, [...(parts.get(key) ?? []), part]);
        at += length;
      }
      if (at !== values.length) throw new Error(`a message of ${values.length} elements where ${at} were to come`);
    }
    for (const known of parts.values()) {
      const { target } = known[0]!;
      const values = new Float32Array(target.length);
      for (const part of known) {
        let at = 0;
        for (const { target: to, length } of part.stretches) {
          values.set(part.values.subarray(at, at + length), to);
          at += length;
        }
      }
      this.write(target, values);
    }
    this.#train.updates = updates;
  }

  /** Sets one of the pieces that this rank needs. */
  write({ name, kind }: StatePiece, values: Float32Array): void {
    if (kind === 'parameter') this.#train.parameters.loadPart(name, values);
    else this.#train.writeState(kind, this.#slices.get(name)!, values);
  }

  #read({ name, kind }: StatePiece): Float32Array {
    const { parameters, compiled } = this.#train;
    const isKept = kind === 'parameter' && !compiled.layout.hasMasters && parameters.partOf(name)?.isAll;
    return isKept ? parameters.read(name) : this.#train.readState(kind, this.#slices.get(name)!);
  }
}

function lengthOf(stretches: readonly Stretch[]): number {
  return stretches.reduce((sum, { length }) => sum + length, 0);
}
