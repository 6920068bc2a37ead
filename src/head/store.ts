// Where the head keeps what must outlive it: in memory (embedded clusters, nothing outlives them) or on disk (level-store.ts).

export type StoreTable = 'node' | 'actor' | 'lease' | 'job' | 'group' | 'kv' | 'run' | 'meta';

/** `value` undefined: the record goes. */
export interface Change {
  readonly table: StoreTable;
  readonly id: string;
  readonly value: unknown;
}

export interface Entry {
  readonly table: StoreTable;
  readonly id: string;
  readonly value: unknown;
}

export interface Store extends AsyncDisposable {
  /** Everything that was kept, in no order. */
  load(): Promise<readonly Entry[]>;
  /** All of `changes` or none. `isDurable`: on the disk itself before this resolves; else soon after. */
  write(changes: readonly Change[], isDurable: boolean): Promise<void>;
}

/** Keeps nothing. */
export class MemoryStore implements Store {
  async load(): Promise<readonly Entry[]> {
    return [];
  }
  async write(): Promise<void> {}
  async [Symbol.asyncDispose](): Promise<void> {}
}
