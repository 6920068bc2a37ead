// Chooses nodes for the bundles of a placement group, for all of them or none. Pure: the same nodes give the same answer.
import { addResources, fits, type NodeId, type Resources, subtractResources, useBeside } from '../../common/index.js';
import { chooseGpus, type GpuRoom, holdGpus, newGpuRoom } from './gpu-room.js';
import { labelTest } from './labels.js';
import { hasRoomFor, type NodeRoom, takesWork } from './place.js';

/** STRICT_PACK: one node. PACK: few. SPREAD: many. STRICT_SPREAD: a node for each. As in Ray. */
export const GROUP_STRATEGIES = ['PACK', 'SPREAD', 'STRICT_PACK', 'STRICT_SPREAD'] as const;
export type GroupStrategy = (typeof GROUP_STRATEGIES)[number];

export interface BundleDemand {
  readonly needs: Resources;
  readonly selector: Readonly<Record<string, string>>;
  /** Where it is set aside already; null: a node is to be found. */
  readonly nodeId: NodeId | null;
}

export interface GroupDemand {
  readonly strategy: GroupStrategy;
  /** All nodes must have the same value of this label; '': none is asked for. */
  readonly domain: string;
  readonly bundles: readonly BundleDemand[];
}

/** A node while bundles are laid out: what is left of it, and how many bundles of the group it has. */
interface Room {
  readonly node: NodeRoom;
  readonly before: Resources;
  free: Resources;
  gpus: GpuRoom;
  count: number;
}

/** Where a bundle goes: its node, and the devices there that are set aside for it. */
export interface FoundBundle {
  readonly nodeId: NodeId;
  readonly gpus: readonly number[];
}

/**
 * Places, by their indices, for the bundles that have none, or null: no arrangement was found. `nodes` in order of joining:
 * where two are equally good, the earlier wins. Parts of GPUs are packed best fit, the larger first: which devices two
 * mixes of parts could share is not searched for.
 */
export function placeBundles(group: GroupDemand, nodes: readonly NodeRoom[]): ReadonlyMap<number, FoundBundle> | null {
  const compiled = compile(group);
  const holders = new Set(group.bundles.map(({ nodeId }) => nodeId));
  const useful = nodes.filter((node) => holdsSome(compiled, node) || (takesWork(node) && holders.has(node.nodeId)));
  return assign(compiled, useful);
}

/** Whether one of the nodes has room for a bundle that is still to be placed. */
export function mayHoldSome(group: GroupDemand, nodes: readonly NodeRoom[]): boolean {
  const compiled = compile(group);
  return nodes.some((node) => holdsSome(compiled, node));
}

const holdsSome = ({ bundles }: Group, node: NodeRoom): boolean =>
  takesWork(node) &&
  bundles.some(({ nodeId, needs, allows }) => nodeId === null && hasRoomFor(needs, node) && allows(node));

/**
 * Whether empty nodes could hold the group. For PACK and SPREAD an arrangement that was not found may exist (bin packing):
 * false only where a bundle fits no node, or all of them are more than there is.
 */
export function mayEverHold(group: GroupDemand, nodes: readonly NodeRoom[]): boolean {
  const fresh = compile({ ...group, bundles: group.bundles.map((bundle) => ({ ...bundle, nodeId: null })) });
  const empty = nodes.map((node) => ({ ...node, used: {}, gpus: newGpuRoom(node.total) }));
  if (assign(fresh, empty)) return true;
  if (group.strategy === 'STRICT_PACK' || group.strategy === 'STRICT_SPREAD') return false;
  const sum = group.bundles.reduce<Resources>((all, { needs }) => addResources(all, needs), {});
  const devices = group.bundles.reduce((count, { needs: { GPU = 0 } }) => count + (GPU > 0.5 ? Math.ceil(GPU) : 0), 0);
  return poolsOf(fresh, nodes).some(
    (pool) =>
      fits(
        { ...sum, GPU: Math.max(devices, sum.GPU ?? 0) }, // more than half of a device leaves no room for as much again
        pool.reduce<Resources>((all, node) => addResources(all, node.total), {}),
      ) && fresh.bundles.every(({ needs, allows }) => pool.some((node) => fits(needs, node.total) && allows(node))),
  );
}

/** A bundle with its selector compiled. */
type Bundle = BundleDemand & { readonly allows: (node: NodeRoom) => boolean };
type Group = Omit<GroupDemand, 'bundles'> & { readonly bundles: readonly Bundle[] };

