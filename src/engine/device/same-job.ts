// Ranks that have compiled different jobs would give each other wrong numbers: they find out before their first collective.
import { EngineError } from '../../common/index.js';
import { GROUPS, groupOf } from '../mesh.js';
import type { Strategy } from '../passes/zero.js';
import type { Communicators } from './communicators.js';
import { translated } from './native-errors.js';

/** Rejects on every rank of a group in which one has another `jobHash`. All ranks must call it. */
export async function expectSameJob(
  communicators: Communicators,
  { mesh, rank }: Strategy,
  jobHash: string,
): Promise<void> {
  // Where there is a group of all ranks, all of them hear the same of it.
  const names = communicators.world ? (['world'] as const) : GROUPS;
  for (const name of names) {
    const communicator = communicators[name];
    if (!communicator) continue;
    const own = Buffer.from(jobHash, 'hex');
    const hashes = Buffer.alloc(own.length * communicator.size);
    own.copy(hashes, own.length * communicator.rank);
    await translated(() => communicator.allGather(hashes));
    const isOther = (place: number) =>
      hashes.compare(hashes, 0, own.length, own.length * place, own.length * (place + 1)) !== 0;
    const { ranks } = groupOf(mesh, rank, name);
    const other = ranks.find((_, place) => isOther(place));
    if (other === undefined) continue;
    const detail = `rank ${other} has compiled another job than rank ${ranks[0]!}: model, sizes, optimizer, strategy and version must agree`;
    for (const group of Object.values(communicators)) group?.abort(detail);
    throw new EngineError({ detail, rank: other });
  }
}
