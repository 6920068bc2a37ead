// A device of this process: its threads and its memory.
import { availableParallelism } from 'node:os';
import { type NativeDevice, native } from '../../native/index.js';

/** This machine's CPU with so many threads (default: as many as the process may use). The caller disposes of it. */
export function createDevice(options: { readonly threads?: number } = {}): NativeDevice {
  return native().createDevice({ threads: options.threads ?? availableParallelism(), isa: null, pin: false });
}
