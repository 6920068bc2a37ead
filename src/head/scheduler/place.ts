// Chooses a node for one demand. Pure: the same candidates give the same answer.
import {
  addResources,
  fits,
  formatResources,
  type NodeId,
  type Resources,
  shortfall,
  subtractResources,
} from '../../common/index.js';
import { matchesLabels } from './labels.js';
import type { BundleWish } from './place-in-bundle.js';

export interface Demand {
  readonly needs: Resources;
  /** Label → "v", "!v", "in(a,b)", "!in(a,b)", "exists()" or "!exists()". */
  readonly selector: Readonly<Record<string, string>>;
  /** Selectors to try, in this order, where no node of `selector` has room. */
  readonly fallbacks?: readonly Readonly<Record<string, string>>[];
  /** "DEFAULT", "SPREAD", "node:<id>", or "prefer:<id>": as DEFAULT where that node has no room. */
  readonly strategy: string;
  /** Nodes that already hold the arguments, best first. */
  readonly locality: readonly NodeId[];
  /** In a placement group: what is said above about nodes does not count then. */
  readonly bundle?: BundleWish;
}

export interface Candidate {
  readonly nodeId: NodeId;
  readonly hostname: string;
  /** A node that is away counts for "could this ever run", not for "can it run now". */
  readonly isConnected: boolean;
  readonly total: Resources;
  readonly used: Resources;
  readonly labels: Readonly<Record<string, string>>;
  /** Workers there that do what is to be placed: what SPREAD evens out. */
  readonly alikeCount: number;
}

export type Placement =
  | { readonly kind: 'node'; readonly nodeId: NodeId }
  | { readonly kind: 'wait'; readonly reason: string }
  | { readonly kind: 'infeasible'; readonly reason: string };

/** Below this use, DEFAULT packs work on one node; above, it spreads (Ray's scheduler_spread_threshold). */
const SPREAD_THRESHOLD = 0.5;
/** Nodes named in a message, at most. */
const NODES_SHOWN = 5;

/** Whether `strategy` is one that {@link place} knows. */
export const isStrategy = (strategy: string): boolean => /^(DEFAULT|SPREAD|(node|prefer):.+)$/.test(strategy);

/** `candidates` in order of joining: where two are equally good, the earlier wins. */
export function place(demand: Demand, candidates: readonly Candidate[]): Placement {
  if (candidates.length === 0) return { kind: 'wait', reason: 'waits for a first node to join' };
  const wanted = demand.strategy.startsWith('node:') ? demand.strategy.slice('node:'.length) : null;
  const large = candidates.filter(
    (node) => (wanted === null || node.nodeId === wanted) && fits(demand.needs, node.total),
  );
  const able = new Set<Candidate>();
  for (const selector of [demand.selector, ...(demand.fallbacks ?? [])]) {
    const matching = large.filter((node) => matchesLabels(selector, node.labels, node.nodeId));
    const free = matching.filter(
      (node) => node.isConnected && fits(demand.needs, subtractResources(node.total, node.used)),
    );
    if (free.length > 0) return { kind: 'node', nodeId: best(demand, free).nodeId };
    for (const node of matching) able.add(node);
  }
  if (able.size === 0) return { kind: 'infeasible', reason: explainInfeasible(demand, candidates) };
  return { kind: 'wait', reason: explainWait(demand, [...able]) };
}

/** Of nodes that have room. */
function best(demand: Demand, free: readonly Candidate[]): Candidate {
  const { strategy, locality } = demand;
  if (strategy === 'SPREAD') return leastLoaded(free);
  const liked = strategy.startsWith('prefer:') ? [strategy.slice('prefer:'.length), ...locality] : locality;
  for (const id of liked) {
    const node = free.find(({ nodeId }) => nodeId === id);
    if (node) return node;
  }
  return pack(demand, free);
}

/** Ray's hybrid policy: the first node that stays under the threshold, else the least used; CPU work keeps off GPU nodes. */
function pack(demand: Demand, free: readonly Candidate[]): Candidate {
  const isGpuWork = (demand.needs.GPU ?? 0) > 0;
  const withoutGpu = free.filter((node) => (node.total.GPU ?? 0) === 0);
  const pool = !isGpuWork && withoutGpu.length > 0 ? withoutGpu : free;
  const score = (node: Candidate): number => {
    const use = utilisation(addResources(node.used, demand.needs), node.total);
    return use <= SPREAD_THRESHOLD ? 0 : use;
  };
  return minBy(pool, (node) => [score(node), 0]);
}

const leastLoaded = (free: readonly Candidate[]): Candidate =>
  minBy(free, (node) => [node.alikeCount, utilisation(node.used, node.total)]);

/** Use of the scarcest resource, 0 to 1. */
export function utilisation(used: Resources, total: Resources): number {
  let most = 0;
  for (const [name, amount] of Object.entries(used)) {
    const whole = total[name] ?? 0;
    if (whole > 0) most = Math.max(most, amount / whole);
  }
  return most;
}

function minBy(nodes: readonly Candidate[], rank: (node: Candidate) => readonly [number, number]): Candidate {
  let first = nodes[0]!;
  let firstRank = rank(first);
  for (const node of nodes.slice(1)) {
    const own = rank(node);
    if (own[0] < firstRank[0] || (own[0] === firstRank[0] && own[1] < firstRank[1])) {
      first = node;
      firstRank = own;
    }
  }
  return first;
}

function describeDemand(demand: Demand): string {
  const labels = [demand.selector, ...(demand.fallbacks ?? [])]
    .map((selector) => Object.entries(selector).map(([key, value]) => `${key}=${value}`))
    .map((parts) => (parts.length > 0 ? parts.join(', ') : 'any labels'))
    .join(' or ');
  const hasLabels = Object.keys(demand.selector).length > 0;
  const where = demand.strategy.startsWith('node:') ? ` on node ${demand.strategy.slice('node:'.length)}` : '';
  return `${formatResources(demand.needs)}${where}${hasLabels ? ` on a node with ${labels}` : ''}`;
}

function explainInfeasible(demand: Demand, candidates: readonly Candidate[]): string {
  return `asks for ${describeDemand(demand)}, which no node can ever hold. The cluster has ${describeNodes(candidates)}`;
}

/** The first few nodes, each with what it has. */
export function describeNodes(candidates: readonly Candidate[]): string {
  const shown = candidates
    .slice(0, NODES_SHOWN)
    .map((node) => `node ${node.nodeId} (${node.hostname}): ${formatResources(node.total)}`);
  const more = candidates.length > NODES_SHOWN ? `; and ${candidates.length - NODES_SHOWN} more` : '';
  return `${shown.join('; ')}${more}`;
}

function explainWait(demand: Demand, able: readonly Candidate[]): string {
  const shown = able.slice(0, NODES_SHOWN).map((node) => {
    if (!node.isConnected) return `node ${node.nodeId} is away`;
    const available = subtractResources(node.total, node.used);
    const scarce = shortfall(demand.needs, available).map(
      (name) => `${available[name] ?? 0} of ${node.total[name] ?? 0} ${name} free`,
    );
    return `node ${node.nodeId} has ${scarce.join(', ')}`;
  });
  return `waits for ${describeDemand(demand)}: ${shown.join('; ')}`;
}
