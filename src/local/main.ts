// Local mode: a whole cluster in the driver's process, for debugging. The head's rules, the workers' executor and the client
// are those of any cluster; only what is between them is memory. No clock runs here: a breakpoint loses nobody.
import type { LocalCluster } from '../client/process/index.js';
import type { Resources } from '../common/index.js';
import { openMemoryHead, serveClient, serveNode } from '../head/index.js';
import { MemoryChannel } from '../protocol/index.js';
import { MemoryDoors } from './memory-doors.js';
import { MemoryNode } from './memory-node.js';

export async function startLocal(resources: Resources): Promise<LocalCluster> {
  const cluster = await openMemoryHead();
  const doors = new MemoryDoors();
  const openHead = async (): Promise<MemoryChannel> => {
    const [near, far] = MemoryChannel.pair('the head');
    serveClient(cluster, far, 'this process', () => '');
    return near;
  };
  const [near, far] = MemoryChannel.pair('the head');
  serveNode(cluster, far, () => '');
  const node = new MemoryNode(resources, near, openHead, doors);
  return {
    head: openHead,
    agent: () => node.attach(),
    openDoor: async (accept) => doors.open(accept),
    [Symbol.asyncDispose]: async () => {
      node[Symbol.dispose]();
      await cluster.close();
    },
  };
}
