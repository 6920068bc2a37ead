// A sequence in the cache: its tokens, and the blocks that hold their keys and values. Blocks are taken as it grows, shared
// when it forks, and copied when one of several users writes.
import { CACHE_BLOCK_TOKENS } from '../engine/index.js';
import type { CacheBlocks } from './cache-blocks.js';

/** Copies keys and values of all layers from one block to another. */
export type CopyBlock = (from: number, to: number) => void;

export class Lane {
  /** Prompt and continuation. The last may not be in the cache yet. */
  readonly tokens: number[];
  readonly blocks: number[] = [];
  /** Row of the table of blocks. */
  slot: number;
  readonly #pool: CacheBlocks;

  private constructor(pool: CacheBlocks, slot: number, tokens: readonly number[]) {
    this.#pool = pool;
    this.slot = slot;
    this.tokens = [...tokens];
  }

  /** Opens a lane for a prompt. Blocks that others hold already are shared; the last token is always computed. */
  static open(pool: CacheBlocks, slot: number, prompt: readonly number[]): { lane: Lane; cached: number } {
    const lane = new Lane(pool, slot, prompt);
    const known = pool.find(prompt.slice(0, -1));
    for (const block of known) lane.blocks.push(pool.share(block));
    while (lane.blocks.length < blocksFor(prompt.length)) lane.blocks.push(pool.take());
    pool.publish(prompt, lane.blocks);
    return { lane, cached: known.length * CACHE_BLOCK_TOKENS };
  }

  /** The same sequence once more, without a copy of the cache. */
  fork(slot: number): Lane {
    const lane = new Lane(this.#pool, slot, this.tokens);
    for (const block of this.blocks) lane.blocks.push(this.#pool.share(block));
    return lane;
  }

  /** Makes sure that the last token has a place of its own. */
  prepare(copy: CopyBlock): void {
    const index = blocksFor(this.tokens.length) - 1;
    const block = this.blocks[index];
    if (block === undefined) {
      this.blocks.push(this.#pool.take());
    } else if (this.#pool.isShared(block)) {
      const own = this.#pool.take();
      copy(block, own);
      this.#pool.release(block);
      this.blocks[index] = own;
    }
  }

  /** Blocks that it may still take until it has `length` tokens. */
  wants(length: number): number {
    const index = blocksFor(this.tokens.length) - 1;
    const block = this.blocks[index];
    const copies = block !== undefined && this.#pool.isShared(block) ? 1 : 0;
    return Math.max(0, blocksFor(length) - this.blocks.length) + copies;
  }

  close(): void {
    for (const block of this.blocks) this.#pool.release(block);
    this.blocks.length = 0;
  }
}

export function blocksFor(tokens: number): number {
  return Math.ceil(tokens / CACHE_BLOCK_TOKENS);
}
