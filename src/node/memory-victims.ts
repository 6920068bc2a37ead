// Who ends when the memory of a node is short. Pure: what is known of the workers in, the order of their ends out.
import type { WorkerId } from '../common/index.js';

export interface MemoryUser {
  readonly workerId: WorkerId;
  readonly pid: number;
  /** Of the actor, or empty. */
  readonly name: string;
  readonly startedAtMs: number;
  /** What it runs is started again by itself. */
  readonly isRetriable: boolean;
  readonly bytes: number;
}

/**
 * Those that may run again before those that may not, since nothing is lost with them; of these the one that began last, which
 * loses least. As many as it takes to free `bytes`, at least one (if there is any).
 */
export function chooseVictims(users: readonly MemoryUser[], bytes: number): readonly MemoryUser[] {
  const inOrder = [...users].sort(
    (a, b) => Number(b.isRetriable) - Number(a.isRetriable) || b.startedAtMs - a.startedAtMs,
  );
  const chosen: MemoryUser[] = [];
  let freed = 0;
  for (const user of inOrder) {
    if (chosen.length > 0 && freed >= bytes) break;
    chosen.push(user);
    freed += user.bytes;
  }
  return chosen;
}
