// What a model loses on records that it does not learn from, measured between two steps by the workers that train it; which of these
// measurements is the best, and when it has been that for too long.
import { coordinatesOf } from '../engine/index.js';
import type { Feed } from './feed.js';
import { lossOverRanks } from './loss-over-ranks.js';
import type { Share } from './prepare.js';
import type { RankGroup } from './rank-group.js';
import type { TrainerSettings } from './trainer-options.js';

export type EvaluationSettings = NonNullable<TrainerSettings['run']['evaluation']>;

/** One measurement. */
export interface HeldOutLoss {
  /** Steps done. */
  readonly step: number;
  /** Mean over the labels of all held-out records, nats per token for a language model. Not a number where one is not finite. */
  readonly loss: number;
}

/** Micro-batches of a worker in one order: what is laid out for it at a time. */
const MICROS_PER_ORDER = 16;

/** The mean loss with the weights as they are now. All records of `feed` count once, whatever the number of workers. */
export async function measureHeldOut(group: RankGroup, { batch, plan }: Share, feed: Feed): Promise<number> {
  const { mesh, pipeline } = plan;
  const { microBatch } = batch;
  // A pipeline takes as many as in a step, or a multiple; padding makes up for the rest.
  const unit = mesh.pipeline > 1 ? pipeline.micros : 1;
  const perOrder = unit * Math.max(1, Math.floor(MICROS_PER_ORDER / unit));
  const perWorker = Math.ceil(feed.rows.rowsPerEpoch / (mesh.data * microBatch));
  const labelCount = feed.rows.labelCount(0, feed.rows.rowsPerEpoch);
  let sum = 0;
  for (let first = 0; first < perWorker; first += perOrder) {
    const count = Math.min(perOrder, unit * Math.ceil((perWorker - first) / unit));
    const parts = await group.all((rank, index) => {
      const place = coordinatesOf(mesh, index).data;
      return rank.evaluate(labelCount, feed.passOver({ first, count }, place, mesh.data, microBatch));
    });
    sum += lossOverRanks(mesh, parts);
  }
  return sum;
}

/** The lowest loss, the first of equals; null where none was measured. */
export function bestOf(measured: readonly HeldOutLoss[]): HeldOutLoss | null {
  const finite = measured.filter(({ loss }) => Number.isFinite(loss));
  return finite.reduce<HeldOutLoss | null>((best, each) => (best && best.loss <= each.loss ? best : each), null);
}

/** Whether so many measurements in a row were no better than one before them. */
export function isStale(measured: readonly HeldOutLoss[], patience: number | null): boolean {
  if (patience === null || measured.length < patience) return false;
  const best = bestOf(measured);
  return measured.length - 1 - (best ? measured.indexOf(best) : -1) >= patience;
}
