// Nodes that leave in an orderly way: nothing new is placed there, what runs has until a deadline, and the node is ended once nothing does.
//
//   (serving) ─drainNode→ draining ─drainNode (another order replaces it)→ draining
//   draining ─nodeBeat (nothing runs there) │ nodeOverdue→ dead (node-state.ts)
import { ConfigError, type NodeId } from '../common/index.js';
import type { ClusterState } from './cluster-state.js';
import type { Answer, Effect } from './effects.js';
import type { DrainOrder, NodeRecord } from './entities.js';
import { dropIdle } from './handover.js';
import { workersAt } from './tables.js';

/** Marks a node as leaving. Refused: an unknown node, the head's own, and for `idle-termination` one on which something runs. */
export function drainNode(
  state: ClusterState,
  nodeId: NodeId,
  order: DrainOrder,
  request: number | null,
): readonly Effect[] {
  const answer = (given: Answer): Effect => ({ kind: 'answer', request, answer: given });
  const node = state.nodes.get(nodeId);
  const refusal = refusalOf(state, node, nodeId, order);
  if (refusal || !node) return [answer({ kind: 'failure', error: refusal! })];
  const stops = [...state.idle.values()]
    .filter((worker) => worker.nodeId === nodeId)
    .map(
      ({ workerId }): Effect => ({ kind: 'stopWorker', nodeId, workerId, force: false, reason: 'its node is drained' }),
    );
  dropIdle(state, nodeId);
  node.drain = order;
  state.index.touch(nodeId);
  return [{ kind: 'save', table: 'node', id: nodeId }, ...stops, { kind: 'nodesDraining' }, answer({ kind: 'done' })];
}

function refusalOf(
  state: ClusterState,
  node: NodeRecord | undefined,
  nodeId: NodeId,
  { reason }: DrainOrder,
): ConfigError | null {
  if (!node || node.status === 'dead')
    return new ConfigError('nodeId', 'a node of the cluster', nodeId, '"raylite list nodes" shows them');
  if (node.isHead)
    return new ConfigError('nodeId', 'another node than that of the head', nodeId, 'It leaves with its head');
  if (reason === 'preemption' || isEmptied(state, nodeId)) return null;
  return new ConfigError(
    'reason',
    '"preemption" for a node on which something runs',
    reason,
    '"raylite explain NODE_ID" says what',
  );
}

/** Whether nothing runs there that anybody waits for. A driver that has not come back yet to a head that was started again may be there. */
export const isEmptied = (state: ClusterState, nodeId: NodeId): boolean =>
  !workersAt(state, nodeId).some(({ purpose }) => purpose !== null) &&
  ![...state.jobs.values()].some((job) => job.nodeId === nodeId && job.status === 'RUNNING') &&
  ![...state.clients.values()].some(
    (client) => client.isDriver && (client.nodeId === nodeId || client.nodeId === null),
  );

/** The nodes that are to leave. */
export const drainingNodes = (state: ClusterState): readonly (NodeRecord & { readonly drain: DrainOrder })[] =>
  [...state.nodes.values()].filter(isDraining);

const isDraining = (node: NodeRecord): node is NodeRecord & { drain: DrainOrder } =>
  node.drain !== undefined && node.status !== 'dead';

/** "preemption: the spot instance is taken back". */
export const drainText = ({ reason, message }: DrainOrder): string =>
  message === '' ? reason : `${reason}: ${message}`;
