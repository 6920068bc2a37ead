// Finds the node for a demand without looking at all of them. It keeps no facts of its own: nodes belong to the cluster's
// state, whose rules say which of them has changed; each ranking catches up with that when it is next asked.
import type { NodeId } from '../../common/index.js';
import { type Demand, isPacked, type NodeRoom, nodeNamed, type Placement, Policy, selectorIndexOf } from './place.js';
import { Ranking, type Slots } from './ranking.js';

/**
 * Kinds of demands whose rankings are kept, the last that were asked for: as many as these numbers of nodes allow. When room is
 * gained, each kind that waits is asked for in turn: with fewer rankings than kinds every one would be made anew.
 */
const RANKINGS = { min: 128, max: 1024, nodes: 2 ** 21 };
/** Changes that are remembered, per node. */
const CHANGES_PER_NODE = 2;

interface Kept {
  readonly ranking: Ranking;
  /** Changes that it knows of. */
  seen: number;
}

export class NodeIndex {
  /** In order of joining. Null: gone; such slots go when they are as many as the others. */
  #slots: (NodeRoom | null)[] = [];
  readonly #slotOf = new Map<NodeId, number>();
  /** Slots that changed, the last of `#changeCount`. */
  #changes: number[] = [];
  #changeCount = 0;
  /** A ranking knows of the last one. */
  #isRead = false;
  readonly #rankings = new Map<string, Kept>();
  /** Workers that are alike, by what they do and their node. */
  readonly #alike = new Map<string, Map<NodeId, number>>();

  node(nodeId: NodeId): NodeRoom | undefined {
    const slot = this.#slotOf.get(nodeId);
    return slot === undefined ? undefined : this.#slots[slot]!;
  }
  get size(): number {
    return this.#slotOf.size;
  }

  /** All nodes that are not dead, in order of joining. */
  nodes(): readonly NodeRoom[] {
    return this.#slots.filter((node) => node !== null);
  }

  /** A node is there, or what is known of it was replaced. */
  set(node: NodeRoom): void {
    const slot = this.#slotOf.get(node.nodeId);
    if (slot === undefined) {
      this.#slotOf.set(node.nodeId, this.#slots.length);
      this.#slots.push(node);
    } else {
      this.#slots[slot] = node;
    }
    this.touch(node.nodeId);
  }

