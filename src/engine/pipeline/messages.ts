// What the stages of a pipeline send each other, and how long it waits: a replay of the schedule with given lengths of turns.
import type { Phase, PipelineShape, Turn } from './schedule.js';
import { turnsOf } from './schedule.js';

/** Where the result of a turn goes, or where what it needs comes from: a stage and its chunk. */
export interface Neighbour {
  readonly stage: number;
  readonly chunk: number;
}

/** The part of the model that reads what this turn of `stage` makes; null where the model, or its gradient, ends. */
export function readerOf(shape: PipelineShape, stage: number, { phase, chunk }: Turn): Neighbour | null {
  return at(shape, chunk * shape.stages + stage + (phase === 'forward' ? 1 : -1));
}

/** The part that makes what this turn of `stage` reads; null where it reads the batch alone. */
export function writerOf(shape: PipelineShape, stage: number, { phase, chunk }: Turn): Neighbour | null {
  return at(shape, chunk * shape.stages + stage - (phase === 'forward' ? 1 : -1));
}

/** How a schedule goes where turns have given lengths. */
export interface Replay {
  /** From the first turn of any stage to the end of the last. */
  readonly length: number;
  /** Per stage: the share of that in which it waits. */
  readonly idleShares: readonly number[];
  /** Most messages that a stage has got of a kind and not yet begun to read: the slots that keep its peers from waiting. */
  readonly waitingMax: Readonly<Record<Phase, number>>;
}

/** Every turn starts as soon as its stage is free and its message is there; messages take no time. */
export function replay(shape: PipelineShape, lengths: Readonly<Record<Phase, number>>): Replay {
  const lists = Array.from({ length: shape.stages }, (_, stage) => turnsOf(shape, stage));
  const next = lists.map(() => 0);
  const freeAt = lists.map(() => 0);
  const ends = new Map<string, number>();
  const messages = lists.map((): Record<Phase, Wait[]> => ({ forward: [], backward: [] }));
  let left = lists.reduce((sum, { length }) => sum + length, 0);
  while (left > 0) {
    const before = left;
    for (const [stage, turns] of lists.entries()) {
      for (let turn = turns[next[stage]!]; turn; turn = turns[next[stage]!]) {
        const writer = writerOf(shape, stage, turn);
        const ready = writer ? ends.get(key(writer, turn)) : 0;
        if (ready === undefined) break;
        const start = Math.max(freeAt[stage]!, ready);
        if (writer) messages[stage]![turn.phase].push({ from: ready, to: start });
        freeAt[stage] = start + lengths[turn.phase];
        ends.set(key({ stage, chunk: turn.chunk }, turn), freeAt[stage]!);
        next[stage]!++;
        left--;
      }
    }
    if (left === before) throw new Error(`the schedule of ${JSON.stringify(shape)} waits for itself`);
  }
  const length = Math.max(...freeAt);
  const busy = shape.chunks * shape.micros * (lengths.forward + lengths.backward);
  const most = (phase: Phase) => Math.max(...messages.map((of) => mostWaiting(of[phase])));
  return {
    length,
    idleShares: freeAt.map(() => 1 - busy / length),
    waitingMax: { forward: most('forward'), backward: most('backward') },
  };
}

interface Wait {
  readonly from: number;
  readonly to: number;
}

/** Messages are read in the order in which they come: whoever has come when one is read, it included, was waiting. */
function mostWaiting(messages: readonly Wait[]): number {
  let most = 0;
  let come = 0;
  for (const [index, { to }] of messages.entries()) {
    while (come < messages.length && messages[come]!.from <= to) come++;
    most = Math.max(most, come - index);
  }
  return most;
}

function at({ stages, chunks }: PipelineShape, part: number): Neighbour | null {
  if (part < 0 || part >= stages * chunks) return null;
  return { stage: part % stages, chunk: Math.floor(part / stages) };
}

function key({ stage, chunk }: Neighbour, { phase, micro }: Turn): string {
  return `${phase} ${stage} ${chunk} ${micro}`;
}
