// Where the time of a step goes: seconds of every kind of instruction beside what the machine could do at best. Pure.
import { placed } from '../autodiff.js';
import { byteLength, type FloatType, isFloatType } from '../graph.js';
import { defaultCost, type OpRule, type PlacedOp, ruleOf } from '../ops/index.js';
import type { Plan } from '../plan/plan.js';
import { COMMUNICATION, COMPUTE, COPY, DISK, HOST, STREAMS } from '../plan/schedule.js';

/** What a device does at best, all threads together. */
export interface Limits {
  /** Floating-point operations per second from registers, by the type that is multiplied. */
  readonly flopsPerSecond: Readonly<Record<FloatType, number>>;
  /** Bytes per second read from memory that no cache holds. */
  readonly bytesPerSecond: number;
}

/** All instructions of one kind, per step. */
export interface KindProfile {
  readonly kind: string;
  readonly count: number;
  readonly seconds: number;
  /** Arithmetic and memory traffic by the rules of the ops. */
  readonly flops: number;
  readonly bytes: number;
  /**
   * Least seconds by the limits (per instruction the larger of arithmetic and traffic) over `seconds`. Above 1 where operands
   * came from a cache. Null for exchanges between workers and for the disk.
   */
  readonly limitShare: number | null;
}

/** All exchanges of one kind and size within groups of one size, per step. */
export interface CollectiveProfile {
  readonly kind: string;
  /** Of the whole tensor: what all ranks have together of one that is gathered or scattered. */
  readonly bytes: number;
  readonly ranks: number;
  readonly count: number;
  /** Waiting for slower workers counts. */
  readonly seconds: number;
}

/** Means over the profiled steps of one worker. */
export interface StepProfile {
  readonly steps: number;
  /** Of the instructions in their order, exchanges overlapped; what the host does between programs is not in it. */
  readonly seconds: number;
  readonly communicationSeconds: number;
  /** The part of `communicationSeconds` in which no other instruction ran. Waiting for slower workers counts. */
  readonly exposedCommunicationSeconds: number;
  /**
   * Of copies between device and host, of the disk, and beside a GPU of what the host computes; and the part of it in which the device neither
   * computed nor exchanged.
   */
  readonly offloadSeconds: number;
  readonly exposedOffloadSeconds: number;
  readonly limits: Limits;
  /** By seconds, most first. */
  readonly kinds: readonly KindProfile[];
  /** By kind and size. */
  readonly collectives: readonly CollectiveProfile[];
}

/** Adds up the seconds of the instructions of runs. */
export class StepProfiler {
  readonly #runs = new Map<Plan, Float64Array>();
  #seconds = 0;
  #communicationSeconds = 0;
  #exposedSeconds = 0;
  #offloadSeconds = 0;
  #exposedOffloadSeconds = 0;
  readonly #groupSize: (group: number) => number;

  readonly #isHost: boolean;

  /** `groupSize`: how many ranks exchange where an op has this attribute `group`; `isHost`: the device is the host, and makes its part too. */
  constructor(groupSize: (group: number) => number = () => 1, isHost = true) {
    this.#groupSize = groupSize;
    this.#isHost = isHost;
  }

