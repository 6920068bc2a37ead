// What one piece of offloaded work has in its slot of the staging buffer, and what is copied between there and the device.
import type { TensorId } from '../graph.js';
import { PAGE } from '../offload.js';
import type { Place } from '../plan/placement.js';

const LINE = 64;

/** A tensor of the device, and what stands for it in the slot. */
interface SlotCopy {
  readonly from: TensorId;
  readonly to: TensorId;
  readonly isRead: boolean;
  readonly isWritten: boolean;
}

/** What one piece has in its slot. */
export class Slot {
  readonly number: number;
  bytes = 0;
  /** By place on the device. */
  readonly copies = new Map<string, SlotCopy>();
  readonly #offsets = new Map<string, number>();

  constructor(number: number) {
    this.number = number;
  }

  has(place: Place): boolean {
    return this.#offsets.has(placeKey(place));
  }

  /** Room for a tensor; what lies on the same bytes outside does so here. */
  offsetOf(id: TensorId, place: Place | null, bytes: number): number {
    return this.#room(place ? placeKey(place) : `${id}`, bytes, LINE, 0);
  }

  /** Whole pages with `bytes` of them for what lies at `place`, `lead` bytes behind their beginning; the offset of those. */
  pagesFor(place: Place, bytes: number, lead = 0): number {
    return this.#room(placeKey(place), lead + bytes, PAGE, lead);
  }

  #room(key: string, bytes: number, alignment: number, lead: number): number {
    const known = this.#offsets.get(key);
    if (known !== undefined) return known;
    const offset = this.bytes + lead;
    this.#offsets.set(key, offset);
    this.bytes += Math.ceil(bytes / alignment) * alignment;
    return offset;
  }

  note(place: Place, { from, to }: Pick<SlotCopy, 'from' | 'to'>, as: 'in' | 'out'): void {
    const key = placeKey(place);
    const known = this.copies.get(key);
    const isRead = as === 'in' || (known?.isRead ?? false);
    const isWritten = as === 'out' || (known?.isWritten ?? false);
    this.copies.set(key, { from: known?.from ?? from, to: known?.to ?? to, isRead, isWritten });
  }
}

export const placeKey = ({ buffer, offsetBytes }: Place): string => `${buffer}@${offsetBytes}`;
