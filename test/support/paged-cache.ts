// Keys and values of whole sequences as the blocks of a cache, for ops that read or write it.
import { CACHE_BLOCK_TOKENS } from '#src/engine/index.js';

export interface PagedShape {
  readonly slots: number;
  readonly positions: number;
  /** Key-value heads times head dim. */
  readonly width: number;
  /** [slots, blocks per slot]: which block holds which part of a slot. */
  readonly table: readonly number[];
  readonly blockCount: number;
}

/** rows[slots, positions, width] as cacheK [B, width, T] or cacheV [B, T, width]; zeros where no row lies. */
export function paged(rows: ArrayLike<number>, kind: 'k' | 'v', shape: PagedShape): Float32Array {
  const { slots, positions, width, table, blockCount } = shape;
  const cache = new Float32Array(blockCount * CACHE_BLOCK_TOKENS * width);
  const slotBlocks = table.length / slots;
  for (let slot = 0; slot < slots; slot++) {
    for (let position = 0; position < positions; position++) {
      const token = position % CACHE_BLOCK_TOKENS;
      const block = table[slot * slotBlocks + Math.floor(position / CACHE_BLOCK_TOKENS)]!;
      for (let e = 0; e < width; e++) {
        const value = rows[(slot * positions + position) * width + e]!;
        const at = kind === 'k' ? e * CACHE_BLOCK_TOKENS + token : token * width + e;
        cache[block * CACHE_BLOCK_TOKENS * width + at] = value;
      }
    }
  }
  return cache;
}
