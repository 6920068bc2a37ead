// A plan loaded on a device: constants filled in, inputs and outputs as views, native errors turned into ours.
import { EngineError } from '../../common/index.js';
import type { NativeCommunicator, NativeDevice, NativeProgram } from '../../native/index.js';
import type { Plan } from '../plan/plan.js';
import type { DeviceBuffers } from './buffers.js';

export class Program {
  readonly plan: Plan;
  readonly #buffers: DeviceBuffers;
  readonly #program: NativeProgram;

  constructor(
    device: NativeDevice,
    plan: Plan,
    buffers: DeviceBuffers,
    communicators: readonly NativeCommunicator[] = [],
  ) {
    this.plan = plan;
    this.#buffers = buffers;
    const ids = plan.buffers.map(({ name }) => buffers.id(name));
    try {
      this.#program = device.load(plan.bytes, ids, communicators);
    } catch (cause) {
      throw engineError(cause);
    }
    for (const [id, data] of plan.graph.constants) {
      const place = plan.places.get(id);
      if (place) buffers.floats(place.buffer, place.offsetBytes / 4, data.length).set(data);
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

  /** Sets an input of one element, where the program reads it: not every optimiser counts steps. */
  setScalar(name: string, value: number): void {
    const id = this.plan.graph.inputs.get(name);
    if (id !== undefined && this.plan.places.has(id)) this.floats(name)[0] = value;
  }

  /** Runs every instruction. Throws EngineError; one run at a time per device. */
  async run(): Promise<void> {
    try {
      await this.#program.run();
    } catch (cause) {
      throw engineError(cause);
    }
  }

  /** As run(); returns the seconds of each instruction of `plan.graph.ops`. */
  async profile(): Promise<Float64Array> {
    try {
      return await this.#program.profile();
    } catch (cause) {
      throw engineError(cause);
    }
  }

  dispose(): void {
    this.#program.dispose();
  }
}

function engineError(cause: unknown): EngineError {
  const detail = cause instanceof Error ? cause.message : String(cause);
  const rank = cause instanceof Error && 'rank' in cause && typeof cause.rank === 'number' ? cause.rank : null;
  return new EngineError({ detail, rank }, { cause });
}
