// When parameters that ranks keep in slices are whole: from which instruction to which, and where their gathering begins. Pure.
//
// Every use of a bucket needs it whole. Between two uses it is released, unless the way is short (maxReuseDistance) and the room is
// there (maxLiveParameters). Gathering begins ahead of the first use, at the first use of an earlier bucket, as far as
// prefetchBucketSize elements may wait. DeepSpeed does the same at run time (partitioned_param_coordinator.py).
import type { ZeroTuning } from './zero-tuning.js';

export interface GatheredBucket {
  readonly elements: number;
  /** What is used together with it is no reason to release it. */
  readonly block: string;
}

/** An instruction that reads parameters of the bucket with this index. */
export interface Visit {
  readonly bucket: number;
  readonly op: number;
}

/** A bucket is whole from before instruction `first` to behind instruction `last`. */
export interface Residence {
  readonly bucket: number;
  readonly first: number;
  readonly last: number;
  /** The instruction before which gathering begins. */
  readonly gatherAt: number;
}

/** The same, by position in the list of visits. */
interface Stay {
  readonly bucket: number;
  first: number;
  last: number;
  gatherAt: number;
}

/** From one use of a bucket to its next. */
interface Gap {
  readonly bucket: number;
  readonly from: number;
  readonly to: number;
  /** Elements of other blocks that are used meanwhile. */
  readonly distance: number;
}

type Tuning = Pick<ZeroTuning, 'overlapComm' | 'prefetchBucketSize' | 'maxLiveParameters' | 'maxReuseDistance'>;

/** `visits` are in the order of instructions. The result is in the order of gathering, which is that of first use. */
export function planGathers(
  buckets: readonly GatheredBucket[],
  visits: readonly Visit[],
  tuning: Tuning,
): readonly Residence[] {
  const live = new Float64Array(visits.length); // elements that are whole at each visit
  const stays = joinUses(buckets, visits, tuning, live);
  if (tuning.overlapComm) gatherAhead(buckets, stays, tuning, live);
  return stays.map(({ bucket, first, last, gatherAt }) => ({
    bucket,
    first: visits[first]!.op,
    last: visits[last]!.op,
    gatherAt: visits[gatherAt]!.op,
  }));
}

/** The stays of every bucket, by first use; `live` is filled in. */
function joinUses(
  buckets: readonly GatheredBucket[],
  visits: readonly Visit[],
  { maxReuseDistance, maxLiveParameters }: Tuning,
  live: Float64Array,
): Stay[] {
  const gaps: Gap[] = [];
  const isJoined = new Set<number>(); // visits that go on with the stay before
  const lastVisit = new Map<number, number>();
  for (const [index, { bucket }] of visits.entries()) {
    live[index]! += buckets[bucket]!.elements;
    const before = lastVisit.get(bucket);
    lastVisit.set(bucket, index);
    if (before === undefined) continue;
    const between = new Set(visits.slice(before + 1, index).map((visit) => visit.bucket));
    let distance = 0;
    for (const other of between)
      if (buckets[other]!.block !== buckets[bucket]!.block) distance += buckets[other]!.elements;
    gaps.push({ bucket, from: before, to: index, distance });
  }
  // To fetch it again would move more than is used meanwhile: what is so near stays in any case.
  const isNear = ({ bucket, distance }: Gap) => distance < buckets[bucket]!.elements;
  const optional = gaps.filter((gap) => !isNear(gap) && gap.distance < maxReuseDistance);
  for (const gap of [...gaps.filter(isNear), ...optional.toSorted((a, b) => a.distance - b.distance)]) {
    const { bucket, from, to } = gap;
    const { elements } = buckets[bucket]!;
    const between = live.subarray(from + 1, to);
    if (!isNear(gap) && between.some((sum) => sum + elements > maxLiveParameters)) continue;
    for (const index of between.keys()) between[index]! += elements;
    isJoined.add(to);
  }
  const stays: Stay[] = [];
  const open = new Map<number, Stay>();
  for (const [index, { bucket }] of visits.entries()) {
    const stay = open.get(bucket);
    if (stay && isJoined.has(index)) stay.last = index;
    else {
      const next = { bucket, first: index, last: index, gatherAt: index };
      open.set(bucket, next);
      stays.push(next);
    }
  }
  return stays;
}

function gatherAhead(
  buckets: readonly GatheredBucket[],
  stays: readonly Stay[],
  { prefetchBucketSize, maxLiveParameters }: Tuning,
  live: Float64Array,
): void {
  const lastEnd = new Map<number, number>();
  let earliest = 0; // gathers begin in the order in which they are needed
  for (const [number, stay] of stays.entries()) {
    const { elements } = buckets[stay.bucket]!;
    const from = Math.max(earliest, (lastEnd.get(stay.bucket) ?? -1) + 1);
    let waiting = 0;
    for (let other = number - 1; other >= 0 && waiting < prefetchBucketSize; other--) {
      const { first, bucket } = stays[other]!;
      if (first < from) break;
      const isRoom = live.subarray(first, stay.gatherAt).every((sum) => sum + elements <= maxLiveParameters);
      if (!isRoom) break;
      for (let at = first; at < stay.gatherAt; at++) live[at]! += elements;
      stay.gatherAt = first;
      waiting += buckets[bucket]!.elements;
    }
    earliest = stay.gatherAt;
    lastEnd.set(stay.bucket, stay.last);
  }
}
