// All nodes in the order in which one kind of demand prefers them, kept up as nodes change: the best one is known at once.
import { MinTree } from './min-tree.js';
import type { NodeRoom, Policy } from './place.js';

/** What a ranking reads: nodes by their slots, in order of joining. */
export interface Slots {
  readonly count: number;
  /** Null: the node that was there is gone. */
  node(slot: number): NodeRoom | null;
  alikeCount(slot: number): number;
}

export class Ranking {
  readonly #policy: Policy;
  readonly #slots: Slots;
  readonly #tree: MinTree;
  readonly #isAble: Uint8Array;
  #ableCount = 0;

  constructor(policy: Policy, slots: Slots) {
    this.#policy = policy;
    this.#slots = slots;
    this.#tree = new MinTree(slots.count);
    this.#isAble = new Uint8Array(this.#tree.capacity);
    this.refreshAll();
  }

  /** Slots that it has room for; with more, another ranking is made. */
  get capacity(): number {
    return this.#tree.capacity;
  }
  /** Nodes that could hold the demand if they were empty and connected. */
  get ableCount(): number {
    return this.#ableCount;
  }
  /** The slot of the best node that has room, the earliest of equals; -1: none has. */
  get best(): number {
    return this.#tree.first;
  }
  rankOf(slot: number): number {
    return this.#tree.at(slot);
  }

  refreshAll(): void {
    for (let slot = 0; slot < this.#slots.count; slot += 1) this.refresh(slot);
  }

  /** The node there has changed. */
  refresh(slot: number): void {
    const node = this.#slots.node(slot);
    const selectorIndex = node === null ? -1 : this.#policy.selectorOf(node);
    const isAble = selectorIndex >= 0 ? 1 : 0;
    this.#ableCount += isAble - this.#isAble[slot]!;
    this.#isAble[slot] = isAble;
    const alikeCount = this.#slots.alikeCount(slot);
    this.#tree.set(slot, node === null ? Number.POSITIVE_INFINITY : this.#policy.rank(node, selectorIndex, alikeCount));
  }
}
