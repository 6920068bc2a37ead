// Why the bundles of a placement group are not placed, in words.
import { formatResources } from '../../common/index.js';
import { describeNodes } from './explain.js';
import { availableOf, type NodeRoom, takesWork } from './place.js';
import type { GroupDemand, GroupStrategy } from './place-bundles.js';

const MEANING: Readonly<Record<GroupStrategy, string>> = {
  PACK: 'on few nodes',
  SPREAD: 'on many nodes',
  STRICT_PACK: 'on one node',
  STRICT_SPREAD: 'each on a node of its own',
};

/** Why the nodes can never hold the group. */
export const explainGroupInfeasible = (group: GroupDemand, nodes: readonly NodeRoom[]): string =>
  `asks for ${describeGroup(group)}, which the nodes can never hold. The cluster has ${describeNodes(nodes)}`;

export function explainGroupWait(group: GroupDemand, nodes: readonly NodeRoom[]): string {
  if (nodes.length === 0) return 'waits for a first node to join';
  const free = nodes.map((node) =>
    takesWork(node)
      ? { ...node, total: availableOf(node) }
      : { ...node, hostname: `${node.hostname}, ${node.drain ? 'leaving' : 'away'}`, total: {} },
  );
  return `waits for ${describeGroup(group)}. Free is ${describeNodes(free)}`;
}

function describeGroup(group: GroupDemand): string {
  const counts = new Map<string, number>();
  for (const { needs, selector, nodeId } of group.bundles) {
    if (nodeId !== null) continue;
    const labels = Object.entries(selector).map(([key, value]) => `${key}=${value}`);
    const text = `${formatResources(needs)}${labels.length > 0 ? ` with ${labels.join(', ')}` : ''}`;
    counts.set(text, (counts.get(text) ?? 0) + 1);
  }
  const bundles = [...counts].map(([text, count]) => `${count} × ${text}`).join(' and ');
  const domain = group.domain === '' ? '' : ` with one value of the label ${group.domain}`;
  return `bundles of ${bundles} ${MEANING[group.strategy]}${domain}`;
}
