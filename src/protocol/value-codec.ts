// Values as bytes: a msgpack body, and beside it the memory of typed arrays, which is never copied into the body.
// Structured-clone types, cycles and errors survive; refs and handles are counted; what cannot travel is named by its path.
// One number does not survive: -0 outside typed arrays arrives as 0, since msgpack writes both the same.
import { EventEmitter } from 'node:events';
import { addExtension, Packr } from 'msgpackr';
import { SerializationError } from '../common/index.js';
import { describeError, type ErrorFacts, rebuildError } from './failure.js';
import { holdsNegativeZero, markNegativeZeros, NegativeZero } from './negative-zero.js';
import type { wire } from './wire.js';

/** Turns refs and handles into what travels, and back. Implemented by the client library for its process. */
export interface ReferenceHost {
  /** The wire form of a ref; called for each ref inside a value, in the order of `wire.Value.refs`. */
  exportRef(ref: object): wire.Ref.$Properties;
  importRef(ref: wire.Ref.$Properties): object;
  /** A plain value that says which actor a handle means. */
  exportHandle(handle: object): unknown;
  importHandle(handle: unknown): object;
}

/** A value taken apart. The buffers are views of the caller's memory until they are copied or sent. */
export interface EncodedValue {
  readonly body: Uint8Array;
  readonly buffers: readonly Uint8Array[];
  readonly refs: readonly wire.Ref.$Properties[];
}

type Constructor = abstract new (...args: never[]) => object;

/** Views by kind; the position is the number on the wire. 0: ArrayBuffer, 1: Buffer, 2: DataView. */
const viewKinds = [
  Int8Array,
  Uint8Array,
  Uint8ClampedArray,
  Int16Array,
  Uint16Array,
  Int32Array,
  Uint32Array,
  Float32Array,
  Float64Array,
  BigInt64Array,
  BigUint64Array,
] as const;
const FIRST_VIEW_KIND = 3;
const TYPE = { memory: 0x20, error: 0x21, ref: 0x22, handle: 0x23, url: 0x24, negativeZero: 0x25 } as const;

/** The packer, with what one `encodeValue` collects. msgpackr calls the `write` of an extension on it. */
class ValuePackr extends Packr {
  buffers: Uint8Array[] = [];
  refs: wire.Ref.$Properties[] = [];
  host: ReferenceHost | null = null;
}

const refuse = (what: string) => (): never => {
  throw new Unsendable(what);
};
class Unsendable extends Error {}

// Records rather than plain maps: with maps alone a Map could not be told from an object.
const packr = new ValuePackr({
  structuredClone: true,
  writeFunction: refuse('a function') as unknown as () => undefined,
  copyBuffers: true,
});

/**
 * What the running `decodeValue` reads from. msgpackr registers extensions for the process and gives their `read` no
 * context; decoding is synchronous, so that this lives only within one call.
 */
let source: {
  readonly buffers: readonly Uint8Array[];
  readonly isShared: boolean;
  readonly refs: readonly object[];
  readonly host: ReferenceHost | null;
} | null = null;

function takeOut(this: unknown, value: ArrayBufferLike | ArrayBufferView): readonly [number, number] {
  const self = this as ValuePackr;
  const isView = ArrayBuffer.isView(value);
  const bytes = isView ? new Uint8Array(value.buffer, value.byteOffset, value.byteLength) : new Uint8Array(value);
  const index = self.buffers.push(bytes) - 1;
  if (!isView) return [0, index];
  if (Buffer.isBuffer(value)) return [1, index];
  if (value instanceof DataView) return [2, index];
  return [viewKinds.findIndex((kind) => value instanceof kind) + FIRST_VIEW_KIND, index];
}

