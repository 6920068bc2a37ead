// A plan loaded on a device: constants filled in, inputs and outputs as views.
import type { NativeCommunicator, NativeDevice, NativeFinding, NativeProgram } from '../../native/index.js';
import type { Plan } from '../plan/plan.js';
import { type DeviceBuffers, placeOf } from './buffers.js';
import { engineError, translated } from './native-errors.js';

/** A plan that is loaded over named buffers of a device: inputs are written, it runs, outputs are read. */
export class Program {
  readonly plan: Plan;
  readonly #buffers: DeviceBuffers;
  readonly #program: NativeProgram;

  constructor(
    device: NativeDevice,
    plan: Plan,
    buffers: DeviceBuffers,
    communicators: readonly (NativeCommunicator | null)[] = [],
  ) {
    this.plan = plan;
    this.#buffers = buffers;
    const ids = plan.buffers.map(({ name }) => buffers.id(name));
    try {
      this.#program = device.load(plan.bytes, ids, communicators, buffers.files);
    } catch (cause) {
      throw engineError(cause);
    }
    for (const [id, data] of plan.graph.constants) {
      const place = plan.places.get(id);
      if (place) buffers.write(place.buffer, place.offsetBytes / 4, data);
    }
  }

  /** Bytes that its kernels use beside the plan's buffers. */
  get workspaceBytes(): number {
    return this.#program.workspaceBytes;
  }

  integers(name: string): Int32Array {
    const view = this.#buffers.tensor(this.plan, name);
    if (!(view instanceof Int32Array)) throw new Error(`${name} does not hold integers`);
    return view;
  }

  floats(name: string): Float32Array {
    const view = this.#buffers.tensor(this.plan, name);
    if (!(view instanceof Float32Array)) throw new Error(`${name} does not hold floats`);
    return view;
  }

  /** The bytes of an input or output. */
  bytes(name: string): Uint8Array {
    return this.#buffers.bytes(this.plan, name);
  }

  /** Where an input or output lies on the device. */
  where(name: string): { readonly buffer: number; readonly offset: number } {
    const { buffer, offsetBytes } = placeOf(this.plan, name);
    return { buffer: this.#buffers.id(buffer), offset: offsetBytes };
  }

  /** Sets an input of one element, where the program reads it: not every optimiser counts steps. */
  setScalar(name: string, value: number): void {
    const id = this.plan.graph.inputs.get(name);
    if (id !== undefined && this.plan.places.has(id)) this.floats(name)[0] = value;
  }

  /** Runs every instruction. Throws EngineError; one run at a time per device. */
  run(): Promise<void> {
    return translated(() => this.#program.run());
  }

  /** As run(); returns the seconds of each instruction of `plan.graph.ops`. */
  profile(): Promise<Float64Array> {
    return translated(() => this.#program.profile());
  }

  /** As run(), and looks for the first instruction that leaves a number that is not finite. */
  check(): Promise<NativeFinding | null> {
    return translated(() => this.#program.check());
  }

  /** As run(), with every thread late at random before every instruction: results must not change. */
  jitter(seed: number): Promise<void> {
    return translated(() => this.#program.jitter(seed));
  }

  dispose(): void {
    this.#program.dispose();
  }
}
