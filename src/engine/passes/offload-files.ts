// What offloaded programs have in files, in whole pages: pieces on their way to be stepped (records, which the pass lays out itself, and
// runs of buffers that have files of their own), and what goes between such a file and the device, through buffers.
import { byteLength, DTYPE_BYTES, type Op, type TensorId } from '../graph.js';
import { type Extent, evenPiece, FILES, type FileContents, PAGE, pagesOf } from '../offload.js';
import type { Place } from '../plan/placement.js';
import type { MovedTensors } from './moved-tensors.js';
import { placeKey, type Slot } from './offload-slot.js';

/** Host memory of what is under way between the device and the file of a buffer. */
const windowOf = (buffer: string): string => `${buffer}@file`;

/** Buffers of host memory that parts of a file take in turn. */
interface Window {
  count: number;
  bufferBytes: number;
  /** What is in each of them, one after the other. */
  readonly taken: (readonly TensorId[])[];
}

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
  /** Where the file of records has what lies at a place. */
  readonly #recorded = new Map<string, number>();
  #recordBytes = 0;
  readonly #windows = new Map<string, Window>();

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
    return [...this.#record(op, slot), ...this.#again(op, slot), ...this.#pages(op, slot)];
  }

  /** The ops that copy what lies in its file into `to`. Reads wait for nothing but that their buffer has been emptied. */
  fetch(id: TensorId, to: TensorId): readonly Op[] {
    return this.#parts(id).flatMap(({ start, count, pages, part, transfer }) => [
      { ...transfer, kind: 'disk_read', inputs: [], outputs: [pages] },
      this.#tensors.copy(part, this.#tensors.partOf(to, start, count)),
    ]);
  }

  /** The ops that write `from` to where `id` lies in its file. */
  put(from: TensorId, id: TensorId): readonly Op[] {
    return this.#parts(id).flatMap(({ start, count, pages, part, transfer }) => [
      this.#tensors.copy(this.#tensors.partOf(from, start, count), part),
      { ...transfer, kind: 'disk_write', inputs: [pages], outputs: [] },
    ]);
  }

  /** Gives the buffers of what is under way their places; returns the bytes of each window. */
  settle(): ReadonlyMap<string, number> {
    const sizes = new Map<string, number>();
    for (const [buffer, { bufferBytes, taken }] of this.#windows) {
      for (const [number, ids] of taken.entries())
        for (const id of ids)
          this.#tensors.places.set(id, { buffer: windowOf(buffer), offsetBytes: number * bufferBytes });
      sizes.set(windowOf(buffer), taken.length * bufferBytes);
    }
    return sizes;
  }

  /** What lies in a file of its own, in parts that each take the next buffer. */
  #parts(id: TensorId) {
    const tensors = this.#tensors;
    const tensor = tensors.tensors[id]!;
    const place = tensors.placeOf(id)!;
    const { name, buffers, bufferBytes } = tensors.moved.get(place.buffer)!.file!;
    const window = this.#windows.get(place.buffer) ?? { count: 0, bufferBytes: 0, taken: [] };
    this.#windows.set(place.buffer, window);
    const { fileOffset } = this.#extentOf(place);
    const size = DTYPE_BYTES[tensor.dtype];
    const step = evenPiece(tensors.lengthOf(id), bufferBytes / size, PAGE / size);
    return Array.from({ length: Math.ceil(tensors.lengthOf(id) / step) }, (_, index) => {
      const start = index * step;
      const count = Math.min(step, tensors.lengthOf(id) - start);
      const bytes = pagesOf(count * size);
      const pages = tensors.add({ dtype: 'u8', dims: [bytes], path: tensor.path, place: null });
      const part = tensors.add({ ...tensor, dims: [count], place: null });
      const number = window.count++ % buffers;
      window.taken[number] = [...(window.taken[number] ?? []), pages, part];
      window.bufferBytes = Math.max(window.bufferBytes, bytes);
      const attributes = { file: FILES[name], offset: fileOffset + start * size, bytes };
      return { start, count, pages, part, transfer: { path: tensor.path, attributes } };
    });
  }

  /** What of the operands has no place in a file yet: a record, in one piece at the beginning of the slot. */
  #record(op: Op, slot: Slot): readonly Transfer[] {
    const fileOffset = this.#recordBytes;
    const places: Place[] = [];
    for (const { id, place } of this.#onDisk(op)) {
      if (this.#tensors.moved.get(place.buffer)!.file || slot.has(place) || this.#recorded.has(placeKey(place)))
        continue;
      places.push(place);
      const bytes = byteLength(this.#tensors.tensors[id]!);
      const offset = slot.pagesFor(place, bytes);
      this.#extents.push({ ...place, bytes, fileOffset: fileOffset + offset });
      this.#recorded.set(placeKey(place), fileOffset + offset);
    }
    const { bytes } = slot;
    if (bytes === 0) return [];
    this.#recordBytes += bytes;
    const transfer = this.#transfer(op.path, 0, { file: FILES.state, offset: fileOffset, bytes });
    const isWritten = places.some((place) => this.#isAmong(op.outputs, place));
    return [{ ...transfer, isRead: true, isWritten, isBound: false }];
  }

  /** The operands that have come in a record before, each by itself: what an earlier op read another one writes. */
  #again(op: Op, slot: Slot): readonly Transfer[] {
    return this.#onDisk(op).flatMap(({ id, place }): readonly Transfer[] => {
      const offset = this.#recorded.get(placeKey(place));
      if (offset === undefined || slot.has(place)) return [];
      const bytes = byteLength(this.#tensors.tensors[id]!);
      const start = slot.pagesFor(place, bytes);
      const transfer = this.#transfer(op.path, start, { file: FILES.state, offset, bytes: pagesOf(bytes) });
      const isRead = this.#isAmong(op.inputs, place);
      return [{ ...transfer, isRead, isWritten: this.#isAmong(op.outputs, place), isBound: isRead }];
    });
  }

  /**
   * The operands that have a file of their own, each with the pages that it lies in. Where a page is another piece's too, it is read
   * before it is written, and not before that one's is.
   */
  #pages(op: Op, slot: Slot): readonly Transfer[] {
    return this.#onDisk(op).flatMap(({ id, place }): readonly Transfer[] => {
      const { file } = this.#tensors.moved.get(place.buffer)!;
      if (!file || slot.has(place)) return [];
      const { fileOffset, endOffset } = this.#extentOf(place);
      const bytes = byteLength(this.#tensors.tensors[id]!);
      const lead = fileOffset % PAGE;
      const end = fileOffset + bytes;
      const isShared = lead > 0 || (end % PAGE > 0 && end < endOffset);
      const start = slot.pagesFor(place, bytes, lead) - lead;
      const attributes = { file: FILES[file.name], offset: fileOffset - lead, bytes: pagesOf(lead + bytes) };
      const transfer = this.#transfer(op.path, start, attributes);
      const isRead = isShared || this.#isAmong(op.inputs, place);
      return [{ ...transfer, isRead, isWritten: this.#isAmong(op.outputs, place), isBound: lead > 0 }];
    });
  }

  #isAmong(ids: readonly TensorId[], place: Place): boolean {
    const key = placeKey(place);
    return ids.some((id) => {
      const other = this.#tensors.placeOf(id);
      return other !== undefined && placeKey(other) === key;
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
      .file!.contents.extents.find(
        (run) => offsetBytes >= run.offsetBytes && offsetBytes < run.offsetBytes + run.bytes,
      )!;
    const fileOffset = extent.fileOffset + offsetBytes - extent.offsetBytes;
    return { fileOffset, endOffset: extent.fileOffset + extent.bytes };
  }
}