function putBack([kind, index]: readonly [number, number]): object {
  const bytes = source?.buffers[index];
  if (!bytes) throw new RangeError(`the value names buffer ${index}, which did not come with it`);
  const Kind = viewKinds[kind - FIRST_VIEW_KIND];
  const width = Kind?.BYTES_PER_ELEMENT ?? 1;
  if (bytes.byteLength % width !== 0)
    throw new RangeError(`buffer ${index} has ${bytes.byteLength} bytes, no multiple of ${width}`);
  if (kind === 1)
    return source?.isShared ? Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength) : Buffer.from(bytes);
  // Inline bytes are a view of the received frame: copied, so that writing to one value cannot change another.
  const isMapped = source?.isShared && bytes.byteOffset % width === 0;
  const memory = isMapped && kind !== 0 ? bytes : new Uint8Array(bytes);
  if (kind === 0) return memory.buffer;
  if (kind === 2) return new DataView(memory.buffer, memory.byteOffset, memory.byteLength);
  if (!Kind) throw new RangeError(`unknown kind of array ${kind}`);
  return new Kind(memory.buffer as ArrayBuffer, memory.byteOffset, memory.byteLength / width);
}

/** Generators of both kinds, which have no class in common. */
// biome-ignore lint/complexity/noStaticOnlyClass: `instanceof` is what extensions are found by
abstract class Iterating {
  static [Symbol.hasInstance](value: unknown): boolean {
    if (typeof value !== 'object' || value === null || !('next' in value)) return false;
    return typeof value.next === 'function' && (Symbol.iterator in value || Symbol.asyncIterator in value);
  }
}

const TypedArray = Object.getPrototypeOf(Uint8Array) as Constructor;
/** Classes whose instances would arrive as empty objects, and what to call them. */
const unsendable: (readonly [Constructor, string])[] = [
  [EventEmitter, 'an object bound to this process (a socket, stream, child process or emitter)'],
  [EventTarget, 'an object bound to this process (an event target or abort signal)'],
  [Promise, 'a promise (await it first)'],
  [WeakMap, 'a WeakMap'],
  [WeakSet, 'a WeakSet'],
  [WeakRef, 'a WeakRef'],
  [Iterating, 'a running generator (collect what it gives first)'],
  [Blob, 'a Blob (await its arrayBuffer() first)'],
  [SharedArrayBuffer, 'a SharedArrayBuffer (send a typed array: it is shared through the object store)'],
];

// msgpackr asks the extension registered last first.
for (const [Class, what] of unsendable) addExtension({ Class, write: refuse(what) });
addExtension({ Class: URL, type: TYPE.url, write: (url: URL) => url.href, read: (href: string) => new URL(href) });
addExtension({ Class: NegativeZero, type: TYPE.negativeZero, write: () => 0, read: () => -0 });
addExtension({
  Class: Error,
  type: TYPE.error,
  write: describeError,
  read: (facts: ErrorFacts) => rebuildError(facts),
});
for (const Class of [ArrayBuffer, DataView, TypedArray])
  addExtension({ Class, type: TYPE.memory, write: takeOut, read: putBack });

/** Says that instances of a class cannot travel, and what they are. Called once for a class. */
export function defineUnsendable(Class: Constructor, what: string): void {
  unsendable.push([Class, what]);
  addExtension({ Class, write: refuse(what) });
}

/** Says which classes are refs and handles. Called once, by the client library when it is loaded. */
export function defineReferences(refClass: Constructor, handleClass: Constructor): void {
  addExtension({
    Class: refClass,
    type: TYPE.ref,
    write(this: unknown, ref: object) {
      const self = this as ValuePackr;
      if (!self.host) throw new Unsendable('an object ref outside a cluster');
      return self.refs.push(self.host.exportRef(ref)) - 1;
    },
    read(index: number) {
      const ref = source?.refs[index];
      if (!ref) throw new RangeError(`the value names ref ${index}, which did not come with it`);
      return ref;
    },
  });
  addExtension({
    Class: handleClass,
    type: TYPE.handle,
    write(this: unknown, handle: object) {
      const { host } = this as ValuePackr;
      if (!host) throw new Unsendable('an actor handle outside a cluster');
      return host.exportHandle(handle);
    },
    read(handle: unknown) {
      if (!source?.host) throw new RangeError('an actor handle came where none is expected');
      return source.host.importHandle(handle);
    },
  });
}

