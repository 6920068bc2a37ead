// The live connection to the head: one snapshot of everything whenever something changed. The types are what
// src/head/http/views.ts sends; the page is built apart from the rest and states what it reads.

export type Amounts = Readonly<Record<string, number>>;

export interface NodeView {
  readonly nodeId: string;
  readonly hostname: string;
  readonly host: string;
  readonly state: 'ALIVE' | 'DRAINING' | 'AWAY' | 'DEAD';
  readonly stateReason: string | null;
  readonly isHead: boolean;
  readonly total: Amounts;
  readonly used: Amounts;
  readonly labels: Readonly<Record<string, string>>;
  readonly beat: {
    readonly cpuPercent: number;
    readonly memoryUsedBytes: number;
    readonly memoryTotalBytes: number;
    readonly storeUsedBytes: number;
    readonly storeTotalBytes: number;
    readonly workerCount: number;
  } | null;
}

export interface ActorView {
  readonly actorId: string;
  readonly className: string;
  readonly name: string;
  readonly state: string;
  readonly jobId: string;
  readonly nodeId: string | null;
  readonly pid: number | null;
  readonly resources: Amounts;
  readonly restartCount: number;
  readonly reason: string | null;
}

export interface JobView {
  readonly type: 'SUBMISSION' | 'DRIVER';
  readonly job_id: string;
  readonly status: string;
  readonly entrypoint: string;
  readonly message: string;
  readonly start_time: number | null;
  readonly end_time: number | null;
  readonly submit_time: number;
  readonly log_bytes: number;
}

export interface RunView {
  readonly latest: {
    readonly runId: string;
    readonly name: string;
    readonly state: string;
    readonly step: number;
    readonly totalSteps: number;
    readonly loss?: number;
    readonly evalLoss?: number;
    readonly lossScale?: number;
    readonly skippedSteps?: number;
    readonly learningRate?: number;
    readonly tokensPerSecond?: number;
    readonly etaSeconds?: number;
    readonly memoryBytes?: number;
    readonly estimateBytes?: number;
    readonly workers?: number;
    readonly restarts?: number;
    readonly message?: string;
  };
  readonly startedAtMs: number;
  readonly updatedAtMs: number;
}

export interface RunPoint {
  readonly step: number;
  readonly loss: number | null;
  readonly evalLoss: number | null;
}

export interface Pending {
  readonly kind: string;
  readonly what: string;
  readonly reason: string;
}

export interface Snapshot {
  readonly cluster: {
    readonly clusterId: string;
    readonly version: string;
    readonly headAddress: string;
    readonly total: Amounts;
    readonly used: Amounts;
    readonly nodeCount: number;
    readonly pending: readonly Pending[];
  };
  readonly nodes: readonly NodeView[];
  readonly actors: readonly ActorView[];
  readonly jobs: readonly JobView[];
  readonly runs: readonly RunView[];
}

export type Connection = 'connecting' | 'live' | 'lost';

const RETRY_MS = 1000;

/** Keeps a connection for as long as the page is open; returns how to end it. */
export function connectLive(
  onSnapshot: (snapshot: Snapshot) => void,
  onConnection: (state: Connection) => void,
): () => void {
  let socket: WebSocket | null = null;
  let timer: number | undefined;
  let isEnded = false;
  const open = (): void => {
    socket = new WebSocket(`${location.origin.replace(/^http/, 'ws')}/api/live`);
    socket.onopen = () => onConnection('live');
    socket.onmessage = (event) => onSnapshot(JSON.parse(event.data as string) as Snapshot);
    socket.onclose = () => {
      if (isEnded) return;
      onConnection('lost');
      timer = window.setTimeout(open, RETRY_MS);
    };
  };
  open();
  return () => {
    isEnded = true;
    window.clearTimeout(timer);
    socket?.close();
  };
}

/** Asks the head; throws with its own words when it refuses. */
export async function ask<T>(path: string, method: 'GET' | 'POST' = 'GET'): Promise<T> {
  const response = await fetch(path, { method });
  const answer = (await response.json()) as T & { error?: string };
  if (!response.ok) throw new Error(answer.error ?? `the head answered ${response.status}`);
  return answer;
}
