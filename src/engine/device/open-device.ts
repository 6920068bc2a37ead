// A device for who trains or evaluates outside of a Trainer: the cores of this machine.
import { availableParallelism } from 'node:os';
import { type NativeDevice, native } from '../../native/index.js';

/** The CPU, with the best instruction set that it has; dispose() it when done. `threads`: default as many as there are cores. */
export function openDevice({ threads = availableParallelism() }: { readonly threads?: number } = {}): NativeDevice {
  return native().createDevice({ threads, isa: null, pin: false });
}
