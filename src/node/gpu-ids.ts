// How CUDA names the GPUs that a node offers. Which of them a worker gets is the head's choice (scheduler/gpu-room.ts).

/** The devices of a node that offers `count` GPUs, for CUDA_VISIBLE_DEVICES: "0", "GPU-…". */
export function gpuIds(count: number): readonly string[] {
  const visible = process.env.CUDA_VISIBLE_DEVICES?.split(',').filter((id) => id.trim() !== '');
  return Array.from({ length: count }, (_, index) => visible?.[index] ?? String(index));
}

/** What tells a process which GPUs it may use; {} where it was given none. */
export const gpuEnvironment = (ids: readonly string[]): Readonly<Record<string, string>> =>
  ids.length === 0 ? {} : { CUDA_VISIBLE_DEVICES: ids.join(','), CUDA_DEVICE_ORDER: 'PCI_BUS_ID' };
