// Suite `parallel`: collectives beside gloo, steps of several ranks beside PyTorch's DDP and FSDP2 on the same cores, and what
// strategies that share a job out cost beside what the machine allows.
import type { Scene } from '../harness/figure.js';
import { collectiveScenes } from './collectives.js';
import { diskScene } from './disk.js';
import { trainingScenes } from './training.js';

export function parallelSuite(python: string | null): readonly Scene[] {
  return [...collectiveScenes(python), ...trainingScenes(python), diskScene];
}
