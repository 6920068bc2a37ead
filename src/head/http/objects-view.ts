// The objects of the cluster as JSON: the answers of nodes and processes put together, one row an object. Pure.
import { type NodeId, type ObjectId, ownerOf, type WorkerId } from '../../common/index.js';
import type { wire } from '../../protocol/index.js';
import type { ClusterState } from '../cluster-state.js';
import type { SurveyResult } from '../node-survey.js';

/** A driver or worker. */
export interface ProcessView {
  readonly workerId: string;
  /** The class of its actor, "task", or what the driver was started as. */
  readonly name: string;
  readonly nodeId: string | null; // null: it is gone
  readonly pid: number | null;
}

/** Why a process holds an object; each reason by itself keeps it. */
export interface HolderView extends ProcessView {
  /** Code there holds a ref, and nothing else that is listed accounts for it. */
  readonly isReferenced: boolean;
  /** The object is another process's: this one has told its owner that it holds it. */
  readonly isBorrower: boolean;
  /** Refs of other processes, of the owner's. */
  readonly lentCount: number;
  /** Calls in flight that it is an argument of. */
  readonly argumentCount: number;
  /** Somebody still looks at its bytes. */
  readonly isMapped: boolean;
  /** Objects with a ref to it in their value. */
  readonly capturedIn: readonly string[];
}

export interface ObjectView {
  readonly objectId: string;
  readonly state: string; // "pending", "inline", "stored", "failed"; "unheld": only its bytes were found
  readonly sizeBytes: number;
  readonly places: readonly { readonly nodeId: string; readonly place: string }[]; // "arena", "spilled", "copy", "inline"
  readonly owner: ProcessView;
  readonly callSite: string | null;
  readonly holders: readonly HolderView[];
}

export interface ObjectsView {
  readonly objects: readonly ObjectView[]; // the largest first
  readonly nodes: readonly {
    readonly nodeId: string;
    readonly hostname: string;
    readonly arenaUsedBytes: number;
    readonly arenaTotalBytes: number;
    readonly spilledBytes: number;
  }[];
  /** Nodes and processes that did not answer in time: what they hold is missing. */
  readonly silentNodes: readonly string[];
  readonly silentProcesses: readonly ProcessView[];
  /** Objects left out because there were too many. */
  readonly omittedCount: number;
}

interface Draft {
  readonly objectId: ObjectId;
  state: string;
  sizeBytes: number;
  callSite: string | null;
  readonly places: { readonly nodeId: string; readonly place: string }[];
  readonly holders: HolderView[];
}

export function objectsView(
  state: ClusterState,
  { nodes, silent }: SurveyResult<wire.NodeObjects.$Properties>,
): ObjectsView {
  const drafts = new Map<ObjectId, Draft>();
  const draftOf = (id: string): Draft => {
    const objectId = id as ObjectId;
    const draft = drafts.get(objectId) ?? {
      objectId,
      state: 'unheld',
      sizeBytes: 0,
      callSite: null,
      places: [],
      holders: [],
    };
    drafts.set(objectId, draft);
    return draft;
  };
  const processes = new Map<string, ProcessView>();
  const silentProcesses: ProcessView[] = [];
  let omittedCount = 0;
  for (const [nodeId, node] of nodes) {
    omittedCount += node.omittedCount ?? 0;
    for (const { objectId, place, size } of node.objects ?? []) {
      const draft = draftOf(objectId ?? '');
      draft.sizeBytes = Math.max(draft.sizeBytes, size ?? 0);
      draft.places.push({ nodeId, place: place ?? '' });
    }
    for (const { workerId = '', pid, isDriver, holdings } of node.processes ?? []) {
      const name = nameOf(state, (workerId ?? '') as WorkerId, isDriver ?? false);
      const process: ProcessView = { workerId: workerId ?? '', name, nodeId, pid: pid ?? null };
      processes.set(process.workerId, process);
      if (!holdings) silentProcesses.push(process);
      omittedCount += holdings?.omittedCount ?? 0;
      for (const holding of holdings?.objects ?? []) add(draftOf(holding.objectId ?? ''), holding, process);
    }
  }
  const ownerView = (objectId: ObjectId): ProcessView => {
    const workerId = ownerOf(objectId);
    return processes.get(workerId) ?? { workerId, name: nameOf(state, workerId, false), nodeId: null, pid: null };
  };
  return {
    objects: [...drafts.values()]
      .map((draft) => ({ ...draft, owner: ownerView(draft.objectId) }))
      .sort((a, b) => b.sizeBytes - a.sizeBytes),
    nodes: [...nodes].map(([nodeId, { arenaUsedBytes, arenaTotalBytes, spilledBytes }]) => ({
      nodeId,
      hostname: state.nodes.get(nodeId)?.hostname ?? '',
      arenaUsedBytes: arenaUsedBytes ?? 0,
      arenaTotalBytes: arenaTotalBytes ?? 0,
      spilledBytes: spilledBytes ?? 0,
    })),
    silentNodes: silent as readonly NodeId[],
    silentProcesses,
    omittedCount,
  };
}

function add(draft: Draft, holding: wire.Holding.$Properties, process: ProcessView): void {
  const isOwner = ownerOf(draft.objectId) === process.workerId;
  // The owner knows best; a borrower may not have asked yet.
  if (isOwner || draft.state === 'unheld') draft.state = holding.state ?? '';
  draft.sizeBytes = Math.max(draft.sizeBytes, holding.size ?? 0);
  if (isOwner && holding.state === 'inline') draft.places.push({ nodeId: process.nodeId ?? '', place: 'inline' });
  draft.callSite ??= holding.callSite || null;
  draft.holders.push({
    ...process,
    isReferenced: holding.isReferenced ?? false,
    isBorrower: !isOwner,
    lentCount: holding.lentCount ?? 0,
    argumentCount: holding.argumentCount ?? 0,
    isMapped: holding.isMapped ?? false,
    capturedIn: holding.capturedIn ?? [],
  });
}

function nameOf(state: ClusterState, workerId: WorkerId, isDriver: boolean): string {
  const client = state.clients.get(workerId);
  if (isDriver || client?.isDriver)
    return `driver ${(client && state.jobs.get(client.jobId)?.entrypoint) || ''}`.trim();
  const purpose = state.workers.get(workerId)?.purpose;
  if (purpose?.kind === 'actor') return state.actors.get(purpose.actorId)?.className ?? 'actor';
  // Also when its lease has ended: it stays while others hold what its tasks made.
  return 'task';
}
