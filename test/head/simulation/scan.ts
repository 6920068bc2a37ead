// The policies once more, by looking at every node: what the index of nodes is held against.
import { addResources, fits, type NodeId, subtractResources } from '#src/common/index.js';
import { type Demand, labelTest, type NodeRoom, nodeNamed, SPREAD_THRESHOLD } from '#src/head/index.js';

export type Scanned = NodeId | 'wait' | 'infeasible';

export function scan(demand: Demand, nodes: readonly NodeRoom[], alikeCount: (nodeId: NodeId) => number): Scanned {
  if (nodes.length === 0) return 'wait';
  const only = nodeNamed(demand.strategy, 'node');
  const large = nodes.filter((node) => (only === null || node.nodeId === only) && fits(demand.needs, node.total));
  let isFeasible = false;
  for (const selector of [demand.selector, ...(demand.fallbacks ?? [])]) {
    const matching = large.filter(labelTest(selector));
    const free = matching.filter(
      (node) =>
        node.status === 'connected' &&
        fits(demand.needs, subtractResources(node.total, node.used)) &&
        fitsDevices(demand.needs.GPU ?? 0, node),
    );
    if (free.length > 0) return best(demand, free, alikeCount);
    isFeasible ||= matching.length > 0;
  }
  return isFeasible ? 'wait' : 'infeasible';
}

/** A part of a GPU fits into what is left of one, whole ones are all free. */
function fitsDevices(amount: number, { gpus }: NodeRoom): boolean {
  const free = gpus.filter(({ isBroken }) => !isBroken).map((share) => share.free);
  if (amount < 1) return amount === 0 || Math.max(0, ...free) >= amount;
  return free.filter((share) => share === 1).length >= amount;
}

function best(demand: Demand, free: readonly NodeRoom[], alikeCount: (nodeId: NodeId) => number): NodeId {
  if (demand.strategy === 'SPREAD') {
    const fewest = Math.min(...free.map(({ nodeId }) => alikeCount(nodeId)));
    const alike = free.filter(({ nodeId }) => alikeCount(nodeId) === fewest);
    return leastBy(alike, (node) => use(node.used, node)).nodeId;
  }
  const preferred = nodeNamed(demand.strategy, 'prefer');
  for (const id of preferred === null ? demand.locality : [preferred, ...demand.locality])
    if (free.some(({ nodeId }) => nodeId === id)) return id;
  const withoutGpu = free.filter(({ total }) => (total.GPU ?? 0) === 0);
  const pool = (demand.needs.GPU ?? 0) === 0 && withoutGpu.length > 0 ? withoutGpu : free;
  return leastBy(pool, (node) => {
    const after = use(addResources(node.used, demand.needs), node);
    return after <= SPREAD_THRESHOLD ? 0 : after;
  }).nodeId;
}

function use(used: NodeRoom['used'], { total }: NodeRoom): number {
  const shares = Object.entries(used).map(([name, amount]) => (total[name] ? amount / total[name] : 0));
  return Math.min(1, Math.max(0, ...shares));
}

const leastBy = (nodes: readonly NodeRoom[], rank: (node: NodeRoom) => number): NodeRoom =>
  nodes.reduce((least, node) => (rank(node) < rank(least) ? node : least));
