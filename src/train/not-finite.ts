// Losses and gradients that are not finite: whether a step may stand all the same, and what the user is told.
import { EngineError } from '../common/index.js';
import { coordinatesOf, type FloatType } from '../engine/index.js';
import type { Feed } from './feed.js';
import type { Share } from './prepare.js';
import type { StepReport } from './rank-messages.js';

/** Whether a step may stand: one in 16 bits may have been skipped; in bf16, which has the range of f32, not for its loss. */
export function isSound(dtype: FloatType, loss: number, isSkipped: boolean): boolean {
  if (dtype === 'f16' && isSkipped) return true;
  return Number.isFinite(loss) && (dtype === 'bf16' || !isSkipped);
}

/** Names the step, the record of the first token whose loss is not finite, and the op that made the number. */
export function notFinite(
  feed: Feed,
  { batch, plan: { mesh } }: Share,
  sequenceLength: number,
  step: number,
  loss: number,
  reports: readonly StepReport[],
): EngineError {
  const rank = Math.max(
    0,
    reports.findIndex(({ fault }) => fault !== null),
  );
  const { fault, gradientNorm } = reports[rank]!;
  const { microBatch, trainBatch } = batch;
  let where = `rows ${step * trainBatch} to ${(step + 1) * trainBatch - 1}`;
  const { data, sequence } = coordinatesOf(mesh, rank);
  if (fault && fault.token >= 0) {
    const token = fault.token + (sequence * microBatch * sequenceLength) / mesh.sequence;
    const row = Math.floor(token / sequenceLength);
    const index = step * trainBatch + (fault.micro * mesh.data + data) * microBatch + row;
    where = `${feed.placeOf(index, token % sequenceLength) ?? 'padding'} (row ${index})`;
  }
  const first = fault?.cause ?? originOf(reports);
  const cause = first === null ? '' : `, first in ${first}`;
  return new EngineError({
    detail: `step ${step + 1}: the loss is ${loss} and the gradient's norm ${gradientNorm}, at ${where}${cause}. Lower the learning rate, or look at the record`,
    rank,
  });
}

/** Of what several ranks found, the lowest instruction of the first micro-batch: what came behind it has spread. */
function originOf(reports: readonly StepReport[]): string | null {
  const found = reports.flatMap(({ origin }, rank) => (origin ? [{ ...origin, rank }] : []));
  const [first] = found.sort((a, b) => a.micro - b.micro || a.instruction - b.instruction);
  return first ? `${first.message}, on rank ${first.rank}` : null;
}
