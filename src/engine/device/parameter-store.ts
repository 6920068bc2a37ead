// A model's parameters in device memory, by checkpoint name. Training, evaluation and decoding share one store.
import { ConfigError } from '../../common/index.js';
import type { NativeDevice } from '../../native/index.js';
import { type Layout, type ParameterPlace, placesOf } from '../layout.js';

export class ParameterStore implements Disposable {
  readonly device: NativeDevice;
  readonly layout: Layout;
  readonly bytes: number;
  /** Id of the device buffer that holds everything. */
  readonly buffer: number;
  readonly #places: ReadonlyMap<string, ParameterPlace>;
  #isDisposed = false;

  /** Allocates zeroed memory for the parameters of `layout`. */
  constructor(device: NativeDevice, layout: Layout) {
    this.device = device;
    this.layout = layout;
    this.bytes = layout.parameterElements * 4;
    this.buffer = device.allocate(this.bytes);
    this.#places = placesOf(layout);
  }

  /** Names and dims, in the order of the layout. */
  get parameters(): readonly ParameterPlace[] {
    return [...this.#places.values()];
  }

  /** The parameter's memory itself: writes through it change the model. */
  view(name: string): Float32Array {
    const place = this.#places.get(name);
    if (!place) throw new ConfigError(name, 'the name of a parameter of the model', name);
    return new Float32Array(this.device.view(this.buffer), place.offset * 4, place.length);
  }

  load(name: string, values: Float32Array): void {
    const view = this.view(name);
    if (values.length !== view.length) throw new ConfigError(name, `${view.length} values`, values.length);
    view.set(values);
  }

  /** A copy of the parameter. */
  read(name: string): Float32Array {
    return this.view(name).slice();
  }

  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.device.free(this.buffer);
  }
}
