// What a process of memory.test.ts trains.
import type { Offload, Recompute, ZeroStage, ZeroTuning } from '#src/engine/index.js';

export interface MemoryCase {
  readonly zeroStage: ZeroStage;
  readonly ranks: number;
  readonly rank: number;
  /** Of the group that the ranks join. */
  readonly group: string;
  readonly recompute: Recompute;
  readonly tuning: Partial<ZeroTuning>;
  readonly offload: Offload;
}
