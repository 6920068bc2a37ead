// Sliced parameters, whole for a moment: gathered a bucket at a time for those who read the model between two steps (export,
// tests). All ranks must ask for the same parameters in the same order.
import { GraphBuilder } from '../builder.js';
import { byteLength, DTYPE_BYTES } from '../graph.js';
import { type ParameterBucket, parameterBuckets } from '../layout.js';
import { groupIndex } from '../mesh.js';
import { movedParameters, tilingOf } from '../offload.js';
import { offload } from '../passes/offload.js';
import { Shelf } from '../plan/placement.js';
import { plan } from '../plan/plan.js';
import { DeviceBuffers } from './buffers.js';
import { type Communicators, communicatorTable } from './communicators.js';
import { decodeParameter } from './decode-parameter.js';
import type { ParameterStore } from './parameter-store.js';
import { Program } from './program.js';

/** Neighbours in a file may be in two buckets: what is trained and what is frozen, matrices and the others. */
const BUCKETS_MAX = 2;

export class GatheredBuckets implements Disposable {
  readonly #store: ParameterStore;
  readonly #communicators: Communicators;
  /** The last ones, oldest first. */
  readonly #held = new Map<ParameterBucket, DeviceBuffers>();

  /** Both stay the caller's. */
  constructor(store: ParameterStore, communicators: Communicators) {
    this.#store = store;
    this.#communicators = communicators;
  }

  /** A copy of a sliced parameter as programs see it. */
  async read(name: string): Promise<Float32Array> {
    const { layout, device } = this.#store;
    for (const bucket of parameterBuckets(layout)) {
      const place = bucket.parameters.find((parameter) => parameter.name === name);
      if (!place) continue;
      const buffers = await this.#gathered(bucket);
      const start = place.offset * DTYPE_BYTES[layout.dtype];
      return decodeParameter((bytes) => device.read(buffers.id(WHOLE), start, bytes), place, layout.dtype);
    }
    throw new Error(`${name} is in no bucket`);
  }

  [Symbol.dispose](): void {
    for (const buffers of this.#held.values()) buffers.dispose();
    this.#held.clear();
  }

  async #gathered(bucket: ParameterBucket): Promise<DeviceBuffers> {
    const held = this.#held.get(bucket);
    if (held) return held;
    if (this.#held.size === BUCKETS_MAX) {
      const [oldest, buffers] = [...this.#held][0]!;
      buffers.dispose();
      this.#held.delete(oldest);
    }
    const { dtype, parameterElements } = this.#store.layout;
    const builder = new GraphBuilder();
    const slice = builder.input('slice', dtype, [bucket.sliceElements], 'state');
    const attributes = { group: groupIndex('zero'), whole: bucket.elements };
    const [whole] = builder.op('all_gather', bucket.name, [slice], attributes, 'state');
    builder.output('whole', whole!);
    const shelf = new Shelf();
    shelf.put(WHOLE, whole!.id, byteLength(whole!));
    const bytes = byteLength(slice) / bucket.sliceElements;
    shelf.places.set(slice.id, { buffer: 'parameters', offsetBytes: bucket.parameterOffset * bytes });
    const sizes = new Map([['parameters', parameterElements * bytes], ...shelf.buffers]);
    const placed = { graph: builder.build(), places: shelf.places, buffers: sizes };
    const { layout } = this.#store;
    const planned = plan(offload(placed, movedParameters(layout), tilingOf(layout, null, null)));
    const buffers = new DeviceBuffers(this.#store.device);
    this.#store.lendTo(buffers);
    buffers.reserve([planned]);
    this.#held.set(bucket, buffers);
    const program = new Program(this.#store.device, planned, buffers, communicatorTable(this.#communicators));
    try {
      await program.run();
    } finally {
      program.dispose();
    }
    return buffers;
  }
}

const WHOLE = 'whole';
