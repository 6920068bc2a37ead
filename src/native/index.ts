// The typed door to the native addon. Nobody else loads it; a missing build is an error that names the command to type.
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { PACKAGE_ROOT, RayliteError } from '../common/index.js';
import type { NativeAddon } from './addon.js';

export type * from './addon.js';
export { type CudaFindings, CudaMissingError, findCuda, openCudaDevice } from './cuda.js';
export { openGpuMonitor } from './gpu-monitor.js';

/** The native addon is missing or cannot be loaded on this machine. */
export class NativeMissingError extends RayliteError {
  readonly code = 'RAYLITE_NATIVE_MISSING';
  readonly path: string;
  constructor(path: string, options?: ErrorOptions) {
    super(
      `the native addon cannot be loaded from ${path}. Build it with "npm run build" (needs a C++17 compiler, make and CMake 3.22+)`,
      options,
    );
    this.path = path;
  }
}

let loaded: NativeAddon | null = null; // a process can load an addon once; the handles it gives out are all per-owner

/**
 * The addon, loaded at the first call; the environment's RAYLITE_NATIVE names another build of it (one with a sanitizer).
 * Throws {@link NativeMissingError}.
 */
export function native(): NativeAddon {
  if (loaded) return loaded;
  const built = join(PACKAGE_ROOT, 'build/native/raylite.node');
  const path = resolve(process.env.RAYLITE_NATIVE ?? built);
  try {
    loaded = createRequire(import.meta.url)(path) as NativeAddon;
  } catch (cause) {
    throw new NativeMissingError(path, { cause });
  }
  return loaded;
}
