// The resources of ranks: set aside together, as many as there is room for.
import { setTimeout as sleep } from 'node:timers/promises';
import { drainingNodes, type GetOptions, type PlacementGroup, placementGroup } from '../client/index.js';
import { GetTimeoutError, InfeasibleError, TrainingError } from '../common/index.js';
import type { TrainerSettings } from './trainer-options.js';

type Scaling = Pick<TrainerSettings['scaling'], 'cpusPerWorker' | 'gpusPerWorker' | 'placement'>;

/**
 * How long room for many workers is waited for before fewer will do: what just ended gives its own back within moments, and a node whose
 * stream broke either comes back or is lost.
 */
const ROOM_WAIT_MS = 10_000;
/** Then how long for each smaller number. */
const NEXT_WAIT_MS = 1000;
/** Resources are free, or they are not: nothing is waited for. */
const FREE_WAIT_MS = 500;
/** How often who waits asks why. */
const REASON_INTERVAL_MS = 1000;

/** How the least room that will do is waited for. */
export interface RoomWait {
  /** For nodes too: that those there are could never hold it is no reason to give up. */
  readonly isPatient: boolean;
  /** Null: as long as it takes. */
  readonly seconds: number | null;
  /** Told why, and again when the reason changes. */
  readonly onWait: (workers: number, reason: string) => void;
  readonly signal?: AbortSignal;
}

const reservesNothing = ({ cpusPerWorker, gpusPerWorker }: Scaling): boolean => cpusPerWorker + gpusPerWorker === 0;

/** Half a group of ranks is of no use: the cores and GPUs of all of them are set aside, or none. */
function askFor(workers: number, scaling: Scaling, isPatient: boolean): Promise<PlacementGroup> {
  const { cpusPerWorker: cpus, gpusPerWorker: gpus, placement } = scaling;
  return placementGroup({
    bundles: Array.from({ length: workers }, () => ({ cpus, gpus })),
    strategy: placement === 'spread' ? 'SPREAD' : 'PACK',
    infeasible: isPatient ? 'wait' : 'refuse',
  });
}

/**
 * Room for the first of `counts` (largest first) that the cluster holds; for the last of them it waits. `room` is null where ranks reserve
 * nothing. Rejects with {@link InfeasibleError} where the nodes could never hold the last, unless the wait is patient; with
 * {@link TrainingError} where it was waited for long enough.
 */
export async function findRoom(
  counts: readonly number[],
  scaling: Scaling,
  wait: RoomWait,
): Promise<{ readonly workers: number; readonly room: PlacementGroup | null }> {
  if (reservesNothing(scaling)) return { workers: counts[0]!, room: null };
  const { signal } = wait;
  let timeoutMs = ROOM_WAIT_MS;
  for (const workers of counts.slice(0, -1)) {
    const room = await roomWithin(workers, scaling, { timeoutMs, ...(signal && { signal }) });
    if (room) return { workers, room };
    timeoutMs = NEXT_WAIT_MS;
  }
  const workers = counts.at(-1)!;
  return { workers, room: await waitFor(await askFor(workers, scaling, wait.isPatient), workers, wait) };
}

/** The room once it is set aside. */
async function waitFor(room: PlacementGroup, workers: number, wait: RoomWait): Promise<PlacementGroup> {
  const { seconds, signal } = wait;
  const over = new AbortController();
  let last = 'its nodes are not there';
  const telling = tellReasons(room, over.signal, (reason) => {
    last = reason;
    wait.onWait(workers, reason);
  });
  try {
    return await orRemoved(room, {
      ...(seconds !== null && { timeoutMs: seconds * 1000 }),
      ...(signal && { signal }),
    });
  } catch (cause) {
    if (!(cause instanceof GetTimeoutError)) throw cause;
    const group = workers === 1 ? 'one worker' : `${workers} workers`;
    throw new TrainingError(
      {
        detail: `no room for ${group} within ${seconds} s (run.failure.joinTimeoutSeconds): ${last}. Start a node that has it and run again with run.resume, which goes on from the last checkpoint; or give scaling.workers a range { min, max }, which goes on with fewer`,
      },
      { cause },
    );
  } finally {
    over.abort();
    await telling;
  }
}

/** Tells why `room` waits, whenever that is another reason than before, until `signal` is aborted. */
async function tellReasons(room: PlacementGroup, signal: AbortSignal, tell: (reason: string) => void): Promise<void> {
  let last = '';
  for (;;) {
    await sleep(REASON_INTERVAL_MS, null, { signal }).catch(() => {}); // looked at below
    if (signal.aborted) return;
    // A head that does not answer is told by the wait itself.
    const reason = await room.info().then(
      (info) => info.reason,
      () => '',
    );
    if (signal.aborted || reason === '' || reason === last) continue;
    last = reason;
    tell(reason);
  }
}

/** Where an actor runs: a bundle of resources that were set aside. */
export interface Seat {
  readonly room: PlacementGroup;
  readonly bundleIndex: number;
}

export const seatsOf = (room: PlacementGroup, count: number): readonly Seat[] =>
  Array.from({ length: count }, (_, bundleIndex) => ({ room, bundleIndex }));

/** Those of `seats`, which nobody sits on, that are set aside on nodes that stay. */
export async function usableSeats(seats: readonly Seat[]): Promise<readonly Seat[]> {
  const draining = drainingNodes();
  const infos = await Promise.all(seats.map(({ room }) => room.info()));
  return seats.filter((seat, index) => {
    const { nodeId } = infos[index]!.bundles[seat.bundleIndex]!;
    return nodeId !== null && !draining.has(nodeId);
  });
}

/** Room for the first of `counts` more workers (largest first) that is free now; null where there is for none. As for {@link findRoom}. */
export async function findFreeRoom(
  counts: readonly number[],
  scaling: Scaling,
): Promise<{ readonly workers: number; readonly room: PlacementGroup | null } | null> {
  if (counts.length > 0 && reservesNothing(scaling)) return { workers: counts[0]!, room: null };
  for (const workers of counts) {
    const room = await roomWithin(workers, scaling, { timeoutMs: FREE_WAIT_MS });
    if (room) return { workers, room };
  }
  return null;
}

async function roomWithin(workers: number, scaling: Scaling, options: GetOptions): Promise<PlacementGroup | null> {
  try {
    return await orRemoved(await askFor(workers, scaling, false), options);
  } catch (error) {
    if (error instanceof InfeasibleError || error instanceof GetTimeoutError) return null;
    throw error;
  }
}

/** The room once it is set aside; where that fails nothing is asked for any more. */
async function orRemoved(room: PlacementGroup, options: GetOptions): Promise<PlacementGroup> {
  try {
    return await room.ready(options);
  } catch (error) {
    await room.remove();
    throw error;
  }
}