  /** A node is gone for good. */
  delete(nodeId: NodeId): void {
    const slot = this.#slotOf.get(nodeId);
    if (slot === undefined) return;
    this.touch(nodeId);
    this.#slots[slot] = null;
    this.#slotOf.delete(nodeId);
    if (this.#slots.length > 2 * this.#slotOf.size) this.#compact();
  }

  /** What a node has or uses changed. */
  touch(nodeId: NodeId): void {
    const slot = this.#slotOf.get(nodeId);
    if (slot === undefined) return;
    if (!this.#isRead && this.#changes.at(-1) === slot) return;
    this.#isRead = false;
    this.#changes.push(slot);
    this.#changeCount += 1;
    const kept = CHANGES_PER_NODE * this.#slots.length;
    if (this.#changes.length > 2 * kept) this.#changes = this.#changes.slice(-kept);
  }

  /** One more (1) or one less (-1) worker on a node does what `kind` says. */
  countAlike(kind: string, nodeId: NodeId, change: 1 | -1): void {
    const counts = this.#alike.get(kind) ?? new Map<NodeId, number>();
    const count = (counts.get(nodeId) ?? 0) + change;
    if (count === 0) counts.delete(nodeId);
    else counts.set(nodeId, count);
    if (counts.size === 0) this.#alike.delete(kind);
    else this.#alike.set(kind, counts);
    this.touch(nodeId);
  }

  /** `alike`: what the work does, of which SPREAD puts equally much everywhere. */
  place(demand: Demand, alike: string): Placement {
    if (this.size === 0) return { kind: 'wait' };
    const only = nodeNamed(demand.strategy, 'node');
    if (only !== null) return this.#placeOn(demand, this.#slotOf.get(only));
    const ranking = this.#ranking(demand, alike);
    const best = ranking.best;
    if (best === -1) return { kind: ranking.ableCount === 0 ? 'infeasible' : 'wait' };
    const rank = ranking.rankOf(best);
    const selectorIndex = selectorIndexOf(rank);
    const placed = (slot: number, by: Extract<Placement, { kind: 'node' }>['by']): Placement => ({
      kind: 'node',
      nodeId: this.#slots[slot]!.nodeId,
      by,
      selectorIndex,
    });
    if (demand.strategy === 'SPREAD') return placed(best, 'spreading');
    const isAsGood = (slot: number | undefined): slot is number =>
      slot !== undefined && selectorIndexOf(ranking.rankOf(slot)) === selectorIndex;
    const preferred = nodeNamed(demand.strategy, 'prefer');
    const liked = preferred === null ? undefined : this.#slotOf.get(preferred);
    if (isAsGood(liked)) return placed(liked, 'preference');
    for (const nodeId of demand.locality) {
      const slot = this.#slotOf.get(nodeId);
      if (isAsGood(slot)) return placed(slot, 'locality');
    }
    return placed(best, isPacked(rank) ? 'packing' : 'least use');
  }

  #placeOn(demand: Demand, slot: number | undefined): Placement {
    if (slot === undefined) return { kind: 'infeasible' };
    const node = this.#slots[slot]!;
    const policy = new Policy(demand);
    const selectorIndex = policy.selectorOf(node);
    if (selectorIndex < 0) return { kind: 'infeasible' };
    if (policy.rank(node, selectorIndex, 0) === Number.POSITIVE_INFINITY) return { kind: 'wait' };
    return { kind: 'node', nodeId: node.nodeId, by: 'affinity', selectorIndex };
  }

  #ranking(demand: Demand, alike: string): Ranking {
    const isSpread = demand.strategy === 'SPREAD';
    const key = isSpread ? `${alike} ${demand.shape}` : demand.shape;
    let kept = this.#rankings.get(key);
    if (kept) this.#rankings.delete(key); // it is the last one asked for: to the end
    if (!kept || kept.ranking.capacity < this.#slots.length) {
      const counts = (): ReadonlyMap<NodeId, number> | undefined => (isSpread ? this.#alike.get(alike) : undefined);
      const slots = this.#slotsWith(counts);
      kept = { ranking: new Ranking(new Policy(demand), slots), seen: this.#changeCount };
    }
    this.#rankings.set(key, kept);
    if (this.#rankings.size > rankingsMax(kept.ranking.capacity))
      this.#rankings.delete(this.#rankings.keys().next().value!);
    this.#catchUp(kept);
    return kept.ranking;
  }

  #slotsWith(counts: () => ReadonlyMap<NodeId, number> | undefined): Slots {
    const all = (): readonly (NodeRoom | null)[] => this.#slots;
    return {
      get count() {
        return all().length;
      },
      node: (slot: number) => all()[slot] ?? null,
      alikeCount: (slot: number) => {
        const node = all()[slot];
        return node ? (counts()?.get(node.nodeId) ?? 0) : 0;
      },
    };
  }

  #catchUp(kept: Kept): void {
    const missed = this.#changeCount - kept.seen;
    kept.seen = this.#changeCount;
    if (missed > Math.min(this.#changes.length, this.#slots.length)) kept.ranking.refreshAll();
    else {
      const from = this.#changes.length - missed;
      for (let at = from; at < this.#changes.length; at += 1) kept.ranking.refresh(this.#changes[at]!);
    }
    this.#isRead = true;
  }

  /** Slots move: everything that counts by them begins anew. */
  #compact(): void {
    this.#slots = this.#slots.filter((node) => node !== null);
    this.#slotOf.clear();
    for (const [slot, node] of this.#slots.entries()) this.#slotOf.set(node!.nodeId, slot);
    this.#changes = [];
    this.#rankings.clear();
  }
}

const rankingsMax = (nodeCount: number): number =>
  Math.max(RANKINGS.min, Math.min(RANKINGS.max, RANKINGS.nodes / nodeCount));
