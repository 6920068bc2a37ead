// A profile of training steps as a table for people: kinds of instructions, the slowest first.

import { showAmount } from '../engine/index.js';
import type { KindProfile, StepProfile } from '../train/index.js';
import { table } from './output.js';

/** The first worker's table, the limits it is read against, and a line for each worker where there are several. */
export function profileText(profiles: readonly StepProfile[]): string {
  const first = profiles[0]!;
  const { limits, seconds } = first;
  const total = first.kinds.reduce((sum, kind) => sum + kind.seconds, 0);
  const rate = (type: 'f32' | 'bf16') => showAmount(limits.flopsPerSecond[type], 'FLOP/s');
  return [
    `${first.steps} step${first.steps === 1 ? '' : 's'} of ${milliseconds(seconds)} ms; limits now: ${rate('f32')} (bf16 ${rate('bf16')}), ${showAmount(limits.bytesPerSecond, 'B/s')}`,
    '',
    table(
      ['instruction', 'count', 'ms', 'share', 'arithmetic', 'memory', 'of limit'],
      first.kinds.map((kind) => row(kind, total)),
    ),
    '',
    ...profiles.map(
      (profile, worker) =>
        `worker ${worker}: ${milliseconds(profile.seconds)} ms a step, exchanges ${milliseconds(profile.communicationSeconds)} ms, ${milliseconds(profile.exposedCommunicationSeconds)} ms of it exposed${offload(profile)}`,
    ),
  ].join('\n');
}

function row(kind: KindProfile, total: number): readonly string[] {
  return [
    kind.kind,
    `${Number(kind.count.toFixed(1))}`,
    milliseconds(kind.seconds),
    `${((100 * kind.seconds) / total).toFixed(1)} %`,
    showAmount(Math.round(kind.flops), 'FLOP'),
    showAmount(Math.round(kind.bytes), 'B'),
    kind.limitShare === null ? '–' : `${(100 * kind.limitShare).toFixed(0)} %`,
  ];
}

const milliseconds = (seconds: number): string => (1000 * seconds).toFixed(2);

function offload({ offloadSeconds, exposedOffloadSeconds }: StepProfile): string {
  if (offloadSeconds === 0) return '';
  return `, offload ${milliseconds(offloadSeconds)} ms, ${milliseconds(exposedOffloadSeconds)} ms of it exposed`;
}
