// What a node knows of the health of its GPUs: which of them must not be given to workers, and when the memory of a worker that ended is
// free again. Asks the driver when somebody wants to know; without a driver it knows nothing, and says of every GPU that it is well.
import { setTimeout as sleep } from 'node:timers/promises';
import { formatBytes } from '../common/index.js';
import type { GpuState, NativeGpuMonitor } from '../native/index.js';
import type { Log } from '../observe/index.js';

/** What a GPU may hold beyond the least that was ever seen in use there and still count as free: a driver rounds. */
const REST_BYTES_MAX = 256 * 2 ** 20;
const FREE_CHECK_MS = 100;

/**
 * Critical errors that a program makes by itself (a wrong address, an instruction that is none: NVIDIA's table of Xid errors), after
 * which a GPU is as good as before.
 */
const XIDS_OF_PROGRAMS: ReadonlySet<number> = new Set([13, 31, 43, 45, 68, 69]);

/** As a beat tells it to the head (proto/head.proto). */
export interface GpuUse {
  /** Of the node, from 0. */
  readonly device: number;
  readonly id: string;
  readonly name: string;
  readonly memoryUsedBytes: number;
  readonly memoryTotalBytes: number;
  /** Below 0: the driver does not tell. */
  readonly busyPercent: number;
  /** Why it gets no more workers, or empty. */
  readonly fault: string;
}

export interface GpuWatchOptions {
  readonly monitor: NativeGpuMonitor | null;
  readonly log: Log;
  /** How long a worker waits for the memory of the one before it. */
  readonly freeWaitMs: number;
}

export class GpuWatch implements Disposable {
  readonly #options: GpuWatchOptions;
  readonly #leastBytes = new Map<string, number>();
  readonly #told = new Map<string, string>();

  constructor(options: GpuWatchOptions) {
    this.#options = options;
    this.#look();
  }

  /** Those of `ids`, as CUDA names them ("0", "GPU-…"), that are broken. Each fault is logged once. */
  faulty(ids: readonly string[]): ReadonlySet<string> {
    const states = this.#look();
    return new Set(
      ids.filter((id) => {
        const state = stateOf(states, id);
        const fault = state && faultOf(state);
        if (!fault) return false;
        if (this.#told.get(id) !== fault)
          this.#options.log.error('a GPU is broken and gets no more workers', { id, name: state.name, fault });
        this.#told.set(id, fault);
        return true;
      }),
    );
  }

  /** How those of `ids` are that the driver knows. */
  uses(ids: readonly string[]): GpuUse[] {
    const states = this.#look();
    return ids.flatMap((id, device) => {
      const state = stateOf(states, id);
      if (!state) return [];
      const { name, usedBytes: memoryUsedBytes, memoryBytes: memoryTotalBytes, busyPercent } = state;
      const fault = faultOf(state) ?? '';
      return [{ device, id, name, memoryUsedBytes, memoryTotalBytes, busyPercent: busyPercent ?? -1, fault }];
    });
  }

  /** Resolves when nobody's memory is left on `ids`, or, with a line in the log, when it has waited long enough. */
  async freed(ids: readonly string[]): Promise<void> {
    const { log, freeWaitMs } = this.#options;
    for (let waitedMs = 0; ; waitedMs += FREE_CHECK_MS) {
      const states = this.#look();
      const full = ids.map((id) => stateOf(states, id)).find((state) => state && this.#restOf(state) > REST_BYTES_MAX);
      if (!full) return;
      if (waitedMs >= freeWaitMs) {
        const used = formatBytes(this.#restOf(full));
        log.warn('a worker starts on a GPU whose memory another process still holds', { gpu: full.uuid, used });
        return;
      }
      await sleep(FREE_CHECK_MS);
    }
  }

  [Symbol.dispose](): void {
    this.#options.monitor?.dispose();
  }

  #restOf({ uuid, usedBytes }: GpuState): number {
    return usedBytes - this.#leastBytes.get(uuid)!;
  }

  #look(): readonly GpuState[] {
    const states = this.#options.monitor?.look() ?? [];
    for (const { uuid, usedBytes } of states)
      this.#leastBytes.set(uuid, Math.min(usedBytes, this.#leastBytes.get(uuid) ?? usedBytes));
    return states;
  }
}

/** CUDA counts GPUs by their place on the bus where CUDA_DEVICE_ORDER says so; a UUID may be cut short. */
function stateOf(states: readonly GpuState[], id: string): GpuState | undefined {
  return /^\d+$/.test(id) ? states[Number(id)] : states.find(({ uuid }) => uuid.startsWith(id));
}

/** What is wrong with a GPU; null where nothing is. */
function faultOf({ lastXid, eccErrors }: GpuState): string | null {
  if (lastXid !== 0 && !XIDS_OF_PROGRAMS.has(lastXid)) return `Xid ${lastXid}`;
  if (eccErrors !== null && eccErrors > 0) return `${eccErrors} memory errors that could not be corrected`;
  return null;
}
