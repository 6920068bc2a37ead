// Ranks of a group in one process, each with a device of its own that has joined it.
import { randomUUID } from 'node:crypto';
import { type NativeCommunicator, type NativeDevice, native } from '#src/native/index.js';
import { range } from './engine-reference.js';

export interface Member {
  readonly device: NativeDevice;
  readonly group: NativeCommunicator;
  /** Why the device does not exchange by itself. */
  readonly reason: string | null;
}

/** What each rank of a new group makes of `use`, all in this process. Ranks are numbered from 10 on. */
export async function together<T>(
  devices: readonly (() => NativeDevice)[],
  use: (member: Member) => Promise<T>,
  timeoutMs = 60_000,
): Promise<T[]> {
  const name = `raylite-test-${randomUUID()}`;
  const size = devices.length;
  const names = range(size).map((rank) => rank + 10);
  return Promise.all(
    devices.map(async (open, rank) => {
      const group = await native().joinShmGroup({ name, rank, size, names, timeoutMs: 60_000 });
      const device = open();
      try {
        return await use({ device, group, reason: await device.join(group, timeoutMs) });
      } finally {
        device.dispose();
        group.dispose();
      }
    }),
  );
}
