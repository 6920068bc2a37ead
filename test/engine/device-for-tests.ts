// A device per test, and graphs run on it as they are.
import {
  DeviceBuffers,
  type Graph,
  type Layout,
  layoutFor,
  ParameterStore,
  type Plan,
  Program,
  placeParameters,
  placesOf,
  plan,
  shelve,
} from '#src/engine/index.js';
import { type NativeDevice, native } from '#src/native/index.js';
import { ALONE } from './models-for-tests.js';

export interface TestDevice extends Disposable {
  readonly device: NativeDevice;
}

export function openDevice(threads = 2): TestDevice {
  return held(native().createDevice({ threads, isa: null, pin: false }));
}

/** Disposed with the block that uses it. */
export const held = (device: NativeDevice): TestDevice => ({ device, [Symbol.dispose]: () => device.dispose() });

/** A loaded graph with its parameters: what gradient checks poke at. */
export class GraphRun implements Disposable {
  readonly plan: Plan;
  readonly layout: Layout;
  readonly store: ParameterStore;
  readonly program: Program;
  readonly #buffers: DeviceBuffers;

  constructor(device: NativeDevice, graph: Graph) {
    this.layout = layoutFor(graph, ALONE);
    this.plan = plan(placeParameters(graph, this.layout, shelve(graph)));
    this.store = new ParameterStore(device, this.layout);
    this.#buffers = new DeviceBuffers(device);
    this.store.lendTo(this.#buffers);
    this.#buffers.reserve([this.plan]);
    this.program = new Program(device, this.plan, this.#buffers);
  }

  gradient(name: string): Float32Array {
    const place = placesOf(this.layout).get(name)!;
    return this.#buffers.floats('gradients', place.offset, place.length).slice();
  }

  [Symbol.dispose](): void {
    this.program.dispose();
    this.#buffers.dispose();
    this.store[Symbol.dispose]();
  }
}
