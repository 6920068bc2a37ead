// A profile of training steps as tables for people: kinds of instructions, the slowest first, and exchanges by kind and size.
import { inColumns } from '../common/index.js';
import { type CollectiveProfile, type KindProfile, type StepProfile, showAmount } from '../engine/index.js';

/** What the tables of a profile show. */
export interface ProfileTextOptions {
  /** How many kinds of instructions are shown, the slowest. Default: all. */
  readonly kindsMax?: number | null;
  /** Which exchanges have a table: all, or those of these kinds. Default: none. */
  readonly collectives?: 'all' | readonly string[] | null;
}

/** The first worker's tables, the limits they are read against, and a line for each worker. */
export function profileText(
  profiles: readonly StepProfile[],
  { kindsMax = null, collectives = null }: ProfileTextOptions = {},
): string {
  const first = profiles[0]!;
  const { limits, seconds } = first;
  const total = first.kinds.reduce((sum, kind) => sum + kind.seconds, 0);
  const rate = (type: 'f32' | 'bf16') => showAmount(limits.flopsPerSecond[type], 'FLOP/s');
  const exchanges = first.collectives.filter(({ kind }) => collectives === 'all' || (collectives ?? []).includes(kind));
  return [
    `${first.steps} step${first.steps === 1 ? '' : 's'} of ${milliseconds(seconds)} ms; limits now: ${rate('f32')} (bf16 ${rate('bf16')}), ${showAmount(limits.bytesPerSecond, 'B/s')}`,
    '',
    ...inColumns([
      ['instruction', 'count', 'ms', 'share', 'arithmetic', 'memory', 'of limit'],
      ...first.kinds.slice(0, kindsMax ?? undefined).map((kind) => kindRow(kind, total)),
    ]),
    '',
    ...(exchanges.length === 0
      ? []
      : [
          ...inColumns([
            ['exchange', 'message', 'ranks', 'count', 'ms', 'mean ms', 'throughput', 'bus'],
            ...exchanges.map(exchangeRow),
          ]),
          '',
        ]),
    ...profiles.map(
      (profile, worker) =>
        `worker ${worker}: ${milliseconds(profile.seconds)} ms a step, exchanges ${milliseconds(profile.communicationSeconds)} ms, ${milliseconds(profile.exposedCommunicationSeconds)} ms of it exposed${offload(profile)}`,
    ),
  ].join('\n');
}

function kindRow(kind: KindProfile, total: number): readonly string[] {
  return [
    kind.kind,
    showCount(kind.count),
    milliseconds(kind.seconds),
    `${((100 * kind.seconds) / total).toFixed(1)} %`,
    showAmount(Math.round(kind.flops), 'FLOP'),
    showAmount(Math.round(kind.bytes), 'B'),
    kind.limitShare === null ? '–' : `${(100 * kind.limitShare).toFixed(0)} %`,
  ];
}

/**
 * Throughput and bus bandwidth as DeepSpeed's comms_logger has them (deepspeed/utils/comms_logging.py; the bus as in NCCL's
 * tests): what a rank's link would have to carry, so that they compare across numbers of ranks.
 */
function exchangeRow({ kind, bytes, ranks, count, seconds }: CollectiveProfile): readonly string[] {
  const perSecond = seconds === 0 ? 0 : (bytes * count) / seconds;
  const others = (ranks - 1) / ranks;
  const [throughput, bus] =
    kind === 'all_reduce'
      ? [2 * perSecond, 2 * others * perSecond]
      : ['all_gather', 'reduce_scatter', 'all_to_all'].includes(kind)
        ? [perSecond, others * perSecond]
        : [perSecond, perSecond];
  return [
    kind,
    showAmount(bytes, 'B'),
    String(ranks),
    showCount(count),
    milliseconds(seconds),
    milliseconds(seconds / count),
    showAmount(Math.round(throughput), 'B/s'),
    showAmount(Math.round(bus), 'B/s'),
  ];
}

const showCount = (count: number): string => `${Number(count.toFixed(1))}`;

const milliseconds = (seconds: number): string => (1000 * seconds).toFixed(2);

function offload({ offloadSeconds, exposedOffloadSeconds }: StepProfile): string {
  if (offloadSeconds === 0) return '';
  return `, offload ${milliseconds(offloadSeconds)} ms, ${milliseconds(exposedOffloadSeconds)} ms of it exposed`;
}
