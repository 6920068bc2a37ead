// What the training figures of one and of several ranks have in common: a folder with the model, goals, and that both sides did the
// same work.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Sample } from '../harness/figure.js';

export type Precision = 'fp32' | 'bf16';

/** Steps of raylite over the peer's. */
export const GOAL: Readonly<Record<Precision, number>> = { fp32: 2.2, bf16: 1.5 };

/** Both start from the same weights; rounding drifts apart from step to step. */
const LOSS_TOLERANCE: Readonly<Record<Precision, number>> = { fp32: 2e-2, bf16: 1e-1 };

/** Makes `folder` anew, with the config.json that both sides read. */
export function writeConfig(folder: string, config: Readonly<Record<string, unknown>>): void {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
}

/** Throws where the losses of a step are not the same on both sides. */
export const sameLosses =
  (precision: Precision) =>
  (ours: readonly Sample[], peer: readonly Sample[]): void => {
    for (const [step, sample] of ours.entries()) {
      const [own, other] = [Number(sample.loss), Number(peer[step]!.loss)];
      if (!(Math.abs(own - other) <= LOSS_TOLERANCE[precision]))
        throw new Error(`step ${step + 1}: our loss is ${own}, the peer's ${other}: not the same work`);
    }
  };
