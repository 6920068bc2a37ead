// What a process holds of objects, and why, for `raylite memory`. Pure but for the record of its own objects.
import type { ObjectId } from '../common/index.js';
import type { wire } from '../protocol/index.js';
import { placeOf } from './call-site.js';
import { ObjectRef } from './object-ref.js';
import type { ObjectState } from './object-state.js';
import { sizeOf } from './stored-value.js';

/** Objects that one answer names. */
const OBJECTS_MAX = 2_000;
const TIDY_MIN = 1024;

/** All objects that were made here and still are, also those that nobody else knows of. */
export class StateRecord {
  #states: WeakRef<ObjectState>[] = [];
  #tidyAt = TIDY_MIN;

  note(state: ObjectState): void {
    this.#states.push(new WeakRef(state));
    if (this.#states.length < this.#tidyAt) return;
    this.#states = this.#states.filter((known) => known.deref());
    this.#tidyAt = Math.max(TIDY_MIN, 2 * this.#states.length);
  }
  states(): readonly ObjectState[] {
    return this.#states.flatMap((state) => state.deref() ?? []);
  }
}

/** @param lentCount how many refs other processes hold to an own object */
export function holdingsOf(
  states: ReadonlySet<ObjectState>,
  lentCount: (id: ObjectId) => number,
): wire.Holdings.$Properties {
  const capturedIn = new Map<ObjectId, ObjectId[]>();
  for (const { id, nested } of states)
    for (const ref of nested ?? []) {
      if (!ObjectRef.isRef(ref)) continue;
      const containers = capturedIn.get(ref.id);
      if (containers) containers.push(id);
      else capturedIn.set(ref.id, [id]);
    }
  const held: ReturnType<typeof holdingOf>[] = [];
  for (const state of states) {
    if (state.content?.kind === 'released') continue;
    const { id } = state;
    held.push(holdingOf(state, lentCount(id), capturedIn.get(id) ?? []));
  }
  held.sort((a, b) => b.size - a.size);
  const omitted = held.slice(OBJECTS_MAX);
  return {
    objects: held.slice(0, OBJECTS_MAX),
    omittedCount: omitted.length,
    omittedBytes: omitted.reduce((sum, { size }) => sum + size, 0),
  };
}

function holdingOf(state: ObjectState, lentCount: number, capturedIn: ObjectId[]) {
  const { id, content, argumentCount } = state;
  const isMapped = state.mapped?.deref() !== undefined;
  // Calls and containers hold the very ref that code may hold; a borrower and a view do not.
  const isExplained = argumentCount > 0 || capturedIn.length > 0;
  const isSeen = state.face ? state.face.deref() !== undefined : lentCount === 0 && !isMapped;
  return {
    objectId: id,
    state: content?.kind ?? 'pending',
    size:
      content?.kind === 'stored'
        ? (content.location.size ?? 0)
        : content?.kind === 'inline'
          ? sizeOf(content.value)
          : 0,
    isReferenced: !state.isLetGo && !isExplained && isSeen,
    lentCount,
    argumentCount,
    isMapped,
    capturedIn,
    callSite: state.owner ? '' : placeOf(state.site),
  };
}
