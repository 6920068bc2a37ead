// Reads a safetensors file: header checked before any tensor is touched, tensors read one at a time by range.
// Format: u64 header length, JSON header, then the tensors' bytes without gap or overlap.
import { type FileHandle, open } from 'node:fs/promises';
import { z } from 'zod';
import { DataError } from '../common/index.js';
import { type FloatType, widen } from '../engine/index.js';
import { duplicateKey } from './json-keys.js';

/** What files call the types that parameters can have. */
export const STORED_NAMES: Readonly<Record<FloatType, string>> = { f32: 'F32', bf16: 'BF16', f16: 'F16' };

/** An entry of a safetensors header. */
export interface StoredTensor {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  /** Byte range behind the header. */
  readonly begin: number;
  readonly end: number;
}

/** Headers above this are refused; a header of a large model has less than one megabyte. */
export const HEADER_BYTES_MAX = 16 * 1024 * 1024;

const DTYPE_BYTES: Readonly<Record<string, number>> = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U64: 8,
  U32: 4,
  U16: 2,
  U8: 1,
  BOOL: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
};

const offset = z.number().int().nonnegative();
const headerSchema = z.record(
  z.string(),
  z.strictObject({ dtype: z.string(), shape: z.array(offset).max(8), data_offsets: z.tuple([offset, offset]) }),
);
const metadataSchema = z.record(z.string(), z.string());

/** An open safetensors file whose header was checked whole: types are known, ranges fit shapes, with no gap and no overlap. */
export class SafetensorsFile implements AsyncDisposable {
  readonly path: string;
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  readonly metadata: Readonly<Record<string, string>>;
  readonly #file: FileHandle;
  readonly #dataStart: number;

  private constructor(file: FileHandle, path: string, header: Header, dataStart: number) {
    this.#file = file;
    this.path = path;
    this.tensors = header.tensors;
    this.metadata = header.metadata;
    this.#dataStart = dataStart;
  }

  /** Opens and checks a file. Throws DataError that names the file and the tensor. */
  static async open(path: string): Promise<SafetensorsFile> {
    const file = await open(path, 'r').catch((cause: unknown) => {
      throw new DataError({ place: path, detail: 'cannot be opened' }, { cause });
    });
    try {
      const { size } = await file.stat();
      const length = await headerLength(file, path, size);
      const text = await readExactly(file, path, 8, length);
      return new SafetensorsFile(file, path, parseHeader(text, path, size - 8 - length), 8 + length);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** The tensor's values as float32; 16-bit floats are widened exactly. Other types are refused. */
  async readFloats(name: string): Promise<Float32Array> {
    const tensor = this.tensors.get(name);
    if (!tensor) throw new DataError({ place: this.path, detail: `holds no tensor ${name}` });
    return widen(await this.readBytes(name, 0, tensor.end - tensor.begin), this.floatType(tensor));
  }

  /** The type of a tensor of floats. Throws DataError for any other. */
  floatType({ name, dtype }: StoredTensor): FloatType {
    const type = (['f32', 'bf16', 'f16'] as const).find((known) => STORED_NAMES[known] === dtype);
    if (type) return type;
    const detail = `has dtype ${dtype}; F32, BF16 and F16 can be read`;
    throw new DataError({ place: `${this.path}: ${name}`, detail });
  }

  /** The open file, and the byte at which a tensor begins in it: for reading past this process's memory. */
  get fd(): number {
    return this.#file.fd;
  }

  fileOffset({ begin }: StoredTensor): number {
    return this.#dataStart + begin;
  }

  /** `length` bytes of a tensor from `start` on. */
  async readBytes(name: string, start: number, length: number): Promise<Buffer> {
    const tensor = this.tensors.get(name);
    if (!tensor || start + length > tensor.end - tensor.begin) {
      throw new DataError({ place: this.path, detail: `holds no bytes ${start}..${start + length} of ${name}` });
    }
    return readExactly(this.#file, this.path, this.#dataStart + tensor.begin + start, length);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }
}

interface Header {
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  readonly metadata: Readonly<Record<string, string>>;
}

async function headerLength(file: FileHandle, path: string, size: number): Promise<number> {
  if (size < 10) throw new DataError({ place: path, detail: `is too short for safetensors (${size} bytes)` });
  const length = (await readExactly(file, path, 0, 8)).readBigUInt64LE();
  if (length > BigInt(HEADER_BYTES_MAX)) {
    throw new DataError({ place: path, detail: `has a header of ${length} bytes, more than ${HEADER_BYTES_MAX}` });
  }
  if (8n + length > BigInt(size)) {
    throw new DataError({ place: path, detail: `is cut off: its header of ${length} bytes ends behind the file` });
  }
  return Number(length);
}

/** Checks the header against the bytes behind it: known types, shape times size equal to the range, no gap, no overlap. */
function parseHeader(bytes: Buffer, path: string, dataBytes: number): Header {
  const fail = (detail: string, name?: string) => new DataError({ place: name ? `${path}: ${name}` : path, detail });
  if (bytes[0] !== 0x7b) throw fail('is not a safetensors file (its header does not start with "{")');
  let json: unknown;
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    json = JSON.parse(text);
  } catch (cause) {
    throw new DataError({ place: path, detail: 'has a header that is not JSON' }, { cause });
  }
  const twice = duplicateKey(text);
  if (twice !== null) throw fail('appears twice in the header', twice);

  const { __metadata__: rawMetadata = {}, ...rest } = json as Record<string, unknown>;
  const metadata = metadataSchema.safeParse(rawMetadata);
  if (!metadata.success) throw fail('must map strings to strings', '__metadata__');
  const header = headerSchema.safeParse(rest);
  if (!header.success) {
    const issue = header.error.issues[0]!;
    throw fail(`has a malformed header: ${issue.path.slice(1).join('.')} ${issue.message}`, String(issue.path[0]));
  }

  const tensors = Object.entries(header.data).map(
    ([
      name,
      {
        dtype,
        shape,
        data_offsets: [begin, end],
      },
    ]): StoredTensor => {
      const size = DTYPE_BYTES[dtype];
      if (size === undefined) throw fail(`has the unknown dtype ${dtype}`, name);
      const expected = shape.reduce((product, dim) => product * BigInt(dim), BigInt(size));
      if (begin > end || expected !== BigInt(end - begin)) {
        throw fail(`takes bytes ${begin}..${end}, but ${dtype} [${shape.join(', ')}] has ${expected}`, name);
      }
      return { name, dtype, shape, begin, end };
    },
  );
  let reached = 0;
  for (const { name, begin, end } of tensors.toSorted((a, b) => a.begin - b.begin || a.end - b.end)) {
    if (begin !== reached)
      throw fail(`${begin < reached ? 'overlaps' : 'leaves a gap behind'} the tensor before it`, name);
    reached = end;
  }
  if (reached !== dataBytes) throw fail(`has ${dataBytes} bytes of data, its header says ${reached}`);
  return { tensors: new Map(tensors.map((tensor) => [tensor.name, tensor])), metadata: metadata.data };
}

async function readExactly(file: FileHandle, path: string, position: number, length: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafeSlow(length); // memory of its own, so that it starts on a boundary of 8 bytes
  let done = 0;
  while (done < length) {
    const { bytesRead } = await file.read(buffer, done, Math.min(length - done, 2 ** 30), position + done);
    if (bytesRead === 0) throw new DataError({ place: path, detail: `ends at byte ${position + done}` });
    done += bytesRead;
  }
  return buffer;
}
