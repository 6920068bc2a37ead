// Generates instructions with checkable answers: a documented data set that needs no download. The same seed gives the same set.

import { TASKS } from './instruction-tasks.js';
import { randomFrom, seedOf } from './random.js';
import type { InstructionRecord, PlacedRecord } from './records.js';

/** A set of instructions that was made from a seed. */
export interface GeneratedInstructions {
  readonly train: readonly PlacedRecord[];
  /** Questions that no training record asks, in any wording. */
  readonly heldOut: readonly HeldOutInstruction[];
}

/** A question to measure a model by. */
export interface HeldOutInstruction extends PlacedRecord {
  readonly task: string;
  readonly record: Extract<InstructionRecord, { kind: 'alpaca' }>;
}

const HELD_OUT_SHARE = 0.1;

/** Which side a question is on depends on what it asks alone, so no wording of it can be on both. */
const isHeldOut = (task: string, key: string): boolean =>
  randomFrom(seedOf('split', task, key)).next() < HELD_OUT_SHARE;

/** Names of the task kinds, in the order of the documentation. */
export const TASK_KINDS: readonly string[] = Object.keys(TASKS);

/** `train` training records and `heldOut` held-out ones, the kinds in turn. */
export function generateInstructions(options: {
  readonly train: number;
  readonly heldOut: number;
  readonly seed: number;
}): GeneratedInstructions {
  const random = randomFrom(seedOf('instructions', options.seed));
  const draw = (task: string, side: boolean): HeldOutInstruction['record'] => {
    for (;;) {
      const { key, instruction, input, output } = TASKS[task]!(random);
      if (isHeldOut(task, key) === side) return { kind: 'alpaca', instruction, input, output };
    }
  };
  const make = (count: number, side: boolean): HeldOutInstruction[] =>
    Array.from({ length: count }, (_unused, index) => {
      const task = TASK_KINDS[index % TASK_KINDS.length]!;
      return { place: `generated:${index + 1}`, task, record: draw(task, side) };
    });
  return { train: random.shuffle(make(options.train, false)), heldOut: make(options.heldOut, true) };
}
