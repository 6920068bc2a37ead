// Which part of the model each stage of a pipeline works on, turn after turn. Pure arithmetic, known before anything runs.
//
//   p stages, v chunks of the model on each, m micro-batches. Chunk c of stage s is part c · p + s of the model, so that a
//   micro-batch goes round the stages v times.
//
// v = 1 is 1F1B (PipeDream-Flush, arXiv:2006.09503 §2.2): a stage runs ahead by as many forwards as there are stages behind it,
// then takes one backward after each forward, so that it never keeps more than p - s micro-batches. v > 1 is interleaved 1F1B
// (Megatron-LM, arXiv:2104.04473 §2.2.2): micro-batches go in groups of p through chunk after chunk, and what fills and drains
// the pipeline is 1/v as long.
import { ConfigError } from '../../common/index.js';

/** The way that a micro-batch goes through the model. */
export type Phase = 'forward' | 'backward';

/** How many stages, parts and micro-batches a pipeline has. */
export interface PipelineShape {
  readonly stages: number;
  /** Parts of the model on each stage. */
  readonly chunks: number;
  /** Micro-batches of a step. */
  readonly micros: number;
}

/** One run of one part of the model over one micro-batch. */
export interface Turn {
  readonly phase: Phase;
  readonly chunk: number;
  readonly micro: number;
  /** Which of the stage's sets of kept activations of this chunk holds what the forward leaves for the backward. */
  readonly set: number;
}

/** Throws ConfigError for a shape that has no schedule, with the nearest that has. */
export function checkShape({ stages, chunks, micros }: PipelineShape): void {
  for (const [name, value] of Object.entries({ stages, chunks, micros }))
    if (!Number.isSafeInteger(value) || value < 1)
      throw new ConfigError(`pipeline.${name}`, 'a positive integer', value);
  if (chunks === 1 || micros % stages === 0) return;
  const below = micros - (micros % stages);
  throw new ConfigError(
    'pipeline.micros',
    `a multiple of ${stages} stages, in groups of which interleaved chunks take turns`,
    micros,
    `Accumulate ${below > 0 ? `${below} or ` : ''}${below + stages} micro-batches, or take one chunk a stage`,
  );
}

/** What stage `stage` does in a step, in order. */
export function turnsOf(shape: PipelineShape, stage: number): readonly Turn[] {
  checkShape(shape);
  const { stages, chunks, micros } = shape;
  const total = chunks * micros;
  const ahead = chunks === 1 ? stages - 1 - stage : 2 * (stages - 1 - stage) + (chunks - 1) * stages;
  const warmUp = Math.min(ahead, total);
  const turns: Omit<Turn, 'set'>[] = [];
  for (let index = 0; index < total + warmUp; index++) {
    if (index < total) turns.push({ phase: 'forward', ...placeOf(shape, index) });
    if (index >= warmUp) {
      const { chunk, micro } = placeOf(shape, index - warmUp);
      turns.push({ phase: 'backward', chunk: chunks - 1 - chunk, micro });
    }
  }
  return withSets(turns);
}

/** As {@link turnsOf} where no backward follows, so that nothing is kept: the same on every stage. */
export function forwardTurnsOf(shape: PipelineShape): readonly Turn[] {
  checkShape(shape);
  return Array.from({ length: shape.chunks * shape.micros }, (_, index): Turn => {
    return { phase: 'forward', ...placeOf(shape, index), set: 0 };
  });
}

/** How many sets of kept activations the turns need of a chunk. */
export function setCount(turns: readonly Turn[], chunk: number): number {
  return Math.max(0, ...turns.map((turn) => (turn.chunk === chunk ? turn.set + 1 : 0)));
}

/** The share of a step in which a stage has nothing to do, where all parts take equally long. */
export function bubbleShare({ stages, chunks, micros }: PipelineShape): number {
  return (stages - 1) / (chunks * micros + stages - 1);
}

/** The `index`-th forward: chunk after chunk over groups of as many micro-batches as there are stages. */
function placeOf({ stages, chunks }: PipelineShape, index: number): { readonly chunk: number; readonly micro: number } {
  if (chunks === 1) return { chunk: 0, micro: index };
  const inGroup = index % (stages * chunks);
  const group = (index - inGroup) / (stages * chunks);
  return { chunk: Math.floor(inGroup / stages), micro: group * stages + (inGroup % stages) };
}

/** Gives each micro-batch the lowest free set of its chunk from its forward to its backward. */
function withSets(turns: readonly Omit<Turn, 'set'>[]): readonly Turn[] {
  const taken = new Map<number, (number | null)[]>(); // chunk → the micro-batch in each set
  return turns.map((turn) => {
    const sets = taken.get(turn.chunk) ?? [];
    taken.set(turn.chunk, sets);
    if (turn.phase === 'backward') {
      const set = sets.indexOf(turn.micro);
      sets[set] = null;
      return { ...turn, set };
    }
    const free = sets.indexOf(null);
    const set = free < 0 ? sets.length : free;
    sets[set] = turn.micro;
    return { ...turn, set };
  });
}
