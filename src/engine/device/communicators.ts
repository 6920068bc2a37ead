// The communicators of a rank, by the names of the groups that they join, and how programs get them.
import { ConfigError } from '../../common/index.js';
import type { NativeCommunicator } from '../../native/index.js';
import { GROUPS, type GroupName, groupOf, LINKS, type LinkName, linkOf } from '../mesh.js';
import type { Strategy } from '../passes/zero.js';
import type { Plan } from '../plan/plan.js';

/** One for each group of more than one rank; groups of the same ranks may share theirs. And one for each way to a neighbour of a pipeline. */
export type Communicators = Readonly<Partial<Record<GroupName | LinkName, NativeCommunicator | null>>>;

/** As programs index them: by place in {@link GROUPS}. */
export function communicatorTable(communicators: Communicators): readonly (NativeCommunicator | null)[] {
  return GROUPS.map((name) => communicators[name] ?? null);
}

/** Throws {@link ConfigError} for a communicator of another group than its name says, and for one that `plans` want and nobody gave. */
export function expectCommunicators(
  communicators: Communicators,
  { mesh, rank }: Strategy,
  plans: readonly Plan[],
): void {
  const used = new Set(plans.flatMap(({ graph }) => graph.ops.map(({ attributes }) => GROUPS[attributes.group ?? -1])));
  for (const name of GROUPS) {
    const given = communicators[name] ?? null;
    if (given === null && !used.has(name)) continue;
    const { index, size } = groupOf(mesh, rank, name);
    if (given?.rank === index && given.size === size) continue;
    const got = given && { rank: given.rank, size: given.size };
    throw new ConfigError(`communicators.${name}`, `the one of rank ${index} of ${size}`, got);
  }
  for (const name of LINKS) {
    const link = linkOf(mesh, rank, name);
    const given = communicators[name] ?? null;
    if (given?.rank === link?.index && given?.size === link?.size) continue;
    const got = given && { rank: given.rank, size: given.size };
    const wanted = link ? `the one of rank ${link.index} of 2, where the sender is rank 0` : 'none';
    throw new ConfigError(`communicators.${name}`, wanted, got);
  }
}
