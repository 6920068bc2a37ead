// How a value lies in the arena: a header, then its buffers, each on a 64-byte boundary.
//
//   u32 head bytes, u32 buffer count, f64 length of each buffer, head (wire.Value with body and refs), padding, buffers
import { type EncodedValue, wire } from '../protocol/index.js';

const ALIGN = 64;
const align = (at: number): number => Math.ceil(at / ALIGN) * ALIGN;

/** Pages are what a stray write of a reader copies: objects never share one, so that it can hide nobody else's bytes. */
export const PAGE_BYTES = 4096;

export interface StoredLayout {
  readonly bytes: number;
  readonly parts: readonly { readonly at: number; readonly bytes: Uint8Array }[];
}

export function layoutValue(value: EncodedValue): StoredLayout {
  const head = wire.Value.encode({ body: value.body, refs: value.refs as wire.Ref.$Properties[] }).finish();
  const start = Buffer.alloc(8 + 8 * value.buffers.length);
  start.writeUInt32LE(head.length, 0);
  start.writeUInt32LE(value.buffers.length, 4);
  value.buffers.forEach((buffer, index) => {
    start.writeDoubleLE(buffer.byteLength, 8 + 8 * index);
  });
  const parts = [
    { at: 0, bytes: start as Uint8Array },
    { at: start.length, bytes: head },
  ];
  let at = align(start.length + head.length);
  for (const buffer of value.buffers) {
    parts.push({ at, bytes: buffer });
    at = align(at + buffer.byteLength);
  }
  return { bytes: at, parts };
}

/** The value in `memory`; its buffers are views. Throws RangeError when the bytes are no such layout. */
export function parseStored(memory: ArrayBuffer): {
  body: Uint8Array;
  refs: wire.Ref.$Properties[];
  buffers: Uint8Array[];
} {
  const view = new DataView(memory);
  const headBytes = view.getUint32(0, true);
  const count = view.getUint32(4, true);
  const startBytes = 8 + 8 * count;
  // A copy: what is decoded from the head must not hold the whole mapping.
  const head = wire.Value.decode(Buffer.from(new Uint8Array(memory, startBytes, headBytes)));
  const buffers: Uint8Array[] = [];
  let at = align(startBytes + headBytes);
  for (let index = 0; index < count; index += 1) {
    const length = view.getFloat64(8 + 8 * index, true);
    buffers.push(new Uint8Array(memory, at, length));
    at = align(at + length);
  }
  return { body: head.body, refs: head.refs, buffers };
}

/** Bytes of a value that travels inside messages. */
export const sizeOf = (value: wire.Value.$Properties): number =>
  (value.body?.byteLength ?? 0) + (value.buffers ?? []).reduce((sum, buffer) => sum + buffer.byteLength, 0);
