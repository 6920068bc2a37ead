// To whom a node gives an object, so that many readers make a tree: a few are served, the others sent to those. Pure.
import type { ObjectId } from '../common/index.js';

/** Readers that a node serves one object to at a time. */
const SERVED_MAX = 2;
/** Doors that are remembered for one object. */
const DOORS_MAX = 64;

interface Served {
  count: number;
  readonly doors: string[];
  next: number;
}

export class Readers {
  readonly #objects = new Map<ObjectId, Served>();

  /** The door of another node that a reader should ask; null: this one serves it. */
  elsewhere(objectId: ObjectId, door: string): string | null {
    const served = this.#objects.get(objectId);
    if (!served || served.count < SERVED_MAX) return null;
    const others = served.doors.filter((other) => other !== door);
    return others[served.next++ % others.length] ?? null;
  }

  begin(objectId: ObjectId, door: string): void {
    const served = this.#objects.get(objectId) ?? { count: 0, doors: [], next: 0 };
    this.#objects.set(objectId, served);
    served.count += 1;
    remove(served.doors, door);
    if (door !== '') served.doors.push(door);
    if (served.doors.length > DOORS_MAX) served.doors.shift();
  }

  /** @param isWhole whether it got all of it, and may give it on */
  end(objectId: ObjectId, door: string, isWhole: boolean): void {
    const served = this.#objects.get(objectId);
    if (!served) return;
    served.count -= 1;
    if (!isWhole) remove(served.doors, door);
    // Those that were served may have let go of their copies by the time of the next one.
    if (served.count === 0) this.#objects.delete(objectId);
  }
}

function remove(doors: string[], door: string): void {
  const at = doors.indexOf(door);
  if (at >= 0) doors.splice(at, 1);
}
