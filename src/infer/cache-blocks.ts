// Which blocks of the cache are taken, by how many sequences, and what tokens they hold. Pure bookkeeping: block 0 is for rows
// of padding and is never given out.
import { CACHE_BLOCK_TOKENS } from '../engine/index.js';

export class CacheBlocks {
  /** Users of each block; 0: free. */
  readonly #users: Uint32Array;
  readonly #free: number[];
  readonly #byContent = new Map<string, number>();
  readonly #contents = new Map<number, string>();

  constructor(count: number) {
    this.#users = new Uint32Array(count);
    this.#free = Array.from({ length: count - 1 }, (_, i) => count - 1 - i);
  }

  get freeCount(): number {
    return this.#free.length;
  }

  take(): number {
    const block = this.#free.pop();
    if (block === undefined) throw new Error('no block of the cache is free');
    this.#users[block] = 1;
    return block;
  }

  share(block: number): number {
    this.#users[block]! += 1;
    return block;
  }

  isShared(block: number): boolean {
    return this.#users[block]! > 1;
  }

  release(block: number): void {
    this.#users[block]! -= 1;
    if (this.#users[block] !== 0) return;
    this.#free.push(block);
    const content = this.#contents.get(block);
    if (content === undefined) return;
    this.#contents.delete(block);
    if (this.#byContent.get(content) === block) this.#byContent.delete(content);
  }

  /** Blocks in use that hold the beginning of `tokens`, whole blocks only, in order. They stay their owners'. */
  find(tokens: readonly number[]): readonly number[] {
    const found: number[] = [];
    for (const content of contentsOf(tokens)) {
      const block = this.#byContent.get(content);
      if (block === undefined) break;
      found.push(block);
    }
    return found;
  }

  /** Makes the whole blocks of a sequence known to {@link find}. */
  publish(tokens: readonly number[], blocks: readonly number[]): void {
    let index = 0;
    for (const content of contentsOf(tokens)) {
      const block = blocks[index++]!;
      if (this.#byContent.has(content)) continue;
      this.#byContent.set(content, block);
      this.#contents.set(block, content);
    }
  }
}

/** Names of the whole blocks of `tokens`: what a block holds depends on everything before it. */
function* contentsOf(tokens: readonly number[]): Generator<string> {
  for (let end = CACHE_BLOCK_TOKENS; end <= tokens.length; end += CACHE_BLOCK_TOKENS) {
    yield tokens.slice(0, end).join();
  }
}
