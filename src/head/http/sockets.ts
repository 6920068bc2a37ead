// The WebSockets: the page's live view, and the output of a job as it comes. The guard has passed already.
import { once } from 'node:events';
import type { WebSocket } from 'ws';
import type { JobId } from '../../common/index.js';
import type { Cluster } from '../cluster.js';
import { isEnded } from '../job-state.js';
import { snapshot } from './views.js';

/** The paths that may be upgraded. */
export const SOCKET_ROUTES: readonly { readonly path: string; readonly pattern: RegExp }[] = [
  { path: '/api/live', pattern: /^\/api\/live$/ },
  { path: '/api/jobs/:id/logs/tail', pattern: /^\/api\/jobs\/([^/]+)\/logs\/tail$/ },
];

/** Between two snapshots, at least. */
const SNAPSHOT_MS_MIN = 500;
/** Bytes that may wait for a slow reader before it is cut off. */
const QUEUED_BYTES_MAX = 32 * 1024 * 1024;
const POLICY_VIOLATION = 1008;
const TRY_AGAIN_LATER = 1013;

export function serveSocket(cluster: Cluster, ws: WebSocket, url: URL, headAddress: () => string): void {
  ws.on('error', () => ws.terminate());
  const tail = SOCKET_ROUTES[1]!.pattern.exec(url.pathname);
  if (!tail) serveLive(cluster, ws, headAddress);
  else {
    serveTail(cluster, ws, decodeURIComponent(tail[1]!) as JobId, Number(url.searchParams.get('offset') ?? 0)).catch(
      () => ws.terminate(),
    );
  }
}

/** Sends a snapshot at once and after changes, never faster than the reader reads. */
function serveLive(cluster: Cluster, ws: WebSocket, headAddress: () => string): void {
  let timer: NodeJS.Timeout | null = null;
  let isDue = false;
  const send = (): void => {
    isDue = false;
    timer = setTimeout(() => {
      timer = null;
      if (isDue) send();
    }, SNAPSHOT_MS_MIN);
    if (ws.bufferedAmount === 0) ws.send(JSON.stringify(snapshot(cluster, headAddress())));
    else isDue = true;
  };
  const stop = cluster.onChange(() => {
    if (timer === null) send();
    else isDue = true;
  });
  ws.on('close', () => {
    stop();
    if (timer !== null) clearTimeout(timer);
  });
  send();
}

/** Sends the bytes of the log from `offset` on as binary frames, and closes with the job's status when it ended. */
async function serveTail(cluster: Cluster, ws: WebSocket, jobId: JobId, offset: number): Promise<void> {
  const job = cluster.state.jobs.get(jobId);
  if (!job || !Number.isSafeInteger(offset) || offset < 0) {
    ws.close(POLICY_VIOLATION, job ? 'offset must be a number of bytes' : 'there is no such job');
    return;
  }
  // What comes while the file is read waits, so that nothing is sent twice or out of order.
  const waiting: (Uint8Array | null)[] = [];
  let isLive = false;
  const deliver = (chunk: Uint8Array | null): void => {
    if (chunk === null) ws.close(1000, job.status);
    else if (ws.bufferedAmount > QUEUED_BYTES_MAX)
      ws.close(TRY_AGAIN_LATER, 'the reader is too slow; ask again with an offset');
    else ws.send(chunk);
  };
  const end = cluster.logs.bytesOf(jobId);
  const stop = cluster.logs.follow(jobId, (chunk) => {
    if (isLive) deliver(chunk);
    else waiting.push(chunk);
  });
  ws.on('close', stop);
  for await (const part of cluster.logs.read(jobId, offset, end) ?? []) {
    if (ws.readyState !== ws.OPEN) return;
    ws.send(part as Buffer);
    if (ws.bufferedAmount > QUEUED_BYTES_MAX / 2) await drained(ws);
  }
  isLive = true;
  for (const chunk of waiting) deliver(chunk);
  if (isEnded(job) && waiting.at(-1) !== null) deliver(null);
}

async function drained(ws: WebSocket): Promise<void> {
  const closed = once(ws, 'close').then(() => {});
  const empty = new Promise<void>((resolve) => ws.ping('', false, () => resolve()));
  await Promise.race([closed, empty]);
}
