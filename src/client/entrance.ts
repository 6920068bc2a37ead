// How a driver gets into a cluster: where its head and the node of this machine are, and the token that opens them.
import { hostname } from 'node:os';
import { join } from 'node:path';
import { ConfigError, ConnectionError, type NodeId, type WorkerId } from '../common/index.js';
import { adoptCurrent, readToken, sessionRoot } from '../launch/index.js';
import type { Channel, wire } from '../protocol/index.js';
import { AgentLink, type AgentPushes } from './agent-link.js';
import { type HeadLink, headOverGrpc } from './head-link.js';
import { type Accept, type PeerDoor, SocketDoor } from './peer-door.js';

/** What is needed to join. */
export interface Entrance {
  readonly headAddress: string;
  readonly token: string;
  readonly openHead: () => Promise<Channel>;
  readonly openAgent: (head: HeadLink, pushes: AgentPushes) => Promise<AgentLink>;
  readonly openDoor: (attached: wire.Attached, workerId: WorkerId, accept: Accept) => Promise<PeerDoor>;
}

/** Where a cluster's processes are. */
export interface Place {
  readonly headAddress: string;
  readonly token: string;
  readonly agentUds: string | null; // null: ask the head for the node of this machine
}

export const entranceOf = ({ headAddress, token, agentUds }: Place): Entrance => ({
  headAddress,
  token,
  openHead: headOverGrpc(headAddress, token),
  openAgent: async (head, pushes) => AgentLink.connect(agentUds ?? (await findAgent(head, headAddress)), pushes),
  openDoor: ({ socketDir, host, nodeId }, workerId, accept) =>
    SocketDoor.open({ uds: join(socketDir, `d-${workerId}`), host, token, nodeId: nodeId as NodeId }, accept),
});

/**
 * What "auto" or "host:port" means here. Throws ConfigError where no token is known, ConnectionError where nothing runs.
 */
export function addressOf(address: string, given: string | undefined): Place {
  const here = adoptCurrent(sessionRoot());
  if (address === 'auto') {
    if (!here)
      throw new ConnectionError({
        address,
        detail: 'no cluster was started on this machine. Run "raylite start --head"',
      });
    return { headAddress: here.headAddress, token: given ?? read(here.tokenFile), agentUds: here.agentUds };
  }
  const isHere = here?.headAddress === address;
  const file = process.env.RAYLITE_TOKEN_FILE;
  const token = given ?? process.env.RAYLITE_TOKEN ?? (file ? read(file) : isHere ? read(here.tokenFile) : undefined);
  if (!token)
    throw new ConfigError(
      'token',
      'the token of the cluster',
      undefined,
      'Pass init({ token }) or set RAYLITE_TOKEN_FILE',
    );
  return { headAddress: address, token, agentUds: process.env.RAYLITE_AGENT ?? (isHere ? here.agentUds : null) };
}

const read = (file: string): string => readToken(file, 'token');

/** The agent's socket of the node on this machine. */
async function findAgent(head: HeadLink, address: string): Promise<string> {
  const reply = await head.request({ listNodes: {} });
  const nodes = reply.nodes?.nodes ?? [];
  const here = nodes.find((node) => node.hostname === hostname() && node.state === 'ALIVE' && node.uds);
  if (!here?.uds)
    throw new ConnectionError({
      address,
      detail: `no node of that cluster runs on this machine (${hostname()}). Join it first: "raylite start --address ${address}"`,
    });
  return here.uds;
}
