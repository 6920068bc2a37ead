// The driver's side of how ranks find each other: which communicators each of them joins, and whether over shared memory, TCP or both.
import { randomBytes } from 'node:crypto';
import { type GroupName, type Joint, jointsOf, type LinkName, type Mesh } from '../engine/index.js';

/** How the ranks of one communicator find each other. */
export type JointWay =
  | { readonly kind: 'shm'; readonly name: string }
  | ({ readonly kind: 'tcp' } & Addresses)
  | ({ readonly kind: 'hierarchical'; readonly name: string; readonly machines: number } & Addresses);

interface Addresses {
  readonly addresses: readonly string[];
  readonly secret: string;
  /** Whether what these ranks send each other is encrypted. */
  readonly seals: boolean;
}

/** One communicator that a rank joins. */
export interface JointPlan {
  /** Equal on its ranks alone. */
  readonly id: string;
  readonly names: readonly (GroupName | LinkName)[];
  readonly rank: number;
  /** By place in the group. */
  readonly ranks: readonly number[];
  readonly way: JointWay;
}

/** What is asked of a rank in order to plan. */
export interface JointPeer {
  describe(): PromiseLike<{ readonly nodeId: string; readonly host: string; readonly usesTls: boolean }>;
  listen(id: string, host: string): PromiseLike<{ readonly port: number }>;
}

/** For every rank the communicators that it joins. Ranks of one machine meet in shared memory, under names that begin with `name`. */
export async function planJoints(ranks: readonly JointPeer[], mesh: Mesh, name: string): Promise<JointPlan[][]> {
  const places = await Promise.all(ranks.map((rank) => rank.describe()));
  const ways = new Map<string, Promise<JointWay>>();
  const wayOf = async (id: string, joint: Joint): Promise<JointWay> => {
    const nodes = joint.ranks.map((rank) => places[rank]!.nodeId);
    const machines = machinesOf(nodes);
    if (machines === 1) return { kind: 'shm', name: `${name}-${id}` };
    const addresses = await Promise.all(
      joint.ranks.map(async (rank) => {
        const { host } = places[rank]!;
        return `${host}:${(await ranks[rank]!.listen(id, host)).port}`;
      }),
    );
    const seals = joint.ranks.some((rank) => places[rank]!.usesTls);
    const common = { addresses, secret: randomBytes(32).toString('hex'), seals };
    if (machines === null || machines === nodes.length) return { kind: 'tcp', ...common };
    return { kind: 'hierarchical', name: `${name}-${id}`, machines, ...common };
  };
  const plans = ranks.map((_, rank) =>
    jointsOf(mesh, rank).map(async (joint): Promise<JointPlan> => {
      const { id } = joint;
      if (!ways.has(id)) ways.set(id, wayOf(id, joint));
      return { id, names: joint.names, rank: joint.index, ranks: joint.ranks, way: await ways.get(id)! };
    }),
  );
  return Promise.all(plans.map((joints) => Promise.all(joints)));
}

/** Of how many machines these ranks are, where equally many that follow each other are on each; else null. */
function machinesOf(nodes: readonly string[]): number | null {
  const machines = new Set(nodes).size;
  const perMachine = nodes.length / machines;
  const isEven = nodes.every((node, place) => node === nodes[place - (place % perMachine)]);
  return Number.isInteger(perMachine) && isEven ? machines : null;
}
