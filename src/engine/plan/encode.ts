// A plan as bytes, exactly as ARCHITECTURE.md ("Plan format") says. Equal programs give equal bytes.
import { ConfigError } from '../../common/index.js';
import { DTYPE_CODES, type Graph, type TensorId } from '../graph.js';
import { ruleOf } from '../ops/index.js';
import type { Place } from './placement.js';
import type { Schedule } from './schedule.js';

const MAGIC = 0x504c4c52; // "RLLP"
const VERSION = 2;
const HEADER_BYTES = 32;
const BUFFER_BYTES = 16;
const TENSOR_BYTES = 56;
const INSTRUCTION_BYTES = 56;

export interface BufferSize {
  readonly name: string;
  readonly bytes: number;
  /** Whether it lies in the memory of the host, not in that of the device. */
  readonly isOnHost: boolean;
}

export function encodePlan(
  graph: Graph,
  places: ReadonlyMap<TensorId, Place>,
  order: Schedule,
  buffers: readonly BufferSize[],
): Uint8Array {
  const strings = new StringTable();
  const tensors: TensorId[] = [];
  const tensorIndex = new Map<TensorId, number>();
  const indices: number[] = [];
  const attributes: number[] = [];
  const bufferIndex = new Map(buffers.map((buffer, index) => [buffer.name, index]));

  const list = (ids: readonly TensorId[]): readonly [start: number, count: number] => {
    const start = indices.length;
    for (const id of ids) {
      let index = tensorIndex.get(id);
      if (index === undefined) {
        index = tensors.push(id) - 1;
        tensorIndex.set(id, index);
      }
      indices.push(index);
    }
    return [start, ids.length];
  };

  const instructions = graph.ops.map((op, index) => {
    const rule = ruleOf(op.kind);
    const inputs = list(rule.executed?.(op) ?? op.inputs);
    const outputs = list(op.outputs);
    const attributeStart = attributes.length;
    const names = [...rule.attributes, ...(rule.optionalAttributes ?? []).filter((name) => name in op.attributes)];
    for (const name of names) {
      const value = op.attributes[name];
      if (value === undefined) throw new ConfigError(`${op.path} (${op.kind})`, `an attribute ${name}`, undefined);
      attributes.push(value);
    }
    const waits = order.waits[index]!;
    const waitStart = indices.push(...waits) - waits.length;
    const name = strings.add(op.kind);
    const path = strings.add(op.path);
    const stream = order.streams[index]!;
    return [...name, stream, ...inputs, ...outputs, attributeStart, names.length, waitStart, waits.length, ...path, 0];
  });
  const bufferNames = buffers.map((buffer) => strings.add(buffer.name));
  const text = strings.bytes();

  const indexBytes = Math.ceil(indices.length / 2) * 8;
  const buffersAt = HEADER_BYTES;
  const tensorsAt = buffersAt + buffers.length * BUFFER_BYTES;
  const instructionsAt = tensorsAt + tensors.length * TENSOR_BYTES;
  const indicesAt = instructionsAt + instructions.length * INSTRUCTION_BYTES;
  const attributesAt = indicesAt + indexBytes;
  const stringsAt = attributesAt + attributes.length * 8;
  const bytes = new Uint8Array(stringsAt + text.length);
  const view = new DataView(bytes.buffer);

  const words = (at: number, values: readonly number[]) => {
    for (const [i, value] of values.entries()) view.setUint32(at + 4 * i, value, true);
  };
  const counts = [buffers.length, tensors.length, instructions.length, indices.length, attributes.length, text.length];
  words(0, [MAGIC, VERSION, ...counts]);
  for (const [i, buffer] of buffers.entries()) {
    const at = buffersAt + i * BUFFER_BYTES;
    view.setBigUint64(at, BigInt(buffer.bytes), true);
    words(at + 8, bufferNames[i]!);
  }
  for (const [i, id] of tensors.entries()) {
    const at = tensorsAt + i * TENSOR_BYTES;
    const tensor = graph.tensors[id]!;
    const place = places.get(id)!;
    words(at, [bufferIndex.get(place.buffer)!, DTYPE_CODES[tensor.dtype], tensor.dims.length, 0]);
    view.setBigUint64(at + 16, BigInt(place.offsetBytes), true);
    for (let d = 0; d < 4; d++) view.setBigUint64(at + 24 + 8 * d, BigInt(tensor.dims[d] ?? 0), true);
  }
  for (const [i, fields] of instructions.entries()) words(instructionsAt + i * INSTRUCTION_BYTES, fields);
  words(indicesAt, indices);
  for (const [i, value] of attributes.entries()) view.setFloat64(attributesAt + 8 * i, value, true);
  bytes.set(text, stringsAt);
  return bytes;
}

/** Strings one after the other, each once. */
class StringTable {
  readonly #slices = new Map<string, readonly [offset: number, length: number]>();
  readonly #parts: Buffer[] = [];
  #used = 0;

  add(text: string): readonly [offset: number, length: number] {
    const known = this.#slices.get(text);
    if (known) return known;
    const part = Buffer.from(text, 'utf8');
    const slice = [this.#used, part.length] as const;
    this.#parts.push(part);
    this.#used += part.length;
    this.#slices.set(text, slice);
    return slice;
  }

  bytes(): Buffer {
    return Buffer.concat(this.#parts);
  }
}
