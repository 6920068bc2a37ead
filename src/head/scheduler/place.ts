// The policies: how good a node is for one demand, as a number. Pure; `NodeIndex` finds the node with the least.
import { fitsBeside, type NodeId, type Resources, subtractResources, useBeside } from '../../common/index.js';
import { chooseGpus, freeGpuAmount, type GpuRoom } from './gpu-room.js';
import { type Labels, labelTest } from './labels.js';
import type { BundleWish } from './place-in-bundle.js';

export interface Demand {
  readonly needs: Resources;
  /** Label → "v", "!v", "in(a,b)", "!in(a,b)", "exists()" or "!exists()". */
  readonly selector: Labels;
  /** Selectors to try, in this order, where no node of `selector` has room. */
  readonly fallbacks?: readonly Labels[];
  /** "DEFAULT", "SPREAD", "node:<id>", or "prefer:<id>": as DEFAULT where that node has no room. */
  readonly strategy: string;
  /** Nodes that already hold the arguments, best first. */
  readonly locality: readonly NodeId[];
  /** In a placement group: what is said above about nodes does not count then. */
  readonly bundle?: BundleWish;
  /** Equal where the same nodes have room for it. */
  readonly shape: string;
}

export function demandFor(asked: Omit<Demand, 'shape'>): Demand {
  const { needs, selector, fallbacks, strategy, bundle } = asked;
  const only = nodeNamed(strategy, 'node'); // other strategies say which is better, not which has room
  return { ...asked, shape: JSON.stringify([needs, selector, fallbacks, only, bundle]) };
}

/** What the scheduler reads of a node. */
export interface NodeRoom {
  readonly nodeId: NodeId;
  readonly hostname: string;
  /** One that is away counts for "could this ever run", not for "can it run now"; a dead one for neither. */
  readonly status: 'connected' | 'away' | 'dead';
  readonly total: Resources;
  readonly used: Resources;
  readonly gpus: GpuRoom;
  readonly labels: Labels;
  /** Set: it is to leave, and takes nothing new. */
  readonly drain?: object;
}

/** Whether work may be placed there, if there is room. */
export const takesWork = ({ status, drain }: Pick<NodeRoom, 'status' | 'drain'>): boolean =>
  status === 'connected' && drain === undefined;

/** Whether a node has room for `needs` now, each GPU looked at by itself. */
export const hasRoomFor = (needs: Resources, { total, used, gpus }: NodeRoom): boolean =>
  fitsBeside(needs, total, used) && (!needs.GPU || chooseGpus(needs, gpus) !== null);

/** What a node can still give; broken GPUs are not among it. */
export function availableOf({ total, used, gpus }: NodeRoom): Resources {
  const available = subtractResources(total, used);
  return gpus.length === 0 ? available : { ...available, GPU: freeGpuAmount(gpus) };
}

/** What decided for a node: the first of these that applied. */
export type PlacedBy = 'affinity' | 'preference' | 'locality' | 'packing' | 'least use' | 'spreading' | 'bundle';

export type Placement =
  | { readonly kind: 'node'; readonly nodeId: NodeId; readonly by: PlacedBy; readonly selectorIndex: number }
  | { readonly kind: 'wait' }
  | { readonly kind: 'infeasible' };

/** Below this use, DEFAULT packs work on one node; above, it spreads (Ray's scheduler_spread_threshold). */
export const SPREAD_THRESHOLD = 0.5;

/** Whether `strategy` is one that is known. */
export const isStrategy = (strategy: string): boolean => /^(DEFAULT|SPREAD|(node|prefer):.+)$/.test(strategy);

/** The node of "node:<id>" or "prefer:<id>". */
export const nodeNamed = (strategy: string, kind: 'node' | 'prefer'): NodeId | null =>
  strategy.startsWith(`${kind}:`) ? (strategy.slice(kind.length + 1) as NodeId) : null;

/** A node of an earlier selector goes before any of a later one. */
const SELECTOR_WEIGHT = 2 ** 22;
/** Work without a GPU goes to nodes without one first. */
const GPU_NODE_WEIGHT = 2;
/** SPREAD counts no further. */
const ALIKE_MAX = 2 ** 20;

/** Which selector of its demand a node of this rank satisfies: the first is 0. */
export const selectorIndexOf = (rank: number): number => Math.floor(rank / SELECTOR_WEIGHT);
/** Whether DEFAULT packed: the node stays under the threshold. */
export const isPacked = (rank: number): boolean => (rank % SELECTOR_WEIGHT) % GPU_NODE_WEIGHT === 0;

/** The part of a demand that makes nodes better or worse for it, compiled. */
export class Policy {
  readonly #needs: Resources;
  readonly #isSpread: boolean;
  readonly #isGpuWork: boolean;
  readonly #selectors: readonly ((node: NodeRoom) => boolean)[];

  constructor({ needs, selector, fallbacks = [], strategy }: Demand) {
    this.#needs = needs;
    this.#isSpread = strategy === 'SPREAD';
    this.#isGpuWork = (needs.GPU ?? 0) > 0;
    this.#selectors = [selector, ...fallbacks].map(labelTest);
  }

  /** The first selector that the node satisfies, if it is large enough; -1: it can never hold the demand. */
  selectorOf(node: NodeRoom): number {
    if (node.status === 'dead' || !fitsBeside(this.#needs, node.total, {})) return -1;
    return this.#selectors.findIndex((isMet) => isMet(node));
  }

  /**
   * Less is better; Infinity: no room now. `alikeCount`: workers there that do what is to be placed, which SPREAD evens
   * out. DEFAULT is Ray's hybrid policy: all nodes that stay under the threshold are alike (the earliest to join wins), of
   * the others the least used is best; CPU work keeps off GPU nodes.
   */
  rank(node: NodeRoom, selectorIndex: number, alikeCount: number): number {
    if (selectorIndex < 0 || !takesWork(node)) return Number.POSITIVE_INFINITY;
    if (!hasRoomFor(this.#needs, node)) return Number.POSITIVE_INFINITY;
    const rank = selectorIndex * SELECTOR_WEIGHT;
    if (this.#isSpread) return rank + 2 * Math.min(alikeCount, ALIKE_MAX) + useBeside({}, node.total, node.used);
    const use = useBeside(this.#needs, node.total, node.used);
    const isAvoided = !this.#isGpuWork && (node.total.GPU ?? 0) > 0;
    return rank + (isAvoided ? GPU_NODE_WEIGHT : 0) + (use <= SPREAD_THRESHOLD ? 0 : use);
  }
}
