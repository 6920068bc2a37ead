// A whole cluster for one driver: a head and a node agent as its children, which end with it however it ends.

import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { ConnectionError } from '../common/index.js';
import { type NodeOffer, offeredResources } from './node-resources.js';
import { newSessionDir } from './session-dir.js';
import { type Daemon, spawnDaemon } from './spawn-daemon.js';

export interface EmbeddedCluster extends AsyncDisposable {
  readonly headAddress: string;
  readonly agentUds: string;
  readonly token: string;
  readonly sessionDir: string;
}

export async function startEmbedded(offer: NodeOffer): Promise<EmbeddedCluster> {
  const { resources, objectStoreBytes } = offeredResources(offer);
  const sessionDir = newSessionDir();
  const token = randomBytes(32).toString('hex');
  const daemons: Daemon[] = [];
  const stop = async (): Promise<void> => {
    // The agent first: its farewell reaches the head.
    for (const daemon of daemons.reverse()) await daemon[Symbol.asyncDispose]();
    rmSync(sessionDir, { recursive: true, force: true });
  };
  try {
    const local = { host: '127.0.0.1', httpHost: '127.0.0.1', port: 0, httpPort: 0 };
    const head = await spawnDaemon({ kind: 'head', ...local, token, sessionDir, stateDir: null, diesWithParent: true });
    daemons.push(head);
    if (head.ready.kind !== 'head') throw new ConnectionError({ address: 'head', detail: 'it is no head' });
    const node = await spawnDaemon({
      kind: 'node',
      headAddress: head.ready.address,
      token,
      host: null,
      sessionDir,
      resources,
      labels: {},
      objectStoreBytes,
      isHeadNode: true,
      diesWithParent: true,
    });
    daemons.push(node);
    if (node.ready.kind !== 'node') throw new ConnectionError({ address: 'node', detail: 'it is no node' });
    return {
      headAddress: head.ready.address,
      agentUds: node.ready.uds,
      token,
      sessionDir,
      [Symbol.asyncDispose]: stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}