const compile = (group: GroupDemand): Group => ({
  ...group,
  bundles: group.bundles.map((bundle) => ({ ...bundle, allows: labelTest(bundle.selector) })),
});

function assign(group: Group, nodes: readonly NodeRoom[]): ReadonlyMap<number, FoundBundle> | null {
  for (const pool of poolsOf(group, nodes)) {
    const found = arrange(group, pool);
    if (found) return found;
  }
  return null;
}

/** The sets of nodes that the group may lie in: each value of its domain, or all nodes. */
function poolsOf(group: Group, nodes: readonly NodeRoom[]): readonly (readonly NodeRoom[])[] {
  if (group.domain === '') return [nodes];
  const pools = new Map<string, NodeRoom[]>();
  for (const node of nodes) {
    const value = node.labels[group.domain];
    if (value === undefined) continue;
    const pool = pools.get(value) ?? [];
    pool.push(node);
    pools.set(value, pool);
  }
  const placed = group.bundles.filter((bundle) => bundle.nodeId !== null);
  return [...pools.values()].filter((pool) =>
    placed.every((bundle) => pool.some((node) => node.nodeId === bundle.nodeId)),
  );
}

function arrange(group: Group, pool: readonly NodeRoom[]): ReadonlyMap<number, FoundBundle> | null {
  const counts = new Map<NodeId, number>();
  for (const { nodeId } of group.bundles) if (nodeId !== null) counts.set(nodeId, (counts.get(nodeId) ?? 0) + 1);
  const rooms = (): Room[] => {
    const all = pool.map((node): Room => {
      const free = subtractResources(node.total, node.used);
      return { node, before: free, free, gpus: node.gpus, count: counts.get(node.nodeId) ?? 0 };
    });
    // Bundles without a GPU keep off GPU nodes while they can.
    const isGpuWork = group.bundles.some((bundle) => (bundle.needs.GPU ?? 0) > 0);
    if (isGpuWork) return all;
    const hasGpu = (room: Room): boolean => (room.node.total.GPU ?? 0) > 0;
    return [...all.filter((room) => !hasGpu(room)), ...all.filter(hasGpu)];
  };
  const missing = [...group.bundles.keys()].filter((index) => group.bundles[index]!.nodeId === null);
  missing.sort((a, b) => larger(group.bundles[b]!.needs, group.bundles[a]!.needs));
  const found = byStrategy(group, missing, rooms);
  return found && withDevices(group, missing, found, pool);
}

/** The arrangement says which nodes; devices are chosen in the order in which it was tried, so that they are there. */
function withDevices(
  { bundles }: Group,
  missing: readonly number[],
  found: Found,
  pool: readonly NodeRoom[],
): ReadonlyMap<number, FoundBundle> {
  const rooms = new Map(pool.map(({ nodeId, gpus }) => [nodeId, gpus]));
  return new Map(
    missing.map((index) => {
      const nodeId = found.get(index)!;
      const { needs } = bundles[index]!;
      const gpus = chooseGpus(needs, rooms.get(nodeId)!)!;
      rooms.set(nodeId, holdGpus(rooms.get(nodeId)!, gpus, needs));
      return [index, { nodeId, gpus }];
    }),
  );
}

function byStrategy(group: Group, missing: readonly number[], rooms: () => Room[]): Found | null {
  const { bundles, strategy } = group;
  switch (strategy) {
    case 'STRICT_PACK':
      return onOneNode(bundles, missing, rooms());
    case 'STRICT_SPREAD':
      return onDistinctNodes(bundles, missing, rooms());
    case 'PACK':
      return onFewNodes(bundles, missing, rooms());
    case 'SPREAD':
      return (
        onDistinctNodes(bundles, missing, rooms()) ??
        onManyNodes(bundles, missing, rooms()) ??
        onFewNodes(bundles, missing, rooms())
      );
  }
}

/** Bundle → its node. */
type Found = ReadonlyMap<number, NodeId>;
type Bundles = readonly Bundle[];

