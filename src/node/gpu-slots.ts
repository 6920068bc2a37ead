// Which GPUs a worker may use: whole devices for whole amounts, a shared one for fractions. Told by CUDA_VISIBLE_DEVICES.
//
// The head counts a node's GPUs as one amount. So it may grant what no single device has room for (0.6 three times on two);
// then devices are shared beyond their room, those with most room first: a worker that was granted GPUs always sees some.
import type { WorkerId } from '../common/index.js';

export class GpuSlots {
  readonly #ids: readonly string[];
  readonly #free: number[]; // share of each device that is free
  readonly #held = new Map<WorkerId, readonly { readonly index: number; readonly share: number }[]>();

  /** @param ids the devices as CUDA names them ("0", "GPU-…") */
  constructor(ids: readonly string[]) {
    this.#ids = ids;
    this.#free = ids.map(() => 1);
  }

  /** The devices of the node. */
  get ids(): readonly string[] {
    return this.#ids;
  }

  /**
   * The devices of a worker that was granted `amount`, for CUDA_VISIBLE_DEVICES; null when it was granted none. Those that are `faulty`
   * are none of them, as long as there are others.
   */
  take(workerId: WorkerId, amount: number, faulty: ReadonlySet<string> = new Set()): readonly string[] | null {
    if (!(amount > 0) || this.#ids.length === 0) return null;
    const held: { index: number; share: number }[] = [];
    const isSound = (index: number) => faulty.size === this.#ids.length || !faulty.has(this.#ids[index]!);
    if (amount < 1) {
      const shares = this.#free
        .map((share, index) => ({ share, index }))
        .filter(({ share, index }) => share >= amount - 1e-6 && isSound(index));
      const tightest = shares.sort((a, b) => a.share - b.share)[0];
      held.push({ index: tightest?.index ?? this.#roomiest().filter(isSound)[0]!, share: amount });
    } else
      for (const index of this.#roomiest()
        .filter(isSound)
        .slice(0, Math.ceil(amount))
        .sort((a, b) => a - b))
        held.push({ index, share: 1 });
    for (const { index, share } of held) this.#free[index]! -= share;
    this.#held.set(workerId, held);
    return held.map(({ index }) => this.#ids[index]!);
  }

  /** Devices, those with most room first; of equals the first. */
  #roomiest(): number[] {
    return this.#free.map((_, index) => index).sort((a, b) => this.#free[b]! - this.#free[a]! || a - b);
  }

  giveBack(workerId: WorkerId): void {
    for (const { index, share } of this.#held.get(workerId) ?? []) this.#free[index]! += share;
    this.#held.delete(workerId);
  }
}

/** The devices of a node that offers `count` GPUs. */
export function gpuIds(count: number): readonly string[] {
  const visible = process.env.CUDA_VISIBLE_DEVICES?.split(',').filter((id) => id.trim() !== '');
  return Array.from({ length: Math.floor(count) }, (_, index) => visible?.[index] ?? String(index));
}
