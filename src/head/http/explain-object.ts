// Why an object is not there yet, or where it is: from what its processes and nodes say. Pure.
import { type ObjectId, ownerOf, type WorkerId } from '../../common/index.js';
import type { ClusterState } from '../cluster-state.js';
import { type Explanation, explain } from '../explain.js';
import type { ObjectsView } from './objects-view.js';

/** Null: nobody holds an object of that id, and its owner is gone. */
export function explainObject(state: ClusterState, { objects }: ObjectsView, id: string): Explanation | null {
  const object = objects.find(({ objectId }) => objectId === id);
  const ownerId = ownerOf(id as ObjectId);
  if (!object) {
    const isKnown = state.clients.has(ownerId) || state.workers.has(ownerId);
    if (!isKnown) return null;
    // Processes count only what they stored or passed on.
    const because = [
      `It belongs to process ${ownerId}, which alone knows it: a small value or the result of a call, never passed on.`,
    ];
    return withRequests(state, ownerId, { kind: 'object', id, name: '', state: 'UNLISTED', because, obstacles: [] });
  }
  const { owner, places, holders } = object;
  const what = { kind: 'object', id, name: object.callSite ?? '', state: object.state.toUpperCase() } as const;
  const of = owner.nodeId === null ? 'a process that is gone' : `${owner.name} (pid ${owner.pid})`;
  if (object.state === 'pending') {
    const because = [`It is the result of a call of ${of} that has not been answered.`];
    return withRequests(state, ownerId, { ...what, because, obstacles: [] });
  }
  const where = places.map(({ nodeId, place }) => `${place} on node ${nodeId}`).join(', ');
  const because = [
    `It belongs to ${of}.`,
    ...(where === '' ? [] : [`Its bytes are ${where}.`]),
    `${holders.length} processes hold it; "raylite memory" says why.`,
  ];
  return { ...what, because, obstacles: [] };
}

/** With why its owner's tasks wait for workers: which of the requests brings that of this object is not known here. */
function withRequests(state: ClusterState, ownerId: WorkerId, explanation: Explanation): Explanation {
  const requests = state.leasesOf
    .of(ownerId)
    .filter((leaseId) => state.pending.has(`lease:${leaseId}`))
    .map((leaseId) => explain(state, leaseId)!);
  const reasons = new Set(
    requests.map(({ because }) => because[0]!.replace(/^It /, 'A worker for tasks of its owner ')),
  );
  const idle =
    'No task of its owner waits for a worker: if its call is not answered, it runs, or waits for its arguments.';
  const because = [...explanation.because, ...(requests.length === 0 ? [idle] : reasons)];
  return { ...explanation, because, obstacles: requests[0]?.obstacles ?? [] };
}
