// Several values of a key, each once.

export class Multimap<Key, Value> {
  readonly #sets = new Map<Key, Set<Value>>();

  add(key: Key, value: Value): void {
    const set = this.#sets.get(key);
    if (set) set.add(value);
    else this.#sets.set(key, new Set([value]));
  }

  delete(key: Key, value: Value): void {
    const set = this.#sets.get(key);
    if (set?.delete(value) && set.size === 0) this.#sets.delete(key);
  }

  /** How many keys have values. */
  get size(): number {
    return this.#sets.size;
  }

  has(key: Key): boolean {
    return this.#sets.has(key);
  }

  /** A copy: what is done to each of them may take it out. */
  of(key: Key): readonly Value[] {
    return [...(this.#sets.get(key) ?? [])];
  }
}
