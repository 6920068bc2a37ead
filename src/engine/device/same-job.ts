// Ranks that have compiled different jobs would give each other wrong numbers: they find out before their first collective.
import { EngineError } from '../../common/index.js';
import type { NativeCommunicator } from '../../native/index.js';
import { GROUPS, groupOf } from '../mesh.js';
import type { Strategy } from '../passes/zero.js';
import type { Communicators } from './communicators.js';
import { translated } from './native-errors.js';

/** The first place in a group whose rank has other bytes than the rank at place 0; null where all have the same. All ranks must call it. */
export async function firstOther(communicator: NativeCommunicator, own: Buffer): Promise<number | null> {
  const all = Buffer.alloc(own.length * communicator.size);
  own.copy(all, own.length * communicator.rank);
  await translated(() => communicator.allGather(all));
  for (let place = 1; place < communicator.size; place++)
    if (all.compare(all, 0, own.length, own.length * place, own.length * (place + 1)) !== 0) return place;
  return null;
}

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
    const place = await firstOther(communicator, Buffer.from(jobHash, 'hex'));
    if (place === null) continue;
    const { ranks } = groupOf(mesh, rank, name);
    const other = ranks[place]!;
    const detail = `rank ${other} has compiled another job than rank ${ranks[0]!}: model, sizes, optimizer, strategy and version must agree`;
    for (const group of Object.values(communicators)) group?.abort(detail);
    throw new EngineError({ detail, rank: other });
  }
}
