// How the ranks of a job are laid out along the ways to share work, and which of them exchange what. Pure arithmetic.
//
//   rank = tensor + T · (sequence + S · (data + D · pipeline))        each coordinate from 0, T, S, D, P ranks along the axes
//
// What talks most lies closest together: neighbours in number are on one machine.
import { ConfigError } from '../common/index.js';

/** From the fastest to the slowest. */
export const AXES = ['tensor', 'sequence', 'data', 'pipeline'] as const;
/** A way to share the work of a step. */
export type Axis = (typeof AXES)[number];

/** How many ranks there are along each axis; a rank's number follows from its coordinates. */
export interface Mesh extends Readonly<Record<Axis, number>> {
  /** Of a `zero` group, how many ranks that follow each other form one `zeroInner` group: those of one machine. 1: no such groups. */
  readonly zeroInner: number;
  /** Parts of the model on each rank of a pipeline, which take turns: more than one only where there is a pipeline. */
  readonly chunks: number;
  /** Of all ranks, how many that follow each other generate together, each with its part of the heads. 1: each by itself. */
  readonly generation: number;
}

/**
 * The names of the groups, in the order of a program's table: a collective's attribute `group` is an index into this.
 * `zero`: ranks with the same parameters and other data, which reduce gradients together and share one ZeRO partitioning.
 * `tensor`, `sequence`, `pipeline`: ranks that differ along that axis alone. `world`: all. `zeroInner` and `zeroOuter`: the ranks of a
 * `zero` group on one machine, and those with the same place on each machine. `tied`: first and last of a pipeline, which share a matrix.
 * `generation`: ranks that decode together.
 */
export const GROUPS = [
  'zero',
  'tensor',
  'sequence',
  'pipeline',
  'world',
  'zeroInner',
  'zeroOuter',
  'tied',
  'generation',
] as const;
/** The name of a group of ranks that exchange. */
export type GroupName = (typeof GROUPS)[number];

/**
 * Ways of one direction between neighbours of a pipeline, each a communicator of two: what a forward makes goes to the next rank, what
 * a backward makes to the one before; with several chunks also between the last and the first.
 */
export const LINKS = ['forwardIn', 'forwardOut', 'backwardIn', 'backwardOut'] as const;
/** The name of a way between neighbours of a pipeline. */
export type LinkName = (typeof LINKS)[number];

/** What `rank` sees of one of its groups. */
export interface Group {
  /** In ascending order; place i is rank i of the group's communicator. */
  readonly ranks: readonly number[];
  /** The place of the rank itself. */
  readonly index: number;
  readonly size: number;
}

/** One communicator to join: groups of equal ranks share it. */
export interface Joint extends Group {
  /** Equal on its ranks alone. */
  readonly id: string;
  readonly names: readonly (GroupName | LinkName)[];
}

/** A mesh with 1 along the axes that are not given. */
export function meshOf(axes: Partial<Mesh> = {}): Mesh {
  const mesh = { tensor: 1, sequence: 1, data: 1, pipeline: 1, zeroInner: 1, chunks: 1, generation: 1, ...axes };
  for (const [axis, size] of Object.entries(mesh))
    if (!Number.isSafeInteger(size) || size < 1) throw new ConfigError(`mesh.${axis}`, 'a positive integer', size);
  const zero = mesh.sequence * mesh.data;
  if (zero % mesh.zeroInner !== 0)
    throw new ConfigError('mesh.zeroInner', `a divisor of data × sequence = ${zero}`, mesh.zeroInner);
  const world = worldSizeOf(mesh);
  if (world % mesh.generation !== 0)
    throw new ConfigError('mesh.generation', `a divisor of the ${world} ranks`, mesh.generation);
  if (mesh.chunks > 1 && mesh.pipeline === 1) throw new ConfigError('mesh.chunks', '1 without a pipeline', mesh.chunks);
  return mesh;
}

/** The mesh of `worldSize` ranks: what the given axes leave is data parallel. */
export function meshOver(worldSize: number, axes: Omit<Partial<Mesh>, 'data'> = {}): Mesh {
  const { tensor, sequence, pipeline } = meshOf({ ...axes, zeroInner: 1, chunks: 1, generation: 1 });
  const model = tensor * sequence * pipeline;
  if (!Number.isSafeInteger(worldSize) || worldSize < 1)
    throw new ConfigError('worldSize', 'a positive integer', worldSize);
  if (worldSize % model !== 0) {
    const below = worldSize - (worldSize % model);
    throw new ConfigError(
      'worldSize',
      `a multiple of tensor × sequence × pipeline = ${tensor} × ${sequence} × ${pipeline} = ${model}`,
      worldSize,
      `Take ${below > 0 ? `${below} or ` : ''}${below + model} ranks`,
    );
  }
  return meshOf({ ...axes, data: worldSize / model });
}

/** The number of ranks. */
export function worldSizeOf({ tensor, sequence, data, pipeline }: Mesh): number {
  return tensor * sequence * data * pipeline;
}

