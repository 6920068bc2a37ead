// Suite `parallel`: what strategies that share a job out cost, beside what the machine allows.
import type { Scene } from '../harness/figure.js';
import { diskScene } from './disk.js';

export function parallelSuite(_python: string | null): readonly Scene[] {
  return [diskScene];
}
