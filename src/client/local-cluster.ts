// A cluster in this process, as its driver sees it (local mode). It is made by local/main.ts, which stands above this room
// and is loaded when it is asked for, as the programs of other processes are.
import type { Resources } from '../common/index.js';
import type { Channel } from '../protocol/index.js';
import type { Accept, PeerDoor } from './peer-door.js';

export interface LocalCluster extends AsyncDisposable {
  readonly head: () => Promise<Channel>;
  readonly agent: () => Channel;
  readonly openDoor: (accept: Accept) => Promise<PeerDoor>;
}

export async function startLocal(resources: Resources): Promise<LocalCluster> {
  const program = (await import(new URL('../local/main.js', import.meta.url).href)) as {
    readonly startLocal: (resources: Resources) => Promise<LocalCluster>;
  };
  return program.startLocal(resources);
}
