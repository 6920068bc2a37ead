// Why a demand is not placed, in words: what keeps it off each node, nodes with the same obstacle together.
import { formatResources, type NodeId, shortfall } from '../../common/index.js';
import { chooseGpus, describeGpus } from './gpu-room.js';
import { labelOf, unmetRules } from './labels.js';
import { availableOf, type Demand, type NodeRoom, nodeNamed, takesWork } from './place.js';

/**
 * What is between a demand and some nodes. labels, size: these nodes could never hold it; away, busy: they could, if they
 * came back or others ended.
 */
export interface Obstacle {
  readonly kind: 'labels' | 'size' | 'away' | 'busy';
  readonly detail: string; // "has 0 of 4 GPU free"
  readonly nodeIds: readonly NodeId[];
}

/** Nodes or obstacles named in a message, at most. */
const SHOWN_MAX = 5;
const KINDS: readonly Obstacle['kind'][] = ['busy', 'away', 'size', 'labels'];

/** For every node that the demand allows: why it is not there. The most hopeful obstacle is first, then the commonest. */
export function obstaclesOf(demand: Demand, nodes: readonly NodeRoom[]): readonly Obstacle[] {
  const only = nodeNamed(demand.strategy, 'node');
  const found = new Map<string, { readonly kind: Obstacle['kind']; readonly detail: string; nodeIds: NodeId[] }>();
  for (const node of nodes) {
    if (only !== null && node.nodeId !== only) continue;
    const obstacle = obstacleAt(demand, node);
    if (obstacle === null) continue;
    const [kind, detail] = obstacle;
    const known = found.get(detail);
    if (known) known.nodeIds.push(node.nodeId);
    else found.set(detail, { kind, detail, nodeIds: [node.nodeId] });
  }
  return [...found.values()].sort(
    (a, b) => KINDS.indexOf(a.kind) - KINDS.indexOf(b.kind) || b.nodeIds.length - a.nodeIds.length,
  );
}

function obstacleAt(demand: Demand, node: NodeRoom): readonly [Obstacle['kind'], string] | null {
  const small = shortfall(demand.needs, node.total);
  if (small.length > 0) {
    const has = small.map((name) => formatResources({ [name]: node.total[name] ?? 0 }, `0 ${name}`));
    return ['size', `has only ${has.join(', ')}`];
  }
  const unmet = [demand.selector, ...(demand.fallbacks ?? [])].map((selector) => unmetRules(selector, node));
  if (unmet.every((rules) => rules.length > 0)) {
    const is = unmet[0]!.map(([key, rule]) => `${key}=${labelOf(node, key) ?? '(none)'}, not ${rule}`);
    return ['labels', `has ${is.join(', ')}`];
  }
  if (node.status !== 'connected') return ['away', 'is away'];
  if (!takesWork(node)) return ['away', 'is to leave'];
  const available = availableOf(node);
  const scarce = shortfall(demand.needs, available);
  if (scarce.length === 0)
    return chooseGpus(demand.needs, node.gpus) === null
      ? ['busy', `has ${describeGpus(demand.needs, node.gpus)}`]
      : null;
  const has = scarce.map((name) => `${available[name] ?? 0} of ${node.total[name] ?? 0} ${name} free`);
  return ['busy', `has ${has.join(', ')}`];
}

/** "node a has 0 of 1 CPU free; 3 nodes (b, c, d): is away", at most five obstacles. */
export function describeObstacles(obstacles: readonly Obstacle[]): string {
  const shown = obstacles.slice(0, SHOWN_MAX).map(({ detail, nodeIds }) => {
    if (nodeIds.length === 1) return `node ${nodeIds[0]} ${detail}`;
    const names = nodeIds.slice(0, SHOWN_MAX).join(', ');
    return `each of ${nodeIds.length} nodes (${names}${nodeIds.length > SHOWN_MAX ? ', …' : ''}) ${detail}`;
  });
  const others = obstacles.slice(SHOWN_MAX).reduce((count, { nodeIds }) => count + nodeIds.length, 0);
  return [...shown, ...(others > 0 ? [`${others} other nodes have no room either`] : [])].join('; ');
}

/** Why no node can ever hold `demand`. */
export function explainInfeasible(demand: Demand, nodes: readonly NodeRoom[]): string {
  return `asks for ${describeDemand(demand)}, which no node can ever hold. The cluster has ${describeNodes(nodes)}`;
}

/** Why `demand` waits; also where it could not be placed any more, since a node was lost after it was accepted. */
export function explainWait(demand: Demand, nodes: readonly NodeRoom[]): string {
  if (nodes.length === 0) return 'waits for a first node to join';
  const obstacles = obstaclesOf(demand, nodes);
  const passing = obstacles.filter(({ kind }) => kind === 'busy' || kind === 'away');
  if (passing.length > 0) return `waits for ${describeDemand(demand)}: ${describeObstacles(passing)}`;
  if (obstacles.length > 0 || nodeNamed(demand.strategy, 'node') !== null) return explainInfeasible(demand, nodes);
  return `waits for ${describeDemand(demand)}: it is about to be placed`;
}

function describeDemand(demand: Demand): string {
  const labels = [demand.selector, ...(demand.fallbacks ?? [])]
    .map((selector) => Object.entries(selector).map(([key, value]) => `${key}=${value}`))
    .map((parts) => (parts.length > 0 ? parts.join(', ') : 'any labels'))
    .join(' or ');
  const hasLabels = Object.keys(demand.selector).length > 0;
  const only = nodeNamed(demand.strategy, 'node');
  const where = only === null ? '' : ` on node ${only}`;
  return `${formatResources(demand.needs)}${where}${hasLabels ? ` on a node with ${labels}` : ''}`;
}

/** The first few nodes, each with what it has. */
export function describeNodes(nodes: readonly Pick<NodeRoom, 'nodeId' | 'hostname' | 'total'>[]): string {
  const shown = nodes
    .slice(0, SHOWN_MAX)
    .map((node) => `node ${node.nodeId} (${node.hostname}): ${formatResources(node.total)}`);
  const more = nodes.length > SHOWN_MAX ? `; and ${nodes.length - SHOWN_MAX} more` : '';
  return `${shown.join('; ')}${more}`;
}
