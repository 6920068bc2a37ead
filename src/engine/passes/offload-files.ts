// What offloaded programs have in files, in whole pages: pieces on their way to be stepped (records, which the pass lays out itself, and
// runs of buffers whose place in a file is given), and what the device itself wants to have, read ahead through buffers.
import { byteLength, DTYPE_BYTES, type Op, type TensorId } from '../graph.js';
import { type Extent, FILES, type FileContents, PAGE, pagesOf } from '../offload.js';
import type { Place } from '../plan/placement.js';
import type { MovedTensors } from './moved-tensors.js';
import type { Slot } from './offload-slot.js';

/** Host memory of what is read for the device. */
export const READING = 'reading';

/** Pages between a slot and a file: an op that has them as input and output. */
export interface Transfer {
  readonly op: Omit<Op, 'kind'>;
  /** Where the pages begin in the slot. */
  readonly offset: number;
  readonly isRead: boolean;
  readonly isWritten: boolean;
  /** Whether it may not begin before all earlier pieces are written. */
  readonly isBound: boolean;
}

export class OffloadFiles {
  readonly #tensors: MovedTensors;
  readonly #extents: Extent[] = [];
  #recordBytes = 0;
  readonly #reads: { readonly id: TensorId; readonly buffer: number }[] = [];
  #readCount = 0;
  #bufferBytes = 0;

  /** Adds to `tensors`. */
  constructor(tensors: MovedTensors) {
    this.#tensors = tensors;
  }

  /** What lies in the file of records. */
  get records(): FileContents {
    return { extents: this.#extents, bytes: this.#recordBytes };
  }

  /** What an op has in files, in the room that `slot` has for it: the record first. */
  transfers(op: Op, slot: Slot): readonly Transfer[] {
    return [...this.#record(op, slot), ...this.#pages(op, slot)];
  }

  /** The ops that copy what lies in a file into `to`. Reads wait for nothing but that their buffer has been emptied. */
  fetch(id: TensorId, to: TensorId): readonly Op[] {
    const tensors = this.#tensors;
    const tensor = tensors.tensors[id]!;
    const place = tensors.placeOf(id)!;
    const { buffers, bufferBytes } = tensors.moved.get(place.buffer)!.reading!;
    const { fileOffset } = this.#extentOf(place);
    const size = DTYPE_BYTES[tensor.dtype];
    const length = tensors.lengthOf(id);
    const step = bufferBytes / size;
    const ops: Op[] = [];
    for (let start = 0; start < length; start += step) {
      const count = Math.min(step, length - start);
      const bytes = pagesOf(count * size);
      const pages = tensors.add({ dtype: 'u8', dims: [bytes], path: tensor.path, place: null });
      const read = tensors.add({ ...tensor, dims: [count], place: null });
      const buffer = this.#readCount++ % buffers;
      this.#reads.push({ id: pages, buffer }, { id: read, buffer });
      this.#bufferBytes = Math.max(this.#bufferBytes, bytes);
      const attributes = { file: FILES.parameters, offset: fileOffset + start * size, bytes };
      ops.push(
        { kind: 'disk_read', path: tensor.path, inputs: [], outputs: [pages], attributes },
        tensors.copy(read, tensors.partOf(to, start, count)),
      );
    }
    return ops;
  }

  /** Gives the buffers of {@link fetch} their places; returns their bytes. */
  settle(): number {
    for (const { id, buffer } of this.#reads)
      this.#tensors.places.set(id, { buffer: READING, offsetBytes: buffer * this.#bufferBytes });
    return (1 + Math.max(-1, ...this.#reads.map(({ buffer }) => buffer))) * this.#bufferBytes;
  }

  /** What of the operands has no place in a file yet: a record, in one piece at the beginning of the slot. */
  #record(op: Op, slot: Slot): readonly Transfer[] {
    const fileOffset = this.#recordBytes;
    for (const { id, place } of this.#onDisk(op)) {
      if (this.#tensors.moved.get(place.buffer)!.reading || slot.has(place)) continue;
      const bytes = byteLength(this.#tensors.tensors[id]!);
      const offset = slot.pagesFor(place, bytes);
      this.#extents.push({ ...place, bytes, fileOffset: fileOffset + offset });
    }
    const { bytes } = slot;
    if (bytes === 0) return [];
    this.#recordBytes += bytes;
    const transfer = this.#transfer(op.path, 0, { file: FILES.state, offset: fileOffset, bytes });
    return [{ ...transfer, isRead: true, isWritten: true, isBound: false }];
  }

  /**
   * The operands whose place in a file is given, each with the pages that it lies in. Where a page is another piece's too, it is read
   * before it is written, and not before that one's is.
   */
  #pages(op: Op, slot: Slot): readonly Transfer[] {
    return this.#onDisk(op).flatMap(({ id, place }): readonly Transfer[] => {
      if (!this.#tensors.moved.get(place.buffer)!.reading || slot.has(place)) return [];
      const { fileOffset, endOffset } = this.#extentOf(place);
      const bytes = byteLength(this.#tensors.tensors[id]!);
      const lead = fileOffset % PAGE;
      const end = fileOffset + bytes;
      const isShared = lead > 0 || (end % PAGE > 0 && end < endOffset);
      const isAmong = (ids: readonly TensorId[]) => ids.some((other) => isSame(this.#tensors.placeOf(other), place));
      const start = slot.pagesFor(place, bytes, lead) - lead;
      const attributes = { file: FILES.parameters, offset: fileOffset - lead, bytes: pagesOf(lead + bytes) };
      const transfer = this.#transfer(op.path, start, attributes);
      const isRead = isShared || isAmong(op.inputs);
      return [{ ...transfer, isRead, isWritten: isAmong(op.outputs), isBound: lead > 0 }];
    });
  }

  #onDisk(op: Op): readonly { readonly id: TensorId; readonly place: Place }[] {
    const ids = [...op.inputs, ...op.outputs].filter((id) => this.#tensors.homeOf(id) === 'disk');
    return ids.map((id) => ({ id, place: this.#tensors.placeOf(id)! }));
  }

  #transfer(path: string, offset: number, attributes: { readonly bytes: number } & Op['attributes']) {
    const whole = this.#tensors.add({ dtype: 'u8', dims: [attributes.bytes], path, place: null });
    return { op: { path, inputs: [whole], outputs: [whole], attributes }, offset };
  }

  /** The run of a file that a place lies in, and where. */
  #extentOf({ buffer, offsetBytes }: Place): { readonly fileOffset: number; readonly endOffset: number } {
    const extent = this.#tensors.moved
      .get(buffer)!
      .reading!.extents.find((run) => offsetBytes >= run.offsetBytes && offsetBytes < run.offsetBytes + run.bytes)!;
    const fileOffset = extent.fileOffset + offsetBytes - extent.offsetBytes;
    return { fileOffset, endOffset: extent.fileOffset + extent.bytes };
  }
}

const isSame = (a: Place | undefined, b: Place): boolean => a?.buffer === b.buffer && a.offsetBytes === b.offsetBytes;
