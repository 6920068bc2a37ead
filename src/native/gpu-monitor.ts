// Where NVIDIA's management library is. A machine without its driver has none, and nothing to watch.
import type { NativeAddon, NativeGpuMonitor } from './addon.js';

/** The monitor of this machine's GPUs; null without a driver. The environment's RAYLITE_NVML names another library. */
export function openGpuMonitor(addon: NativeAddon): NativeGpuMonitor | null {
  try {
    return addon.openGpuMonitor(process.env.RAYLITE_NVML ?? 'libnvidia-ml.so.1');
  } catch {
    return null; // the normal case
  }
}
