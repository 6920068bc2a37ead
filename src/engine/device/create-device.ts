// A device of this process: its threads, or its GPU, and its memory.
import { availableParallelism } from 'node:os';
import { type NativeDevice, native, openCudaDevice } from '../../native/index.js';

/** Cores (default: one thread), or a GPU by its number (default 0). */
export type DeviceOptions =
  | { readonly kind?: 'cpu'; readonly threads?: number }
  | { readonly kind: 'cuda'; readonly index?: number };

/**
 * This machine's CPU with so many threads (default: as many as the process may use), or GPU `index` (default 0) of those that
 * the process sees. The same programs run on both. The caller disposes of it. Throws CudaMissingError where there is no GPU.
 */
export function createDevice(options: DeviceOptions = {}): NativeDevice {
  if (options.kind === 'cuda') return openCudaDevice(native(), options.index ?? 0);
  return native().createDevice({ threads: options.threads ?? availableParallelism(), isa: null, pin: false });
}
