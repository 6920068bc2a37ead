// How far ahead of its use the arena's memory is asked for. The first touch of a page costs ten times a copy into it; but memory
// that was asked for is the machine's no more.

/** In a new arena: what its first objects need. */
const LEAD_BYTES_MIN = 256 * 1024 * 1024;
const LEAD_BYTES_MAX = 1024 * 1024 * 1024;
const SHARE_MAX = 1 / 8;

/** How many bytes from the start of an arena should have memory, when `reachedBytes` of it have been in use: up to twice as many. */
export function prefaultBytes(reachedBytes: number, arenaBytes: number): number {
  const lead = Math.min(Math.max(reachedBytes, LEAD_BYTES_MIN), LEAD_BYTES_MAX, Math.floor(arenaBytes * SHARE_MAX));
  return Math.min(arenaBytes, reachedBytes + lead);
}
