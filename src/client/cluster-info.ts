// What a process can ask about the cluster and itself.
import type { JobId, NodeId, Resources, WorkerId } from '../common/index.js';
import { currentCall } from './call-context.js';
import { currentRuntime } from './current.js';
import { isServing } from './node-states.js';

/** A node as the cluster sees it. Amounts of memory are in bytes. */
export interface NodeView {
  readonly nodeId: NodeId;
  readonly hostname: string;
  readonly host: string;
  readonly isAlive: boolean;
  /** It is to leave: nothing new is placed there. */
  readonly isDraining: boolean;
  readonly isHead: boolean;
  readonly resources: Resources;
  readonly available: Resources;
  readonly labels: Readonly<Record<string, string>>;
}

/** The nodes of the cluster. */
export async function nodes(): Promise<readonly NodeView[]> {
  const reply = await currentRuntime().head.request({ listNodes: {} });
  return (reply.nodes?.nodes ?? []).map((node) => ({
    nodeId: (node.nodeId ?? '') as NodeId,
    hostname: node.hostname ?? '',
    host: node.host ?? '',
    isAlive: isServing(node.state),
    isDraining: node.state === 'DRAINING',
    isHead: node.isHead ?? false,
    resources: { ...node.total?.amounts },
    available: { ...node.available?.amounts },
    labels: { ...node.labels },
  }));
}

/** The order that a node leave. */
export interface NodeDrain {
  readonly reason: 'idle-termination' | 'preemption';
  readonly message: string; // why, for people; or empty
  /** When what still runs there is ended (ms, by this machine's clock). Null: it has as long as it takes. */
  readonly deadlineAtMs: number | null;
}

/** The nodes that are to leave, as the head has told this process: asks nobody. */
export const drainingNodes = (): ReadonlyMap<NodeId, NodeDrain> => currentRuntime().draining;

/** What running code can know of where it is. */
export interface RuntimeContext {
  readonly workerId: WorkerId;
  readonly nodeId: NodeId;
  readonly jobId: JobId;
  readonly namespace: string;
  readonly isDriver: boolean;
  /** The address that peers on other machines can reach this machine at; empty in a cluster bound to one machine. */
  readonly host: string;
  /** Of the actor that runs here: its id, and which start of it this is (from 1). Null in drivers and tasks. */
  readonly actor: { readonly actorId: string; readonly incarnation: number } | null;
  /**
   * Aborted when the call that asks is cancelled, or its caller is gone. Null in drivers and constructors.
   */
  readonly signal: AbortSignal | null;
}

/** Where this code runs. */
export function runtimeContext(): RuntimeContext {
  const runtime = currentRuntime();
  const { workerId, nodeId, jobId, namespace, isDriver, attached, actor } = runtime;
  const signal = currentCall(runtime)?.signal ?? null;
  return { workerId, nodeId, jobId, namespace, isDriver, host: attached.host, actor, signal };
}

/** Whether what this process sends to other machines is encrypted; nothing leaves a cluster that is bound to one machine. */
export async function usesTls(): Promise<boolean> {
  const { attached, token } = currentRuntime();
  if (attached.host === '') return false;
  const { tlsOf } = await import('../protocol/tls/index.js'); // who stays on one machine loads none of it
  return tlsOf(attached.host, token) !== null;
}

/** Shows the progress of a training run on the page and in `raylite status`: one JSON object (observe/run.ts). */
export async function reportRun(runId: string, json: string): Promise<void> {
  await currentRuntime().head.request({ reportRun: { runId, json } });
}

/** A small value that the head keeps for all of the cluster; null when there is none. */
export async function kvGet(key: string): Promise<Uint8Array | null> {
  const reply = await currentRuntime().head.request({ kvGet: { key } });
  return reply.kvValue?.isFound ? new Uint8Array(reply.kvValue.value ?? []) : null;
}
/** Sets a value that the head keeps for all of the cluster; `overwrite: false` leaves one that is there. */
export async function kvPut(
  key: string,
  value: Uint8Array,
  options: { readonly overwrite?: boolean } = {},
): Promise<void> {
  await currentRuntime().head.request({ kvPut: { key, value, overwrite: options.overwrite ?? true } });
}
/** Removes such a value, if there is one. */
export async function kvDelete(key: string): Promise<void> {
  await currentRuntime().head.request({ kvDelete: { key } });
}
