// The records of a recipe, wherever they are, and the split into those that train and those that are held out.
import { ConfigError } from '../common/index.js';
import { type Placed, type ReadResult, randomFrom, readDecoded, seedOf } from '../data/index.js';
import type { DataChoice } from './recipe.js';

/** Throws {@link ConfigError} for what is no choice of data. */
export function expectData(data: unknown, place: string): void {
  if (typeof data === 'string') return;
  if (typeof data === 'object' && data !== null && ('path' in data || 'records' in data)) return;
  throw new ConfigError(place, 'a file, an http(s) URL, hf:ID, { path } or { records }', data);
}

/** Reads `data` by `decode`. Errors name `place`. */
export async function recordsOf<R extends object>(
  data: DataChoice<R>,
  decode: (value: unknown) => R | string,
  place: string,
): Promise<ReadResult<R>> {
  if (typeof data === 'string') return readDecoded(data, decode);
  if ('path' in data) return readDecoded(data.path, decode, data);
  const records = data.records.map(
    (record, index): Placed<R> =>
      'place' in record && 'record' in record
        ? (record as Placed<R>)
        : { place: `record ${index + 1}`, record: record as R },
  );
  if (records.length === 0) throw new ConfigError(place, 'at least one record', 'none');
  return { records, skipped: 0, skippedPlaces: [] };
}

export const skipsBad = (data: DataChoice<unknown>): boolean => typeof data === 'object' && data.skipBad === true;

/** Holds out a share of the records, chosen by the seed; at least one where the share is not 0. */
export function split<R>(
  records: readonly R[],
  share: number,
  seed: number,
): { readonly train: readonly R[]; readonly heldOut: readonly R[] } {
  if (share === 0 || records.length < 2) return { train: records, heldOut: [] };
  const count = Math.max(1, Math.floor(share * records.length));
  const order = randomFrom(seedOf('held-out', seed)).shuffle(records.keys());
  const held = new Set(order.slice(0, count));
  return {
    train: records.filter((_record, index) => !held.has(index)),
    heldOut: records.filter((_record, index) => held.has(index)),
  };
}

/** At most `parts` equal parts, none empty. */
export function partsOf<R>(records: readonly R[], parts: number): (readonly R[])[] {
  const size = Math.ceil(records.length / parts);
  return Array.from({ length: Math.ceil(records.length / size) }, (_unused, part) =>
    records.slice(part * size, (part + 1) * size),
  );
}
