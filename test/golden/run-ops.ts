// Runs a handful of ops on given numbers, as a program of their own.
import { DeviceBuffers, GraphBuilder, Program, plan, shelve, type Tensor } from '#src/engine/index.js';
import type { NativeDevice } from '#src/native/index.js';

type Values = Float32Array | Int32Array;

export class OpBench {
  readonly graph = new GraphBuilder();
  readonly #values = new Map<string, Values>();

  /** An operand with its numbers. */
  give(name: string, dims: readonly number[], values: Values): Tensor {
    this.#values.set(name, values);
    return this.graph.input(name, values instanceof Int32Array ? 'i32' : 'f32', dims);
  }

  /** The factor 0 of ops that could add to a gradient: overwrite. */
  beta(): Tensor {
    return this.give('beta', [1], Float32Array.of(0));
  }

  /** Runs what was built; returns the outputs by name. */
  async run(device: NativeDevice): Promise<ReadonlyMap<string, Float32Array>> {
    const graph = this.graph.build();
    const shelf = shelve(graph);
    const planned = plan({ graph, places: shelf.places, buffers: shelf.buffers });
    const buffers = new DeviceBuffers(device);
    buffers.reserve([planned]);
    const program = new Program(device, planned, buffers);
    try {
      for (const [name, values] of this.#values) {
        if (values instanceof Int32Array) program.integers(name).set(values);
        else program.floats(name).set(values);
      }
      await program.run();
      return new Map([...graph.outputs.keys()].map((name) => [name, program.floats(name).slice()]));
    } finally {
      program.dispose();
      buffers.dispose();
    }
  }
}
