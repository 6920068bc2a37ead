// What this process owns on nodes that are to leave comes to its own node, so that it outlives them: one object after the other, as
// they are, without being read. Who asks the old place is sent on by the owner (lineage.ts).
import type { NodeId } from '../common/index.js';
import type { ObjectState } from './object-state.js';
import type { Runtime } from './runtime.js';

/** Moves what can be moved. What cannot (its bytes are gone, there is no room) stays where it is, to be made again if that is possible. */
export async function moveObjects(runtime: Runtime, from: ReadonlySet<NodeId>): Promise<void> {
  for (const state of runtime.objects.ownStoredOn(from)) await move(runtime, state).catch(() => {});
}

async function move({ objects, reader, store, agent, workerId }: Runtime, state: ObjectState): Promise<void> {
  const { content } = state;
  if (content?.kind !== 'stored') return; // nobody wants it any more
  const bytes = new Uint8Array(await reader.bytesOf(state, content.location));
  const location = await store.write(state.id, workerId, { bytes: bytes.length, parts: [{ at: 0, bytes }] });
  const isSame = state.content === content;
  if (isSame) {
    objects.unsettle(state);
    objects.settleStored(state, location);
  } else store.reclaim(state.id);
  agent.freed(state.id, isSame ? content.location : location);
}
