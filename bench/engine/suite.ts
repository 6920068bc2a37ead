// Suite `engine`: what one device does, beside PyTorch + Transformers, single ops, and the limits of the machine.
import type { Scene } from '../harness/figure.js';
import { generationScenes } from './generation.js';
import { opScenes } from './ops.js';
import { trainingScenes } from './training.js';

export function engineSuite(python: string | null): readonly Scene[] {
  return [...trainingScenes(python), ...generationScenes(python), ...opScenes()];
}