/** Where `rank` lies along each axis. */
export function coordinatesOf(mesh: Mesh, rank: number): Readonly<Record<Axis, number>> {
  const worldSize = worldSizeOf(mesh);
  if (!Number.isSafeInteger(rank) || rank < 0 || rank >= worldSize)
    throw new ConfigError('rank', `an integer from 0 to ${worldSize - 1}`, rank);
  let rest = rank;
  const take = (axis: Axis) => {
    const coordinate = rest % mesh[axis];
    rest = (rest - coordinate) / mesh[axis];
    return coordinate;
  };
  return { tensor: take('tensor'), sequence: take('sequence'), data: take('data'), pipeline: take('pipeline') };
}

/** The rank at these coordinates. */
export function rankAt(mesh: Mesh, { tensor, sequence, data, pipeline }: Readonly<Record<Axis, number>>): number {
  return tensor + mesh.tensor * (sequence + mesh.sequence * (data + mesh.data * pipeline));
}

const VARIES: Readonly<Record<Exclude<GroupName, 'zeroInner' | 'zeroOuter' | 'tied' | 'generation'>, readonly Axis[]>> =
  {
    zero: ['sequence', 'data'],
    tensor: ['tensor'],
    sequence: ['sequence'],
    pipeline: ['pipeline'],
    world: AXES,
  };

/** The group `name` that `rank` belongs to. */
export function groupOf(mesh: Mesh, rank: number, name: GroupName): Group {
  if (name === 'tied') {
    const { ranks, index, size } = groupOf(mesh, rank, 'pipeline');
    const isEnd = size > 1 && (index === 0 || index === size - 1);
    return member(isEnd ? [ranks[0]!, ranks.at(-1)!] : [rank], rank);
  }
  if (name === 'generation') {
    const first = rank - (rank % mesh.generation);
    return member(
      Array.from({ length: mesh.generation }, (_, place) => first + place),
      rank,
    );
  }
  if (name !== 'zeroInner' && name !== 'zeroOuter') return member(ranksAlong(mesh, rank, VARIES[name]), rank);
  const { ranks, index } = groupOf(mesh, rank, 'zero');
  const machineOf = (place: number) => Math.floor(place / mesh.zeroInner);
  const isPeer = (place: number) =>
    name === 'zeroInner' ? machineOf(place) === machineOf(index) : (place - index) % mesh.zeroInner === 0;
  return member(
    ranks.filter((_rank, place) => isPeer(place)),
    rank,
  );
}

/** The communicators that `rank` needs, one for each set of more than one rank. The same order of names on all ranks. */
export function jointsOf(mesh: Mesh, rank: number): readonly Joint[] {
  const joints = new Map<string, Joint>();
  for (const name of GROUPS) {
    const group = groupOf(mesh, rank, name);
    if (group.size === 1) continue;
    const key = group.ranks.join();
    const { id = `${name}.${group.ranks[0]!}`, names = [] } = joints.get(key) ?? {};
    joints.set(key, { ...group, id, names: [...names, name] });
  }
  const links = LINKS.flatMap((name): Joint[] => {
    const link = linkOf(mesh, rank, name);
    const id = `${name.replace(/In|Out/, '')}.${link?.ranks.join('.')}`;
    return link ? [{ ...link, id, names: [name] }] : [];
  });
  return [...joints.values(), ...links];
}

/** The two ranks of a way between neighbours, the sender first; null where the pipeline ends. */
export function linkOf(mesh: Mesh, rank: number, name: LinkName): Group | null {
  const { ranks, index, size } = groupOf(mesh, rank, 'pipeline');
  const step = name === 'forwardOut' || name === 'backwardIn' ? 1 : -1;
  const isWrapped = index + step < 0 || index + step >= size;
  if (size === 1 || (isWrapped && mesh.chunks === 1)) return null;
  const peer = ranks[(index + step + size) % size]!;
  return member(name.endsWith('Out') ? [rank, peer] : [peer, rank], rank);
}

/** What a collective of the group `name` has as its attribute `group`. */
export function groupIndex(name: GroupName): number {
  return GROUPS.indexOf(name);
}

/** How many ranks exchange in the group that a collective's attribute `group` means. */
export function groupSizeAt(mesh: Mesh, rank: number, index: number): number {
  return groupOf(mesh, rank, GROUPS[index]!).size;
}

/** Ranks that differ from `rank` along `axes` alone, in ascending order: the fastest axis counts first. */
function ranksAlong(mesh: Mesh, rank: number, axes: readonly Axis[]): readonly number[] {
  let peers = [coordinatesOf(mesh, rank)];
  for (const axis of AXES.toReversed()) {
    if (!axes.includes(axis)) continue;
    peers = peers.flatMap((peer) => Array.from({ length: mesh[axis] }, (_, place) => ({ ...peer, [axis]: place })));
  }
  return peers.map((peer) => rankAt(mesh, peer));
}

function member(ranks: readonly number[], rank: number): Group {
  return { ranks, index: ranks.indexOf(rank), size: ranks.length };
}
