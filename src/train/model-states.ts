// What the states of a model alone need of each worker, by the formulas of the ZeRO paper: before there is a model. Pure.
import { ConfigError } from '../common/index.js';
import type { ZeroStage } from '../engine/index.js';

/** Bytes of a parameter, of its gradient, and of Adam's state (f32 master, two moments): arXiv:1910.02054 §3.1, K = 12. */
const PARAMETER = 2;
const GRADIENT = 2;
const OPTIMIZER = 12;

/** Ψ parameters over N workers: 16Ψ; 4Ψ + 12Ψ/N; 2Ψ + 14Ψ/N; 16Ψ/N. arXiv:1910.02054 §5, Figure 1. */
export function modelStateBytes(parameters: number, workers: number, stage: ZeroStage): number {
  if (!(parameters >= 1)) throw new ConfigError('parameters', 'a positive number', parameters);
  if (!Number.isSafeInteger(workers) || workers < 1) throw new ConfigError('workers', 'a positive integer', workers);
  const share = (from: ZeroStage) => (stage >= from ? parameters / workers : parameters);
  return OPTIMIZER * share(1) + GRADIENT * share(2) + PARAMETER * share(3);
}
