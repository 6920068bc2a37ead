// What waits for room: lines of equal demands, so that the second of a line is not tried where the first found no room.
import type { NodeId } from '../common/index.js';

/** One placement that waits for room. */
export type PendingKey = `group:${string}` | `actor:${string}` | `lease:${string}` | `job:${string}`;

interface Entry {
  readonly key: PendingKey;
  readonly terms: string;
  readonly order: number;
  readonly line: Line;
  isGone: boolean;
}

/** What comes before what: by priority, then by depth, then in order of arrival. */
export interface Urgency {
  readonly priority: number;
  /**
   * Of tasks that wait for tasks: how many are above. The deepest first, so that a tree of them is finished branch by branch, with
   * as many processes as it is deep, and not level by level, with a process for each that waits.
   */
  readonly depth: number;
}

/** Room that was gained is remembered for so many times. */
const GAINS_MAX = 64;

/** Those that ask for the same with the same urgency, in order of arrival. */
export interface Line {
  readonly name: string;
  readonly shape: string;
  readonly urgency: Urgency;
  entries: Entry[];
  /** The first that may still be there; what is before it has gone. */
  start: number;
  size: number;
  /** When it was last found to have no room, counted in gains of room; -1: never. */
  triedAt: number;
}

/** A line keeps more gone entries than waiting ones only as long as they are fewer than this. */
const GONE_MIN = 16;

export class PendingQueue {
  readonly #lines = new Map<string, Line>();
  readonly #entries = new Map<PendingKey, Entry>();
  #order = 0;
  /** Nodes where there was more room, the last of `#gains`. */
  #gained: NodeId[] = [];
  #gains = 0;

  get size(): number {
    return this.#entries.size;
  }
  get lineCount(): number {
    return this.#lines.size;
  }
  has(key: PendingKey): boolean {
    return this.#entries.has(key);
  }
  shapeOf(key: PendingKey): string | undefined {
    return this.#entries.get(key)?.line.shape;
  }
  /** In order of arrival. */
  keys(): Iterable<PendingKey> {
    return this.#entries.keys();
  }

  /**
   * `shape`: what it asks for; equal where and only where the same nodes have room for it. `terms`: equal where the same workers will
   * do; '': none that has served another.
   */
  add(key: PendingKey, shape: string, urgency: Urgency, terms: string): void {
    this.delete(key);
    const name = `${urgency.priority} ${urgency.depth} ${shape}`;
    const line = this.#lines.get(name) ?? { name, shape, urgency, entries: [], start: 0, size: 0, triedAt: -1 };
    const entry = { key, terms, order: ++this.#order, line, isGone: false };
    line.entries.push(entry);
    line.size += 1;
    this.#lines.set(name, line);
    this.#entries.set(key, entry);
  }

  delete(key: PendingKey): void {
    const entry = this.#entries.get(key);
    if (!entry) return;
    const { line } = entry;
    this.#entries.delete(key);
    entry.isGone = true;
    line.size -= 1;
    if (line.size === 0) this.#lines.delete(line.name);
    while (line.entries[line.start]?.isGone) line.start += 1;
    if (line.entries.length <= 2 * line.size + GONE_MIN) return;
    line.entries = line.entries.filter(({ isGone }) => !isGone);
    line.start = 0;
  }

  /** Of each line what waits in it, in order of arrival. */
  *lines(): Iterable<Iterable<PendingKey>> {
    for (const line of this.#lines.values()) yield keysOf(line);
  }

  /** The terms of those that are next in line. */
  nextTerms(): ReadonlySet<string> {
    const next = new Set<string>();
    for (const line of this.#lines.values()) next.add(firstOf(line).terms);
    return next;
  }

  /** How many are before it in its line. */
  positionOf(key: PendingKey): number {
    const entry = this.#entries.get(key);
    if (!entry) return 0;
    return entry.line.entries.reduce((count, other) => count + (other.order < entry.order && !other.isGone ? 1 : 0), 0);
  }

  /** On that node, or in a bundle there, is more room than before: what did not fit may fit now. */
  roomGained(nodeId: NodeId): void {
    this.#gains += 1;
    this.#gained.push(nodeId);
    if (this.#gained.length > 2 * GAINS_MAX) this.#gained = this.#gained.slice(-GAINS_MAX);
  }

  /**
   * Visits the first of each line that may fit, the most urgent first. `visit` places it and takes it out, whereupon the
   * next of its line has its turn, or says that there is no room. `gained`: the only nodes that have more room than when
   * the line was last tried; null: many have, or it was never tried.
   */
  drain(visit: (key: PendingKey, gained: readonly NodeId[] | null) => 'placed' | 'no room'): void {
    const open = [...this.#lines.values()].filter((line) => line.triedAt !== this.#gains).sort(byUrgency);
    while (open.length > 0) {
      const line = open.pop()!;
      const gains = this.#gains;
      const missed = line.triedAt === -1 ? Number.POSITIVE_INFINITY : gains - line.triedAt;
      const gained = missed > this.#gained.length ? null : this.#gained.slice(-missed);
      if (visit(firstOf(line).key, gained) === 'no room') {
        line.triedAt = gains;
        continue;
      }
      if (line.size === 0) continue;
      line.triedAt = -1;
      const at = open.findIndex((other) => byUrgency(line, other) < 0);
      open.splice(at === -1 ? open.length : at, 0, line);
    }
  }

  /** Whether a line may fit since it was last tried. */
  get mayFit(): boolean {
    for (const line of this.#lines.values()) if (line.triedAt !== this.#gains) return true;
    return false;
  }
}

function* keysOf({ entries, start }: Line): Iterable<PendingKey> {
  for (let at = start; at < entries.length; at++) if (!entries[at]!.isGone) yield entries[at]!.key;
}

const firstOf = (line: Line): Entry => line.entries[line.start]!;

/** The most urgent last. */
const byUrgency = (a: Line, b: Line): number =>
  a.urgency.priority - b.urgency.priority || a.urgency.depth - b.urgency.depth || firstOf(b).order - firstOf(a).order;
