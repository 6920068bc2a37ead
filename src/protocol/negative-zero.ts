// -0 through msgpack, whose integers have no sign of zero: where a value holds one, a copy of its containers is packed that
// holds a marker in its place. Values without are found out by a look at their bytes, or by one walk.

/** Stands for -0. */
export class NegativeZero {}

/** Levels that are walked without noting what was seen; values that are deeper, or have cycles, are walked again with notes. */
const DEPTH_MAX = 32;
const VISITS_MAX = 1_000_000;
let visitsLeft = 0;

/** Whether -0 is somewhere in `value`, as far as plain containers reach. */
export function holdsNegativeZero(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return Object.is(value, -0);
  visitsLeft = VISITS_MAX;
  return quickLook(value, 0) ?? thoroughLook(value);
}

/** Null: it cannot say. */
function quickLook(container: object, depth: number): boolean | null {
  if (depth > DEPTH_MAX || visitsLeft < 0) return null;
  visitsLeft -= 1;
  const items = Array.isArray(container) ? container : itemsOf(container);
  for (const item of items) {
    if (typeof item === 'number') {
      if (item === 0 && 1 / item < 0) return true;
    } else if (typeof item === 'object' && item !== null) {
      const found = quickLook(item, depth + 1);
      if (found !== false) return found;
    }
  }
  return false;
}

function thoroughLook(value: object): boolean {
  const seen = new Set<object>();
  const rest: unknown[] = [value];
  while (rest.length > 0) {
    const next = rest.pop();
    if (Object.is(next, -0)) return true;
    if (typeof next !== 'object' || next === null || seen.has(next)) continue;
    seen.add(next);
    for (const item of Array.isArray(next) ? next : itemsOf(next)) rest.push(item);
  }
  return false;
}

const NONE: readonly never[] = [];

function itemsOf(container: object): Iterable<unknown> {
  if (isPlain(container)) return Object.values(container);
  if (container instanceof Map) return [...container.keys(), ...container.values()];
  return container instanceof Set ? container : NONE;
}

/** `value` with markers for -0; containers are copied, each once, all else is the same. */
export function markNegativeZeros(value: unknown): unknown {
  const copies = new Map<object, object>();
  const copied = <Copy extends object>(of: object, copy: Copy, fill: (copy: Copy) => void): Copy => {
    copies.set(of, copy);
    fill(copy);
    return copy;
  };
  const walk = (item: unknown): unknown => {
    if (Object.is(item, -0)) return new NegativeZero();
    if (typeof item !== 'object' || item === null) return item;
    const known = copies.get(item);
    if (known) return known;
    if (Array.isArray(item))
      return copied(item, [] as unknown[], (copy) => {
        for (const element of item) copy.push(walk(element));
      });
    // A Set and the keys of a Map turn -0 into 0 by themselves.
    if (item instanceof Map)
      return copied(item, new Map<unknown, unknown>(), (copy) => {
        for (const [key, held] of item) copy.set(walk(key), walk(held));
      });
    if (item instanceof Set)
      return copied(item, new Set<unknown>(), (copy) => {
        for (const held of item) copy.add(walk(held));
      });
    if (!isPlain(item)) return item;
    return copied(item, {} as Record<string, unknown>, (copy) => {
      for (const [key, held] of Object.entries(item)) copy[key] = walk(held);
    });
  };
  return walk(value);
}

function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}
