// Who lets whom wait: every rank that waits names the same late one; a run is told once.
import type { LateNews } from './rank-messages.js';

export class LateRanks {
  readonly #tell: (news: LateNews) => void;
  /** By the rank that waits: whom it waits for. */
  readonly #late = new Map<number, string>();

  constructor(tell: (news: LateNews) => void) {
    this.#tell = tell;
  }

  /** What rank `waiting` says. */
  hear(waiting: number, news: LateNews): void {
    const ranks = news.ranks.join();
    const wasKnown = this.#knows(ranks);
    if (news.kind === 'late') this.#late.set(waiting, ranks);
    else this.#late.delete(waiting);
    if (wasKnown !== this.#knows(ranks)) this.#tell(news);
  }

  #knows(ranks: string): boolean {
    return [...this.#late.values()].includes(ranks);
  }
}