const NONE: readonly never[] = [];

/**
 * Takes `value` apart. Throws {@link SerializationError} naming the path inside the value that cannot travel.
 * @param root the name of the value in that path: "args[0]", "result"
 * @param of the call that it belongs to
 */
export function encodeValue(value: unknown, host: ReferenceHost | null, root: string, of = ''): EncodedValue {
  packr.host = host;
  try {
    const encoded = pack(value);
    // 0 and -0 are packed as a zero byte.
    return encoded.body.includes(0) && holdsNegativeZero(value) ? pack(markNegativeZeros(value)) : encoded;
  } catch (cause) {
    throw new SerializationError({ ...whyNot(value, root, cause), of }, { cause });
  } finally {
    packr.buffers = [];
    packr.refs = [];
    packr.host = null;
  }
}

function pack(value: unknown): EncodedValue {
  packr.buffers = [];
  packr.refs = [];
  const body = packr.pack(value);
  return { body, buffers: packr.buffers, refs: packr.refs };
}

function whyNot(value: unknown, root: string, cause: unknown): { readonly path: string; readonly detail: string } {
  try {
    const found = findUnsendable(value, root, new Set());
    if (found) return found;
  } catch {
    // too deep to look at, or a property throws: `cause` says so
  }
  const isTooDeep = cause instanceof RangeError && /call stack/.test(cause.message);
  const detail = cause instanceof Error ? cause.message : String(cause);
  return { path: root, detail: isTooDeep ? 'it is nested too deeply' : detail };
}

/**
 * Puts a value together again. Buffers in shared memory (`isShared`) become views; others are copied.
 * @param refs the refs of the value, already imported, in the order of `EncodedValue.refs`
 */
export function decodeValue(
  body: Uint8Array,
  buffers: readonly Uint8Array[],
  refs: readonly object[],
  host: ReferenceHost | null,
  isShared: boolean,
): unknown {
  const outer = source;
  source = { buffers, isShared, refs, host };
  try {
    return packr.unpack(body);
  } finally {
    source = outer;
  }
}

/** Encodes a plain value that holds neither refs nor handles, e.g. the fields of an error. */
export const encodePlain = (value: unknown, what: string): wire.Value.$Properties => {
  const { body, buffers } = encodeValue(value, null, what);
  return { body, buffers: buffers as Uint8Array[] };
};

export const decodePlain = (value: wire.Value.$Properties): unknown =>
  decodeValue(value.body ?? new Uint8Array([0xc0]), value.buffers ?? NONE, NONE, null, false);

function findUnsendable(value: unknown, path: string, seen: Set<object>): { path: string; detail: string } | null {
  if (typeof value === 'function') return { path, detail: 'it is a function' };
  if (typeof value === 'symbol') return { path, detail: 'it is a symbol' };
  if (typeof value !== 'object' || value === null || seen.has(value)) return null;
  seen.add(value);
  for (const [Class, what] of unsendable) if (value instanceof Class) return { path, detail: `it is ${what}` };
  if (ArrayBuffer.isView(value)) return null;
  if (value instanceof Map || value instanceof Set) {
    let index = 0;
    for (const item of value) {
      const found = findUnsendable(item, `${path}<entry ${index}>`, seen);
      if (found) return found;
      index += 1;
    }
    return null;
  }
  for (const [key, item] of Object.entries(value)) {
    const step = Array.isArray(value)
      ? `[${key}]`
      : /^[\p{ID_Start}$_][\p{ID_Continue}$]*$/u.test(key)
        ? `.${key}`
        : `[${JSON.stringify(key)}]`;
    const found = findUnsendable(item, path + step, seen);
    if (found) return found;
  }
  return null;
}
