// The resources of ranks: set aside together, as many as there is room for.
import { type GetOptions, type PlacementGroup, placementGroup } from '../client/index.js';
import { GetTimeoutError, InfeasibleError } from '../common/index.js';
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
 * nothing. Rejects with {@link InfeasibleError} where the nodes could never hold the last, unless `isPatient`: then it waits for nodes.
 */
export async function findRoom(
  counts: readonly number[],
  scaling: Scaling,
  isPatient: boolean,
  signal: AbortSignal | undefined,
): Promise<{ readonly workers: number; readonly room: PlacementGroup | null }> {
  if (scaling.cpusPerWorker + scaling.gpusPerWorker === 0) return { workers: counts[0]!, room: null };
  let timeoutMs = ROOM_WAIT_MS;
  for (const workers of counts.slice(0, -1)) {
    const room = await roomWithin(workers, scaling, { timeoutMs, ...(signal && { signal }) });
    if (room) return { workers, room };
    timeoutMs = NEXT_WAIT_MS;
  }
  const workers = counts.at(-1)!;
  const room = await askFor(workers, scaling, isPatient);
  return { workers, room: await orRemoved(room, signal ? { signal } : {}) };
}

/** Room for the first of `counts` more workers (largest first) that is free now; null where there is for none. */
export async function findFreeRoom(
  counts: readonly number[],
  scaling: Scaling,
): Promise<{ readonly workers: number; readonly room: PlacementGroup } | null> {
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
