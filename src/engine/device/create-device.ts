// A device of this process: its threads, or its GPU, and its memory.
import { availableParallelism } from 'node:os';
import { type AttentionChoice, type NativeDevice, native, openCudaDevice } from '../../native/index.js';

/** Cores, or a GPU by its number (default 0) with cores beside it for what is offloaded. */
export type DeviceOptions =
  | { readonly kind?: 'cpu'; readonly threads?: number }
  | { readonly kind: 'cuda'; readonly index?: number; readonly threads?: number; readonly attention?: AttentionChoice };

/**
 * This machine's CPU with so many threads (default: as many as the process may use), or GPU `index` (default 0) of those that
 * the process sees. The same programs run on both; what of them lies in memory of the host is made there, by `threads` of the host, also
 * beside a GPU. The caller disposes of it. Throws CudaMissingError where there is no GPU.
 *
 * `attention` says who makes attention of 16-bit numbers where cuDNN takes it too: `own` (equal inputs give equal bits), `cudnn`, or `measured`:
 * whichever is faster. Default: what the environment's RAYLITE_CUDA_ATTENTION says, else `measured`.
 */
export function createDevice(options: DeviceOptions = {}): NativeDevice {
  const threads = options.threads ?? availableParallelism();
  if (options.kind === 'cuda') return openCudaDevice(native(), options.index ?? 0, threads, options.attention);
  return native().createDevice({ threads, isa: null, pin: false });
}