/** The node that is fullest afterwards: larger ones stay free for larger groups. */
function onOneNode(bundles: Bundles, missing: readonly number[], rooms: readonly Room[]): Found | null {
  const needs = missing.reduce<Resources>((sum, index) => addResources(sum, bundles[index]!.needs), {});
  const isRescheduled = missing.length < bundles.length;
  const use = (room: Room): number =>
    useBeside(needs, room.node.total, subtractResources(room.node.total, room.before));
  let best: Room | null = null;
  for (const room of rooms) {
    if (isRescheduled && room.count === 0) continue;
    if (!fits(needs, room.free)) continue;
    if (!missing.every((index) => bundles[index]!.allows(room.node))) continue;
    if (needs.GPU && takenBy(bundles, missing, room).length < missing.length) continue;
    if (best === null || use(room) > use(best)) best = room;
  }
  return best && new Map(missing.map((index) => [index, best.node.nodeId]));
}

/** A maximum matching of bundles and nodes (augmenting paths): finds an arrangement wherever there is one. */
function onDistinctNodes(bundles: Bundles, missing: readonly number[], rooms: readonly Room[]): Found | null {
  const open = rooms.filter((room) => room.count === 0);
  if (open.length < missing.length) return null;
  const holder = new Map<Room, number>();
  const settle = (index: number, tried: Set<Room>): boolean => {
    const able = open.filter((room) => !tried.has(room) && suits(bundles[index]!, room));
    const untaken = able.find((room) => !holder.has(room));
    if (untaken) {
      holder.set(untaken, index);
      return true;
    }
    for (const room of able) {
      if (tried.has(room)) continue;
      tried.add(room);
      if (!settle(holder.get(room)!, tried)) continue;
      holder.set(room, index);
      return true;
    }
    return false;
  };
  for (const index of missing) if (!settle(index, new Set())) return null;
  return new Map([...holder].map(([room, index]) => [index, room.node.nodeId]));
}

/** Again and again the node that takes most of what is left, those that the group has already before others. */
function onFewNodes(bundles: Bundles, missing: readonly number[], rooms: readonly Room[]): Found | null {
  const found = new Map<number, NodeId>();
  let left = missing;
  while (left.length > 0) {
    let best: { readonly room: Room; readonly taken: readonly number[] } | null = null;
    for (const room of rooms) {
      const taken = takenBy(bundles, left, room);
      const isBetter =
        best === null ||
        (room.count > 0 && best.room.count === 0) ||
        (room.count > 0 === best.room.count > 0 && taken.length > best.taken.length);
      if (taken.length > 0 && isBetter) best = { room, taken };
      if (best?.taken.length === left.length && (best.room.count > 0 || found.size === 0)) break;
    }
    if (best === null) return null;
    for (const index of best.taken) put(bundles[index]!, best.room);
    for (const index of best.taken) found.set(index, best.room.node.nodeId);
    const { taken } = best;
    left = left.filter((index) => !taken.includes(index));
  }
  return found;
}

/** Those of `left` that fit into the room together, taken in order. */
function takenBy(bundles: Bundles, left: readonly number[], room: Room): readonly number[] {
  const trial = { ...room };
  return left.filter((index) => {
    if (!suits(bundles[index]!, trial)) return false;
    put(bundles[index]!, trial);
    return true;
  });
}

/** Each on the node with the fewest bundles of the group, then the least used. */
function onManyNodes(bundles: Bundles, missing: readonly number[], rooms: readonly Room[]): Found | null {
  const found = new Map<number, NodeId>();
  const use = (room: Room): number => useBeside({}, room.node.total, subtractResources(room.node.total, room.free));
  for (const index of missing) {
    let best: Room | null = null;
    for (const room of rooms) {
      if (!suits(bundles[index]!, room)) continue;
      if (best === null || room.count < best.count || (room.count === best.count && use(room) < use(best))) best = room;
    }
    if (best === null) return null;
    put(bundles[index]!, best);
    found.set(index, best.node.nodeId);
  }
  return found;
}

const suits = ({ needs, allows }: Bundle, room: Room): boolean =>
  fits(needs, room.free) && (!needs.GPU || chooseGpus(needs, room.gpus) !== null) && allows(room.node);

function put({ needs }: Bundle, room: Room): void {
  room.free = subtractResources(room.free, needs);
  if (needs.GPU) room.gpus = holdGpus(room.gpus, chooseGpus(needs, room.gpus)!, needs);
  room.count += 1;
}

const larger = (a: Resources, b: Resources): number =>
  (a.GPU ?? 0) - (b.GPU ?? 0) || (a.CPU ?? 0) - (b.CPU ?? 0) || (a.memory ?? 0) - (b.memory ?? 0);