  /** One run of `plan`: `seconds[i]` are those of instruction i. */
  add(plan: Plan, seconds: Float64Array): void {
    const sums = this.#runs.get(plan) ?? new Float64Array(seconds.length + 1);
    seconds.forEach((value, index) => {
      sums[index]! += value;
    });
    sums[seconds.length]! += 1; // runs
    this.#runs.set(plan, sums);
    const streams = plan.schedule.streams.map((stream) => (this.#isHost && stream === HOST ? COMPUTE : stream));
    const busy = (stream: number) => seconds.reduce((sum, value, i) => (streams[i] === stream ? sum + value : sum), 0);
    const makespan = replay(plan, streams, seconds);
    this.#seconds += makespan;
    this.#communicationSeconds += busy(COMMUNICATION);
    // What it would take if exchanges took no time.
    const alone = replay(plan, streams, seconds, COMMUNICATION);
    this.#exposedSeconds += Math.max(0, makespan - alone);
    this.#offloadSeconds += busy(COPY) + busy(DISK) + busy(HOST);
    this.#exposedOffloadSeconds += Math.max(0, alone - busy(COMPUTE));
  }

  /** Per step, of `steps` steps. */
  summary(steps: number, limits: Limits): StepProfile {
    const collectives = new Map<string, CollectiveProfile>();
    const kinds = new Map<string, { count: number; seconds: number; flops: number; bytes: number; least: number }>();
    for (const [{ graph }, sums] of this.#runs) {
      const runs = sums.at(-1)!;
      for (const [index, op] of graph.ops.entries()) {
        const call = placed(graph, op);
        const { flops, bytes } = (ruleOf(op.kind).cost ?? defaultCost)(call);
        const kind = kinds.get(op.kind) ?? { count: 0, seconds: 0, flops: 0, bytes: 0, least: 0 };
        kind.count += runs / steps;
        kind.seconds += sums[index]! / steps;
        kind.flops += (runs * flops) / steps;
        kind.bytes += (runs * bytes) / steps;
        kind.least += (runs * leastSeconds(call, { flops, bytes }, limits)) / steps;
        kinds.set(op.kind, kind);
        if (ruleOf(op.kind).isCollective)
          addCollective(collectives, call, this.#groupSize(op.attributes.group!), {
            count: runs / steps,
            seconds: sums[index]! / steps,
          });
      }
    }
    return {
      steps,
      seconds: this.#seconds / steps,
      communicationSeconds: this.#communicationSeconds / steps,
      exposedCommunicationSeconds: this.#exposedSeconds / steps,
      offloadSeconds: this.#offloadSeconds / steps,
      exposedOffloadSeconds: this.#exposedOffloadSeconds / steps,
      limits,
      kinds: [...kinds]
        .map(([kind, { least, ...figures }]) => ({
          kind,
          ...figures,
          limitShare: isElsewhere(ruleOf(kind)) || figures.seconds === 0 ? null : least / figures.seconds,
        }))
        .sort((a, b) => b.seconds - a.seconds),
      collectives: [...collectives.values()].sort((a, b) =>
        a.kind === b.kind ? a.bytes - b.bytes || a.ranks - b.ranks : a.kind < b.kind ? -1 : 1,
      ),
    };
  }
}

function addCollective(
  collectives: Map<string, CollectiveProfile>,
  { kind, inputs, outputs }: PlacedOp,
  ranks: number,
  { count, seconds }: { readonly count: number; readonly seconds: number },
): void {
  const bytes = Math.max(0, ...[...inputs, ...outputs].map(byteLength));
  const key = `${kind} ${bytes} ${ranks}`;
  const sum = collectives.get(key) ?? { kind, bytes, ranks, count: 0, seconds: 0 };
  collectives.set(key, { ...sum, count: sum.count + count, seconds: sum.seconds + seconds });
}

/** Whether an op is bound by other limits than those of arithmetic and memory: networks, disks. */
function isElsewhere({ isCollective, moves }: OpRule): boolean {
  return isCollective === true || moves === 'disk';
}

function leastSeconds(
  call: PlacedOp,
  cost: { readonly flops: number; readonly bytes: number },
  limits: Limits,
): number {
  const type = call.inputs.map(({ dtype }) => dtype).find(isFloatType) ?? 'f32';
  return Math.max(cost.flops / limits.flopsPerSecond[type], cost.bytes / limits.bytesPerSecond);
}

/**
 * When the last instruction ends, if each takes its seconds and starts once its stream and what it waits for are through. Those of the
 * stream `timeless`, if any, take none.
 */
function replay({ schedule }: Plan, streams: readonly number[], seconds: Float64Array, timeless = -1): number {
  const ends = new Float64Array(seconds.length);
  const free = STREAMS.map(() => 0);
  for (const [index, stream] of streams.entries()) {
    const start = schedule.waits[index]!.reduce((latest, wait) => Math.max(latest, ends[wait]!), free[stream]!);
    ends[index] = start + (stream === timeless ? 0 : seconds[index]!);
    free[stream] = ends[index]!;
  }
  return Math.max(...free);
}
