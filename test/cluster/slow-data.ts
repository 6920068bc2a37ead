// Data that comes late: what makes one worker of a run let the others wait.
import { setTimeout } from 'node:timers/promises';
import { type ObjectRef, task } from '#src/client/index.js';
import type { Minibatch } from '#src/data/index.js';
import type { Recipe } from '#src/train/index.js';

/** A task: gives `batches` on after `ms`. */
export async function withhold(batches: Minibatch[], ms: number): Promise<Minibatch[]> {
  await setTimeout(ms);
  return batches;
}

/** `recipe`, whose micro-batches of one step and data coordinate come `ms` late. */
export function lateAt(
  recipe: Recipe,
  late: { readonly step: number; readonly place: number; readonly ms: number },
): Recipe {
  return {
    ...recipe,
    prepare: async (chosen) => {
      const prepared = await recipe.prepare(chosen);
      const { feed } = prepared;
      const given = feed.microBatches.bind(feed);
      feed.microBatches = (step, place, places, batch): ObjectRef<Minibatch[]> => {
        const batches = given(step, place, places, batch);
        return step === late.step && place === late.place ? task(withhold, { cpus: 0 })(batches, late.ms) : batches;
      };
      return prepared;
    },
  };
}
