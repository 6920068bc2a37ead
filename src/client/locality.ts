// Where the bytes are that a call reads.
import { ObjectRef } from './object-ref.js';

/** The node on which most bytes of the arguments lie; null where they travel inside the call, or are still to be made. */
export function nodeOfMostBytes(args: readonly unknown[]): string | null {
  const bytes = new Map<string, number>();
  for (const arg of args) {
    if (!ObjectRef.isRef(arg)) continue;
    const { content } = ObjectRef.stateOf(arg);
    if (content?.kind !== 'stored') continue;
    const nodeId = content.location.nodeId ?? '';
    bytes.set(nodeId, (bytes.get(nodeId) ?? 0) + (content.location.size ?? 0));
  }
  if (bytes.size === 0) return null;
  return [...bytes].reduce((most, next) => (next[1] > most[1] ? next : most))[0];
}
