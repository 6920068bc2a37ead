// Writes a safetensors file, one tensor at a time, under a temporary name that becomes the real one at the end.
import { open, rename, rm } from 'node:fs/promises';
import { DTYPE_BYTES, type FloatType, narrow } from '../engine/index.js';
import { STORED_NAMES } from './safetensors.js';

/** A tensor of a safetensors file to be written. */
export interface TensorToWrite {
  readonly name: string;
  readonly shape: readonly number[];
  /** Called when its turn comes; float32, as many as the shape says. */
  readonly read: () => Float32Array | Promise<Float32Array>;
}

/** Writes tensors in order of name, rounded to `dtype`. A crash leaves no file of this name, or the old one. */
export async function writeSafetensors(
  path: string,
  tensors: readonly TensorToWrite[],
  dtype: FloatType = 'f32',
): Promise<void> {
  const sorted = inFileOrder(tensors);
  const header: Record<string, unknown> = Object.create(null); // a tensor may be called __proto__
  header.__metadata__ = { format: 'pt' };
  let end = 0;
  for (const { name, shape } of sorted) {
    const begin = end;
    end += DTYPE_BYTES[dtype] * shape.reduce((product, dim) => product * dim, 1);
    header[name] = { dtype: STORED_NAMES[dtype], shape, data_offsets: [begin, end] };
  }
  const json = JSON.stringify(header);
  const text = Buffer.from(json.padEnd(json.length + ((8 - (Buffer.byteLength(json) % 8)) % 8)), 'utf8');
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));

  const temporary = `${path}.${process.pid}.tmp`;
  const file = await open(temporary, 'w');
  try {
    await file.writeFile(Buffer.concat([length, text]));
    for (const { name, shape, read } of sorted) {
      const values = await read();
      const count = shape.reduce((product, dim) => product * dim, 1);
      if (values.length !== count) throw new Error(`${name} has ${values.length} values, its shape says ${count}`);
      const stored = dtype === 'f32' ? values : narrow(values, dtype);
      await file.writeFile(new Uint8Array(stored.buffer, stored.byteOffset, stored.byteLength));
    }
    await file.sync();
    await file.close();
    await rename(temporary, path);
  } catch (error) {
    await file.close();
    await rm(temporary, { force: true });
    throw error;
  }
}

/** The order in which a file holds tensors, and in which they are read. */
export function inFileOrder<T extends { readonly name: string }>(tensors: readonly T[]): readonly T[] {
  return tensors.toSorted((a, b) => (a.name < b.name ? -1 : 1));
}
