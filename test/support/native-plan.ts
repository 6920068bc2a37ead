// Plans written by hand for tests and benches of the native engine: tensors in one buffer, instructions in order.
import type { NativeCommunicator, NativeDevice, NativeProgram } from '#src/native/index.js';

const DTYPES = {
  f32: { code: 0, array: Float32Array },
  i32: { code: 1, array: Int32Array },
  u8: { code: 2, array: Uint8Array },
  bf16: { code: 3, array: Uint16Array },
  f16: { code: 4, array: Uint16Array },
} as const;
type Dtype = keyof typeof DTYPES;

export interface TensorHandle {
  readonly index: number;
  readonly dims: readonly number[];
  readonly dtype: Dtype;
  readonly offsetBytes: number;
}

export interface InstructionOptions {
  readonly path?: string;
  readonly stream?: 0 | 1 | 4;
  readonly waits?: readonly number[];
}

interface Instruction extends InstructionOptions {
  readonly op: string;
  readonly inputs: readonly TensorHandle[];
  readonly outputs: readonly TensorHandle[];
  readonly attributes: readonly number[];
}

const elements = (dims: readonly number[]): number => dims.reduce((product, dim) => product * dim, 1);
const align = (bytes: number, to: number): number => Math.ceil(bytes / to) * to;

export class PlanWriter {
  readonly #tensors: TensorHandle[] = [];
  readonly #instructions: Instruction[] = [];
  readonly #values = new Map<TensorHandle, ArrayLike<number>>();
  bytes = 64;

  /** A tensor of its own, 64-byte aligned; `values` are written by {@link load}. */
  tensor(dims: readonly number[], values: ArrayLike<number> | null = null, dtype: Dtype = 'f32'): TensorHandle {
    const handle = this.at(this.bytes, dims, dtype);
    this.bytes += align(DTYPES[dtype].array.BYTES_PER_ELEMENT * elements(dims), 64);
    if (values) this.#values.set(handle, values);
    return handle;
  }

  ints(values: readonly number[]): TensorHandle {
    return this.tensor([values.length], values, 'i32');
  }

  /** A tensor on bytes that exist already. */
  at(offsetBytes: number, dims: readonly number[], dtype: Dtype = 'f32'): TensorHandle {
    const handle = { index: this.#tensors.length, dims, dtype, offsetBytes };
    this.#tensors.push(handle);
    return handle;
  }

  /** Appends an instruction; returns its number. */
  op(
    op: string,
    inputs: readonly TensorHandle[],
    outputs: readonly TensorHandle[],
    attributes: readonly number[] = [],
    options: InstructionOptions = {},
  ): number {
    return this.#instructions.push({ op, inputs, outputs, attributes, ...options }) - 1;
  }

  /** The plan's bytes (ARCHITECTURE.md, "Plan format"). */
  encode(): Uint8Array {
    let text = '';
    const string = (value: string): [number, number] => {
      text += value;
      return [text.length - value.length, value.length]; // ASCII only
    };
    const indices: number[] = [];
    const list = (values: readonly number[]): [number, number] => {
      indices.push(...values);
      return [indices.length - values.length, values.length];
    };
    const attributes: number[] = [];
    const buffer = string('memory');
    const rows = this.#instructions.map((instruction) => {
      const name = string(instruction.op);
      const inputs = list(instruction.inputs.map((tensor) => tensor.index));
      const outputs = list(instruction.outputs.map((tensor) => tensor.index));
      attributes.push(...instruction.attributes);
      const given = [attributes.length - instruction.attributes.length, instruction.attributes.length];
      const waits = list(instruction.waits ?? []);
      return [
        ...name,
        instruction.stream ?? 0,
        ...inputs,
        ...outputs,
        ...given,
        ...waits,
        ...string(instruction.path ?? ''),
      ];
    });

    const at = { buffers: 32, tensors: 48, instructions: 0, indices: 0, attributes: 0, strings: 0 };
    at.instructions = at.tensors + 56 * this.#tensors.length;
    at.indices = at.instructions + 56 * rows.length;
    at.attributes = at.indices + align(4 * indices.length, 8);
    at.strings = at.attributes + 8 * attributes.length;
    const view = new DataView(new ArrayBuffer(at.strings + align(text.length, 8)));
    const words = (offset: number, values: readonly number[]): void => {
      for (const [i, value] of values.entries()) view.setUint32(offset + 4 * i, value, true);
    };
    const counts = [1, this.#tensors.length, rows.length, indices.length, attributes.length];
    words(0, [0x504c4c52, 2, ...counts, text.length]);
    view.setBigUint64(at.buffers, BigInt(this.bytes), true);
    words(at.buffers + 8, buffer);
    for (const [i, tensor] of this.#tensors.entries()) {
      const row = at.tensors + 56 * i;
      words(row, [0, DTYPES[tensor.dtype].code, tensor.dims.length, 0]);
      view.setBigUint64(row + 16, BigInt(tensor.offsetBytes), true);
      for (const [axis, dim] of tensor.dims.entries()) view.setBigUint64(row + 24 + 8 * axis, BigInt(dim), true);
    }
    for (const [i, row] of rows.entries()) words(at.instructions + 56 * i, row);
    words(at.indices, indices);
    for (const [i, value] of attributes.entries()) view.setFloat64(at.attributes + 8 * i, value, true);
    for (let i = 0; i < text.length; i++) view.setUint8(at.strings + i, text.charCodeAt(i));
    return new Uint8Array(view.buffer);
  }

  /** Writes the tensors' values to memory that is given, without a view of it. */
  writeValues(device: NativeDevice, buffer: number): void {
    for (const [{ dtype, offsetBytes }, values] of this.#values)
      device.write(buffer, offsetBytes, new Uint8Array(DTYPES[dtype].array.from(values).buffer));
  }

  /** Loads the plan on memory of its own and writes the tensors' values. */
  load(device: NativeDevice, communicators: readonly (NativeCommunicator | null)[] = []): LoadedPlan {
    const buffer = device.allocate(this.bytes);
    const program = device.load(this.encode(), [buffer], communicators);
    const loaded = new LoadedPlan(device, buffer, program);
    for (const [tensor, values] of this.#values) loaded.write(tensor, values);
    return loaded;
  }
}

export class LoadedPlan {
  readonly #device: NativeDevice;
  readonly #buffer: number;
  readonly program: NativeProgram;

  constructor(device: NativeDevice, buffer: number, program: NativeProgram) {
    this.#device = device;
    this.#buffer = buffer;
    this.program = program;
  }

  /** The tensor's memory itself; 16-bit numbers as their bits. */
  view(tensor: TensorHandle): Float32Array | Int32Array | Uint16Array | Uint8Array {
    return new DTYPES[tensor.dtype].array(this.#device.view(this.#buffer), tensor.offsetBytes, elements(tensor.dims));
  }

  read(tensor: TensorHandle): number[] {
    return Array.from(this.view(tensor));
  }

  write(tensor: TensorHandle, values: ArrayLike<number>): void {
    this.view(tensor).set(values);
  }

  dispose(): void {
    this.program.dispose();
    this.#device.free(this.#buffer);
  }
}
